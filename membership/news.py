"""The queue of news that rides on every packet, each item a bounded number of times (SWIM, section 4.1)."""

from __future__ import annotations

import math

from membership.messages import Entry, entry_bytes


class _Item:
    __slots__ = ("age", "entry", "sent", "size_bytes")

    def __init__(self, entry: Entry, age: int) -> None:
        self.entry = entry
        self.size_bytes = entry_bytes(entry)
        self.sent = 0
        self.age = age


class News:
    """At most one item a member: the newest statement about it replaces the one before."""

    def __init__(self, retransmit_mult: int) -> None:
        self._retransmit_mult = retransmit_mult
        self._items: dict[str, _Item] = {}
        self._added = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, entry: Entry) -> None:
        """Queue a statement."""
        self._added += 1
        self._items[entry.id] = _Item(entry, -self._added)

    def forget(self, node_id: str) -> None:
        """Drop what is queued about a node."""
        self._items.pop(node_id, None)

    def take(self, budget_bytes: int, present: int, first: list[Entry]) -> list[Entry]:
        """Return `first` and then the least sent news, newest first, within the budget."""
        limit = math.ceil(self._retransmit_mult * math.log10(present + 1))
        taken = list(first)
        budget_bytes -= sum(entry_bytes(entry) for entry in first)
        already = {entry.id for entry in first}
        for item in sorted(self._items.values(), key=lambda item: (item.sent, item.age)):
            if item.entry.id in already or item.size_bytes > budget_bytes:
                continue
            budget_bytes -= item.size_bytes
            taken.append(item.entry)
            item.sent += 1
            if item.sent >= limit:
                del self._items[item.entry.id]
            if len(taken) == 64:  # the most that a message may carry
                break
        return taken
