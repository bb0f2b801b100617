"""The one source of time of a replica, so that a simulation may own it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...

    def wall_ms(self) -> int:
        """Return milliseconds since 1970, which may jump."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return milliseconds since 1970, which may jump."""
        return time.time_ns() // 1_000_000
