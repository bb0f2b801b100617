"""Parked claims: whom a sweep tries, in which order, and when."""

from __future__ import annotations

from workqueue.parking import Parked


def parked(count: int) -> Parked[str]:
    line: Parked[str] = Parked()
    line.sweep(1)
    for number in range(count):
        line.park(100.0, f"claim-{number}", seen_version=1)
    return line


def names(swept: list[tuple[float, str]]) -> list[str]:
    return [claim for _, claim in swept]


def test_nothing_new_wakes_nobody() -> None:
    """Claims that have seen the newest version are left alone."""
    assert parked(3).sweep(1) == []


def test_one_new_job_wakes_the_one_that_waited_longest() -> None:
    """A sweep is as wide as the version has grown."""
    line = parked(3)
    assert names(line.sweep(2)) == ["claim-0"]
    assert names(line.sweep(2)) == ["claim-1"]


def test_a_claim_tried_in_vain_goes_to_the_end() -> None:
    """So that a job that fits only a worker further back reaches it, whatever arrives meanwhile."""
    line = parked(3)
    first = names(line.sweep(2))
    line.park(100.0, first[0], seen_version=2)
    assert names(line.sweep(3)) == ["claim-1"]


def test_everyone_is_tried_once_for_a_version() -> None:
    """Fruitless sweeps widen and slow down until each claim has seen the version; then there is silence."""
    line = parked(50)
    tried, pauses = [], []
    while swept := names(line.sweep(2)):
        tried += swept
        for claim in swept:
            line.park(100.0, claim, seen_version=2)
        pauses.append(line.swept(fruitful=False))
    assert sorted(tried) == sorted(f"claim-{number}" for number in range(50))
    assert pauses == sorted(pauses)
    assert len(pauses) <= 5
    assert sum(pauses) < 0.5


def test_fruitful_sweeps_do_not_wait() -> None:
    """While claims are granted there may be more jobs than the version told."""
    line = parked(10)
    line.sweep(2)
    assert line.swept(fruitful=True) == 0.0
    assert len(line.sweep(2)) == 3


def test_a_claim_that_saw_an_older_version_is_tried_again() -> None:
    """A job that appeared while the claim was on its way through the log is not missed."""
    line: Parked[str] = Parked()
    line.sweep(5)
    line.park(100.0, "late", seen_version=4)
    assert names(line.sweep(5)) == ["late"]


def test_riders_are_those_that_waited_longest() -> None:
    """Untried ones first; a rider that comes back empty is parked again like any other."""
    line = parked(3)
    late = line.park(100.0, "late", seen_version=0)
    assert line.riders(2) == ["late", "claim-0"]
    assert line.drop(late) is None
    assert line.riders(9) == ["claim-1", "claim-2"]
    assert line.riders(1) == []


def test_claims_end_by_time_by_leaving_and_all_at_once() -> None:
    """A claim is taken out exactly once, whichever end comes first."""
    line = parked(2)
    ticket = line.park(1.0, "short", seen_version=1)
    gone = line.park(100.0, "gone", seen_version=1)
    assert line.drop(gone) == "gone"
    assert line.drop(gone) is None
    assert line.expired(2.0) == ["short"]
    assert line.drop(ticket) is None
    assert sorted(line.clear()) == ["claim-0", "claim-1"]
    assert len(line) == 0
