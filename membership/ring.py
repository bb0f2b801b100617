"""In which order members are probed: round-robin over a random order, so that none waits longer than two rounds."""

from __future__ import annotations

from membership.local import Local
from membership.swim import Record, Roster

_URGENT_MAX = 64
_NEW_MAX = 1024


class Ring:
    """A random order of all members, drawn as it is used; newcomers and urgent ones are slipped in."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._ids: tuple[str, ...] = ()
        self._left = 0
        self._moved: dict[int, int] = {}  # a Fisher-Yates shuffle that stores only what it moved
        self._urgent: list[str] = []
        self._new: list[str] = []

    def meet(self, node_id: str) -> None:
        """Give a newcomer a random place in the present round."""
        if len(self._new) < _NEW_MAX:
            self._new.append(node_id)

    def urge(self, node_id: str) -> None:
        """Let a member be the next."""
        if node_id not in self._urgent and len(self._urgent) < _URGENT_MAX:
            self._urgent.append(node_id)

    def next(self, roster: Roster) -> Record | None:
        """Return the next member to probe: each once a round, gone ones never."""
        for _ in range(2 * len(roster.ids)):
            record = roster.find(self._urgent.pop(0) if self._urgent else self._draw(roster))
            if record is not None and not record.gone and record.node_id != self._local.id:
                return record
        return None

    def _draw(self, roster: Roster) -> str:
        if self._left == 0:
            self._ids, self._moved, self._new = roster.ids, {}, []
            self._left = len(self._ids)
        chosen = self._local.random.randrange(self._left + len(self._new))
        if chosen >= self._left:
            return self._new.pop()
        self._left -= 1
        index = self._moved.get(chosen, chosen)
        self._moved[chosen] = self._moved.get(self._left, self._left)
        return self._ids[index]
