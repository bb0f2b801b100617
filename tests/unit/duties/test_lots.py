"""Which results are checked: those that decide, the first of every worker, and a share that nobody can foresee."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from workqueue.duties.lots import Lots
from workqueue.machine.views import Event


def story(worker: str, jobs: int, kind: str = "selfplay", start: int = 0) -> Iterator[Event]:
    for k in range(start, start + jobs):
        name, at_ms = f"{kind}-{worker}-{k}", 1_000_000 + 7 * k
        yield Event(2 * k + 1, at_ms, "job.claimed", name, "", {"kind": kind, "worker": worker})
        yield Event(2 * k + 2, at_ms + 5, "job.completed", name, "", {"kind": kind})


def test_the_first_of_every_worker_and_kind_and_all_that_decides() -> None:
    """Whatever the share; nothing else without one."""
    lots = Lots()
    events = [*story("a", 50), *story("b", 50), *story("a", 3, "tournament"), *story("a", 5, "gauntlet")]
    drawn = lots.draw(events, 0)
    assert Counter(each.kind for each in drawn) == {"selfplay": 2, "tournament": 1, "gauntlet": 5}
    assert {each.makers for each in drawn} == {("a",), ("b",)}
    assert lots.draw(story("a", 50, start=60), 0) == []


def test_the_share_is_kept_however_many_complete_between_two_looks() -> None:
    """Five per cent of 4,000, drawn alike by a leader that begins anew, and not alike at other times."""
    events = list(story("a", 4000))
    drawn = Lots().draw(events, 50)
    assert 150 < len(drawn) < 260
    again = Lots()
    pieces = [again.draw(events[k : k + 13], 50) for k in range(0, len(events), 13)]
    assert [each for piece in pieces for each in piece] == drawn
    later = [Event(e.seq, e.at_ms + 1, e.name, e.subject, "", e.detail) for e in events]
    assert len({each.job for each in Lots().draw(later, 50)} & {each.job for each in drawn}) < 40


def test_all_who_had_a_part_in_a_job_are_named() -> None:
    """An attempt by another worker may have left shards behind."""
    claims = [Event(k, k, "job.claimed", "j", "", {"kind": "selfplay", "worker": who}) for k, who in enumerate("ab", 1)]
    [drawn] = Lots().draw([*claims, Event(3, 3, "job.completed", "j", "", {"kind": "selfplay"})], 0)
    assert drawn.makers == ("a", "b")


def test_jobs_that_never_end_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were claimed longest ago: the others' makers stay known."""
    monkeypatch.setattr("workqueue.duties.lots.CLAIMED_MAX", 10)
    lots = Lots()
    events = list(story("a", 100))
    lots.draw(events[::2], 0)
    assert len(lots._claimed) == 10
    assert [each.makers for each in lots.draw(events[-1:], 0)] == [("a",)]
