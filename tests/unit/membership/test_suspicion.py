"""How long suspicions last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from membership.settings import Timing
from membership.suspicion import Suspicion, shortest_ms


def test_each_confirmation_shortens_a_suspicion_down_to_the_minimum() -> None:
    """Lifeguard's logarithmic scale from the longest to the shortest timeout."""
    timing = Timing()
    suspicion = Suspicion(timing, present=32, started_ms=1000, accuser="a")
    deadlines = [suspicion.deadline_ms]
    for accuser in ("b", "c"):
        assert suspicion.confirm(accuser)
        deadlines.append(suspicion.deadline_ms)
    shortest = shortest_ms(timing, 32)
    assert deadlines[0] == 1000 + 6 * shortest
    assert deadlines[2] == 1000 + shortest
    assert deadlines[0] > deadlines[1] > deadlines[2]


def test_the_same_accuser_confirms_nothing_twice() -> None:
    """One observer, however often it is heard, is one observer."""
    suspicion = Suspicion(Timing(), present=32, started_ms=0, accuser="a")
    assert not suspicion.confirm("a")
    assert suspicion.confirm("b")
    assert not suspicion.confirm("b")


def test_two_members_alone_need_no_confirmation() -> None:
    """Where no third member exists, the shortest timeout holds."""
    timing = Timing()
    assert Suspicion(timing, present=2, started_ms=0, accuser="a").deadline_ms == shortest_ms(timing, 2)


def test_a_two_second_pause_is_shorter_than_any_suspicion() -> None:
    """A process stopped for two seconds always has time to refute."""
    assert all(shortest_ms(Timing(), present) > 2000 for present in (2, 5, 32, 1000))


@given(st.integers(2, 20_000), st.lists(st.sampled_from("abcdefg"), max_size=10), st.integers(0, 1 << 40))
def test_a_deadline_never_falls_outside_its_bounds(present: int, accusers: list[str], started_ms: int) -> None:
    """Whoever confirms, the deadline stays between the shortest and the longest timeout and never moves later."""
    timing = Timing()
    suspicion = Suspicion(timing, present, started_ms, "first")
    deadline_ms = suspicion.deadline_ms
    for accuser in accusers:
        suspicion.confirm(accuser)
        assert suspicion.deadline_ms <= deadline_ms
        deadline_ms = suspicion.deadline_ms
    assert started_ms + shortest_ms(timing, present) <= deadline_ms
    assert deadline_ms <= started_ms + 6 * shortest_ms(timing, present)
