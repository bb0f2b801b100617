"""Times in the log: they follow the wall clock, and go on whatever clocks do."""

from __future__ import annotations

from consensus.entry import SLACK_MS, Stamp


class Clocks:
    """Time as the test sets it."""

    def __init__(self) -> None:
        self.at = 100.0
        self.wall = 1_000_000

    def monotonic(self) -> float:
        return self.at

    def wall_ms(self) -> int:
        return self.wall

    def passes(self, seconds: float) -> None:
        self.at += seconds
        self.wall += int(seconds * 1000)


def test_stamps_follow_the_wall_clock() -> None:
    clocks = Clocks()
    stamp = Stamp(clocks)
    assert stamp.next_ms() == 1_000_000
    clocks.passes(2.5)
    assert stamp.now_ms() == 1_002_500
    assert stamp.last_ms == 1_000_000  # looking changes nothing
    assert stamp.next_ms() == 1_002_500


def test_a_clock_set_forward_gains_a_second_at_most() -> None:
    clocks = Clocks()
    stamp = Stamp(clocks)
    stamp.next_ms()
    clocks.wall += 3_600_000
    clocks.passes(1)
    assert stamp.next_ms() == 1_000_000 + 1000 + SLACK_MS


def test_time_goes_on_at_half_its_pace_while_the_wall_clock_is_behind_the_log() -> None:
    """Another voter led with a clock an hour ahead: leases of now must end all the same."""
    clocks = Clocks()
    stamp = Stamp(clocks)
    ahead = 1_000_000 + 3_600_000
    stamp.seen(ahead)
    assert stamp.next_ms() == ahead
    for _ in range(100):
        clocks.passes(0.1)
        stamp.next_ms()
    assert ahead + 4_500 <= stamp.last_ms <= ahead + 5_000
    clocks.passes(2 * 3600)
    assert stamp.next_ms() == clocks.wall


def test_stamps_never_go_back() -> None:
    clocks = Clocks()
    stamp = Stamp(clocks)
    stamp.next_ms()
    clocks.wall -= 86_400_000
    stamps = []
    for _ in range(50):
        clocks.passes(0.01)
        stamps.append(stamp.next_ms())
    assert stamps == sorted(stamps)
    assert stamps[-1] > stamps[0]
