"""The leader's side of replication: what each follower has, what it is sent next, what a majority holds (Raft §5.3).

Two tables by voter, which the library fills anew with each leadership: `match`, the last entry proven to be in a
follower's log, and `following`, the next one to send, which runs ahead of proof and is taken back by refusals.
"""

from collections.abc import Callable, Sequence

from consensus import messages as m
from consensus.errors import InvariantBroken
from consensus.journal import Journal
from consensus.library import Voter, voter
from consensus.ports import Outbox

MAX_MESSAGE_BYTES = 1 << 20  # of entries in one Append
MAX_BACKLOG_BYTES = 4 << 20  # unsent bytes after which a follower is given no more
MAX_MESSAGES = 8  # to one follower at one time

Encoded = dict[int, tuple[bytes, int]]  # first index -> message, and the index behind it


class Followers:
    """The other voters as a leader sees them."""

    def __init__(
        self,
        peers: Sequence[str],
        journal: Journal,
        outbox: Outbox,
        feed: Callable[[str], None],
        following: dict[Voter, int],
        match: dict[Voter, int],
    ) -> None:
        self._peers = peers
        self._journal = journal
        self._outbox = outbox
        self._feed = feed  # a voter that lags behind the log
        self._following = following
        self._match = match
        self._others = (len(peers) + 1) // 2  # that make a majority, with the leader

    def send(self, peer: str, term: int, commit_index: int, encoded: Encoded) -> bool:
        """Send what a follower lacks as far as its link takes it; return whether there is more that could go soon.

        `encoded` serves the followers of one round: what several of them lack is encoded once.
        """
        backlog = self._outbox.backlog(peer)
        if backlog is None:
            return False
        node, following, journal = voter(peer), self._following, self._journal
        for sent in range(MAX_MESSAGES):
            start = following[node]
            if start <= journal.base_index:
                self._feed(peer)
                return False
            if sent and start > journal.last_index:
                return False
            if sent and backlog > MAX_BACKLOG_BYTES:
                return True
            if start not in encoded:
                entries = journal.slice(start, MAX_MESSAGE_BYTES)
                prev_term = journal.term_at(start - 1)
                if prev_term is None:
                    raise InvariantBroken(f"the leader's log has no entry {start - 1}")
                append = m.Append(term, commit_index, start - 1, prev_term, entries)
                encoded[start] = m.encode(append), start + len(entries)
            data, following[node] = encoded[start]
            self._outbox.send(peer, data)
            backlog += len(data)
        return bool(following[node] <= journal.last_index)

    def answered(self, peer: str, message: m.Appended) -> None:
        """Take a follower's answer to an Append of this leadership."""
        node, following, match = voter(peer), self._following, self._match
        if message.success:
            match[node] = max(match[node], message.next_index - 1)
            following[node] = max(following[node], message.next_index)
        else:  # never forward, and never behind what is proven
            following[node] = max(match[node] + 1, min(following[node], message.next_index), 1)

    def has(self, peer: str, index: int) -> None:
        """A follower has everything up to index, by a snapshot; what it proves is left to its next answer."""
        node = voter(peer)
        self._following[node] = max(self._following[node], index + 1)

    def held_by_majority(self) -> int:
        """Return the last index that a majority holds, counting the leader's own log."""
        if not self._peers:
            return self._journal.last_index
        match = self._match
        return sorted([match[voter(p)] for p in self._peers], reverse=True)[self._others - 1]

    def has_all(self, peer: str) -> bool:
        """Whether a follower has every entry."""
        return self._match.get(voter(peer), 0) == self._journal.last_index

    def best(self) -> str | None:
        """Return the linked follower that has most of the log."""
        linked = [p for p in self._peers if self._outbox.backlog(p) is not None]
        return max(linked, key=lambda p: (self._match.get(voter(p), 0), p), default=None)
