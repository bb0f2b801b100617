"""Claims that found nothing and wait in the leader's core until something may have become claimable.

Waking all of them for each new job would flood the log. A sweep tries the claims that were tried longest ago: first as
many as jobs may have appeared, at once more while they are granted, and after fruitless ones more at growing intervals,
because the job may fit a worker further back. A claim tried in vain goes to the end of the line.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")

_WIDER = 3
_PAUSE_S = 0.02
_PAUSE_GROWTH = 1.5


class Parked(Generic[T]):
    """Waiting claims, the longest untried first, and where the sweep over them stands."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, tuple[float, T]] = OrderedDict()
        self._tried: OrderedDict[int, tuple[float, T]] = OrderedDict()  # since the version that is swept
        self._next = 1
        self.version = 0  # newest that was swept
        self._width = 1
        self._pause_s = _PAUSE_S

    def __len__(self) -> int:
        return len(self._waiting) + len(self._tried)

    def park(self, deadline: float, claim: T, *, seen_version: int) -> int:
        """Add a claim that came back empty at `seen_version`; returns its ticket."""
        ticket, self._next = self._next, self._next + 1
        line = self._tried if seen_version >= self.version else self._waiting
        line[ticket] = (deadline, claim)
        return ticket

    def drop(self, ticket: int) -> T | None:
        """Forget a claim whose caller is gone."""
        found = self._waiting.pop(ticket, None) or self._tried.pop(ticket, None)
        return found[1] if found else None

    def sweep(self, version: int) -> list[tuple[float, T]]:
        """Take out the claims (with their deadlines) to try now; none when all have seen `version`."""
        if version > self.version:
            self._waiting.update(self._tried)
            self._tried.clear()
            self._width = version - self.version
            self.version, self._pause_s = version, _PAUSE_S
        return [self._waiting.popitem(last=False)[1] for _ in range(min(self._width, len(self._waiting)))]

    def riders(self, count: int) -> list[T]:
        """Take out up to `count` claims to travel in one log entry with jobs that are about to be added."""
        chosen: list[T] = []
        for line in (self._waiting, self._tried):
            while line and len(chosen) < count:
                chosen.append(line.popitem(last=False)[1][1])
        return chosen

    def swept(self, *, fruitful: bool) -> float:
        """Widen the next sweep; returns the seconds to wait before it."""
        self._width *= _WIDER
        if fruitful:
            return 0.0
        pause_s, self._pause_s = self._pause_s, self._pause_s * _PAUSE_GROWTH
        return pause_s

    def expired(self, now: float) -> list[T]:
        """Take out the claims that have waited long enough."""
        over: list[T] = []
        for line in (self._waiting, self._tried):
            tickets = [ticket for ticket, (deadline, _) in line.items() if deadline <= now]
            over.extend(line.pop(ticket)[1] for ticket in tickets)
        return over

    def clear(self) -> list[T]:
        """Take out all claims."""
        everyone = [claim for _, claim in (*self._waiting.values(), *self._tried.values())]
        self._waiting.clear()
        self._tried.clear()
        return everyone
