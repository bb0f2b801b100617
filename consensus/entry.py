"""A log entry: msgpack `[version, now_ms, [command, ...]]`, built around commands that are never parsed here.

The head has a fixed width (int 64 for the time, array 32 for the commands), so that group commit concatenates the
callers' bytes unread and the time is found without decoding.
"""

import struct
from collections.abc import Sequence

from consensus.clock import Clock

VERSION = 1
_HEAD = struct.Struct(">BBBqBI")  # array of 3 · version · int64 tag · now_ms · array32 tag · count
HEAD_BYTES = _HEAD.size
BEHIND_PACE = 0.5  # of time while the wall clock is behind the log
SLACK_MS = 1000  # how far a stamp may run ahead of the time elapsed since the first one


def encode_entry(now_ms: int, commands: Sequence[bytes]) -> bytes:
    """Return the entry that holds these msgpack values, stamped with now_ms."""
    return _HEAD.pack(0x93, VERSION, 0xD3, now_ms, 0xDD, len(commands)) + b"".join(commands)


def entry_head(entry: bytes) -> tuple[int, int]:
    """Return (now_ms, number of commands) of an entry; ValueError if it is not one."""
    if len(entry) < HEAD_BYTES:
        raise ValueError("an entry is shorter than its head")
    array, version, integer, now_ms, commands, count = _HEAD.unpack_from(entry)
    if (array, version, integer, commands) != (0x93, VERSION, 0xD3, 0xDD):
        raise ValueError("bytes are not an entry of a known version")
    return now_ms, count


class Stamp:
    """Times for entries: wall clock, never backwards, never ahead of the time since this voter's first stamp + 1 s.

    The first stamp is taken from the wall clock as it is: after an outage time must jump to now at once, or leases that
    are granted meanwhile would end early while stamps catch up. Where the wall clock is behind the log, because another
    voter's is ahead, time goes on at half its pace until the wall clock has caught up, so that leases end all the same.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last_ms = 0
        self._last_at = clock.monotonic()
        self._base: tuple[int, float] | None = None

    @property
    def last_ms(self) -> int:
        """The latest time seen, 0 if none."""
        return self._last_ms

    def seen(self, now_ms: int) -> None:
        """Take note of an entry's time, whoever stamped it."""
        if now_ms > self._last_ms:
            self._last_ms, self._last_at = now_ms, self._clock.monotonic()

    def now_ms(self) -> int:
        """Return the time that an entry made now would have."""
        wall, at = self._clock.wall_ms(), self._clock.monotonic()
        if self._base is None:
            return max(wall, self._last_ms)
        bound = self._base[0] + int((at - self._base[1]) * 1000) + SLACK_MS
        return max(min(wall, bound), self._last_ms + int((at - self._last_at) * 1000 * BEHIND_PACE))

    def next_ms(self) -> int:
        """Return the time for the next entry."""
        now = self.now_ms()
        if self._base is None:
            self._base = (now, self._clock.monotonic())
        self.seen(now)
        return self._last_ms
