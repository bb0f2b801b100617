"""Election timeouts as short as configured, and stretched for as long as the machines can't hold them.

What is observed is the longest silence of a leader that turned out to be alive (on the leader: of a majority). A
timeout is at least three times that. The observation halves every half-minute, so that one bad moment is forgotten;
one observation at most doubles the timeouts, because it may have been a cut that no timeout could have outlasted; and
the stretch is bounded, so that no load makes a dead leader go unnoticed for long.
"""

import math

HALF_LIFE_S = 30.0
MARGIN = 3.0
STEP_MAX = 2.0
STRETCH_MAX = 8.0


class RaftTimes:
    """Timeouts in seconds."""

    def __init__(self, election: tuple[float, float], heartbeat: float) -> None:
        self.election = election
        self.heartbeat = heartbeat


class Pace:
    """The timeouts of one voter, in seconds."""

    def __init__(self, election: tuple[float, float]) -> None:
        self._low, self._high = election
        self._worst = 0.0
        self._at = 0.0

    def silence(self, seconds: float, now: float) -> None:
        """Take note that a living leader, or a living majority, was silent for so long."""
        believed = min(seconds, self.stretch(now) * STEP_MAX * self._low / MARGIN)
        if believed >= self._decayed(now):
            self._worst, self._at = believed, now

    def stretch(self, now: float) -> float:
        """Return by what the configured timeouts are multiplied."""
        return min(STRETCH_MAX, max(1.0, MARGIN * self._decayed(now) / self._low))

    def low(self, now: float) -> float:
        """Return the silence after which a leader is doubted."""
        return self._low * self.stretch(now)

    def high(self, now: float) -> float:
        """Return the silence after which everyone has doubted it, and a leader that hears no majority gives up."""
        return self._high * self.stretch(now)

    def _decayed(self, now: float) -> float:
        return self._worst * math.exp2(min(0.0, self._at - now) / HALF_LIFE_S)
