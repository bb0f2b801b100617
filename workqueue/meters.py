"""What a core measures of itself: how long commits and claims take, what happened how often, who diverged."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from workqueue.replication import Machine

WINDOW = 2048  # durations that quantiles are taken of
QUANTILES = (0.5, 0.9, 0.99)


class Latency:
    """Durations in seconds: all of them counted, quantiles of the newest."""

    def __init__(self) -> None:
        self.count = 0
        self.sum_s = 0.0
        self._newest: deque[float] = deque(maxlen=WINDOW)

    def observe(self, seconds: float, times: int = 1) -> None:
        """Enter a duration, `times` times."""
        self.count += times
        self.sum_s += seconds * times
        self._newest.extend([seconds] * min(times, WINDOW))

    def report(self) -> LatencyReport:
        """Return the numbers as they are now."""
        ordered = sorted(self._newest)
        last = len(ordered) - 1
        quantiles = {str(q): ordered[round(q * last)] for q in QUANTILES} if ordered else {}
        return LatencyReport(self.count, self.sum_s, quantiles)


class LatencyReport(msgspec.Struct, frozen=True):
    """What a Latency has seen; `quantiles_s` is empty before the first duration."""

    count: int = 0
    sum_s: float = 0.0
    quantiles_s: dict[str, float] = {}


class MetersReport(msgspec.Struct, frozen=True):
    """What a core says of itself, since its start."""

    commit: LatencyReport = LatencyReport()
    claim: LatencyReport = LatencyReport()
    events: dict[str, int] = {}  # by name


class Meters:
    """One a core."""

    def __init__(self, last_seq: int) -> None:
        self.commits = Latency()  # from the proposal to its outcome
        self.claims = Latency()  # as commits, of claims that were granted
        self.events: Counter[str] = Counter()
        self._seq = last_seq

    def look(self, machine: Machine) -> None:
        """Count the events since the last look."""
        if machine.last_seq != self._seq:
            self.events.update(event.name for event in machine.events_since(self._seq))
            self._seq = machine.last_seq

    def report(self) -> MetersReport:
        """Return the numbers as they are now."""
        return MetersReport(self.commits.report(), self.claims.report(), dict(self.events))
