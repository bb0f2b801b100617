"""The soak's checks find what is wrong in logs, and accept what the machine wrote."""

from __future__ import annotations

import copy

import msgspec
import pytest

from benchmarks import soak
from tests.unit.duties.test_plan import SETTINGS, World, until_champion
from tests.unit.machine.driver import CONFIG
from workqueue.machine.views import AliasStep, Event, Match


@pytest.fixture(scope="module")
def logs() -> tuple[list[AliasStep], dict[str, Match], World]:
    """A first champion and a stronger one, and the matches of both promotions."""
    world = World()
    first = until_champion(world)
    world.strength = {first: 0.3, "model2": 0.7}
    while world.view().champion == first:
        world.step()
    ledger = world.driver.machine.ledger
    return ledger.state.aliases[f"champion/{CONFIG}"], {match.id: match for match in ledger.matches}, world


def fault(logs: tuple[list[AliasStep], dict[str, Match], World], place: int, matches: dict[str, Match]) -> str:
    steps = logs[0]
    return soak.check_promotion(steps[place], steps[place - 1].sha256 if place else "", matches, SETTINGS)


def test_evidence_follows_from_the_log_and_from_no_other(logs: tuple[list[AliasStep], dict[str, Match], World]) -> None:
    """Both promotions hold; a turned result, a missing match, or another champion of the time do not."""
    steps, matches, _ = logs
    assert [step.evidence.rule for step in steps] == ["bootstrap", "sprt"]
    assert [fault(logs, place, matches) for place in range(2)] == ["", ""]
    for place, step in enumerate(steps):
        for name in (step.evidence.match_ids[0], step.evidence.match_ids[-1]):
            turned = copy.deepcopy(matches)
            turned[name].ranks = turned[name].ranks[::-1]
            assert fault(logs, place, turned)
            assert "not in the log" in fault(logs, place, {k: v for k, v in matches.items() if k != name})
    assert "another than the champion" in soak.check_promotion(steps[1], "somebody", matches, SETTINGS)
    better = msgspec.structs.replace(steps[1].evidence, llr_milli=9_999)
    claimed = AliasStep(steps[1].sha256, 1, "", better)
    assert "the test says" in soak.check_promotion(claimed, steps[0].sha256, matches, SETTINGS)


def test_ratings_that_differ_from_the_log_are_found(logs: tuple[list[AliasStep], dict[str, Match], World]) -> None:
    """One point is enough."""
    _, matches, world = logs
    told = msgspec.to_builtins(world.driver.machine.query("elo", {}))
    assert soak.check_ratings(list(matches.values()), told) == []
    told[CONFIG][0]["elo_milli"] += 1000
    assert soak.check_ratings(list(matches.values()), told)


def events(*names: str) -> list[Event]:
    return [
        Event(k + 1, k, name, "job-1", "", {"job": "job-1"} if name == "data.added" else {})
        for k, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("names", "jobs", "words"),
    [
        (("job.claimed", "data.added", "job.completed"), ["completed"], ""),
        (("job.claimed", "job.completed", "job.completed"), ["completed"], "completed twice"),
        (("job.claimed", "data.added", "data.added"), ["completed"], "brought data.added 2 times"),
        (("job.claimed",), [], "are gone"),
        (("job.claimed",), ["failed"], "jobs failed"),
        ((), ["completed"], "missing"),
    ],
)
def test_lost_and_doubled_jobs_are_found(names: tuple[str, ...], jobs: list[str], words: str) -> None:
    """Each fault has its sentence."""
    rows = [{"id": "job-1", "state": state, "kind": "selfplay"} for state in jobs]
    found = soak.check_jobs(events(*names), rows)
    assert (words in found[0]) if words else found == []


def test_a_gap_in_the_events_is_found() -> None:
    """Nothing may be proved by events that are not there."""
    [first, *_, last] = events("job.claimed", "data.added", "job.completed")
    rows = [{"id": "job-1", "state": "completed", "kind": "selfplay"}]
    assert "events are missing" in soak.check_jobs([first, last], rows)[0]
