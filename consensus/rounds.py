"""Questions put to all voters at once, which a majority must answer: pre-votes and leadership checks.

Each round has a number of its own, so that an answer is never taken for another question's (defect 11), and counts each
voter once, however often the network repeats its answer. The asker is one of the majority.
"""

from consensus.ports import Confirmation


class PreVotes:
    """Whether a majority would vote for us; only the newest round counts."""

    def __init__(self, majority: int) -> None:
        self._round = 0
        self._majority = majority
        self._granted: set[str] = set()

    def begin(self) -> int:
        """Start a round and return its number; earlier rounds are forgotten."""
        self._round += 1
        self._granted = set()
        return self._round

    def is_open(self, number: int) -> bool:
        """Whether grants of this round still count."""
        return number == self._round

    def grant(self, node_id: str) -> bool:
        """Count a grant of the open round; a majority ends it, and True says so."""
        self._granted.add(node_id)
        if len(self._granted) + 1 < self._majority:
            return False
        self._round += 1
        return True


class LeadershipChecks:
    """Whether we still led when asked (Raft §6.4); many checks may be under way."""

    def __init__(self, majority: int) -> None:
        self._majority = majority
        self._round = 0
        self._open: dict[int, tuple[set[str], int, Confirmation]] = {}

    def begin(self, term: int, done: Confirmation) -> int:
        """Start a check in a term and return its number."""
        self._round += 1
        self._open[self._round] = (set(), term, done)
        return self._round

    def answer(self, node_id: str, number: int, term: int) -> None:
        """Count an answer to the leader of a term; a majority confirms the check if it was asked in the same one."""
        check = self._open.get(number)
        if check is None:
            return
        answered, asked_in, done = check
        answered.add(node_id)
        if len(answered) + 1 >= self._majority:
            del self._open[number]
            done(ok=asked_in == term)

    def fail(self) -> None:
        """End all checks: the leadership is lost."""
        checks, self._open = self._open, {}
        for _, _, done in checks.values():
            done(ok=False)
