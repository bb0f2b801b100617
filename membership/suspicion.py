"""How long a suspicion lasts before the suspect is buried (Lifeguard, section IV-B).

Nobody confirms: the longest timeout. Each further accuser shortens it, on a logarithmic scale, to the shortest.
"""

from __future__ import annotations

import math

from membership.settings import Timing


class Suspicion:
    """The running suspicion of one member."""

    def __init__(self, timing: Timing, present: int, started_ms: int, accuser: str) -> None:
        self.accusers = {accuser}
        self.started_ms = started_ms
        self.not_before_ms = 0  # set when the suspect answered a challenge or when we slept
        others = max(0, present - 2)  # neither the suspect nor the first accuser
        self._needed = min(timing.confirmations, others)
        self._shortest_ms = shortest_ms(timing, present)
        self._longest_ms = self._shortest_ms * (timing.suspicion_max_mult if self._needed else 1)

    @property
    def deadline_ms(self) -> int:
        """The moment of the burial, unless the suspect refutes."""
        confirmations = min(len(self.accusers) - 1, self._needed)
        timeout_ms = self._longest_ms
        if self._needed:
            span_ms = self._longest_ms - self._shortest_ms
            timeout_ms -= round(span_ms * math.log(confirmations + 1) / math.log(self._needed + 1))
        return max(self.started_ms + timeout_ms, self.not_before_ms)

    def confirm(self, accuser: str) -> bool:
        """Add an accuser; return whether that was news that helps to shorten the timeout."""
        if accuser in self.accusers or len(self.accusers) > self._needed:
            return False
        self.accusers.add(accuser)
        return True


def shortest_ms(timing: Timing, present: int) -> int:
    """Return the timeout of a fully confirmed suspicion in a group of this size.

    It grows with log10 of the size, as news needs longer. The floor of 1.5 keeps small groups patient with a member
    that pauses for two seconds.
    """
    return round(timing.suspicion_mult * max(1.5, math.log10(max(1, present))) * timing.period_ms)
