"""The gate's decisions, each from views made by hand: who is tested, and when a champion has to go."""

from __future__ import annotations

import pytest

from config.loop import LoopSettings
from tests.unit.duties.rows import CONFIG, config_view
from workqueue.duties import gate, plan
from workqueue.duties.improve import previous
from workqueue.machine import commands as c
from workqueue.machine.views import AliasStep, CandidateView, Match

SETTINGS = LoopSettings()
VIEW = config_view(champion="now", champion_since_ms=5, promotions=2)


def lost(count: int) -> list[Match]:
    """Games since the promotion, all won by the champion before."""
    seats = plan.challenger("old", SETTINGS).key, plan.challenger("now", SETTINGS).key
    return [
        Match(f"m{k}", CONFIG, seats[:: 1 if k % 2 else -1], (1, 2)[:: 1 if k % 2 else -1], 9, "x", f"o{k // 2}",
              "ladder", "j", "w", 10)
        for k in range(count)
    ]  # fmt: skip


def test_only_the_newest_candidate_is_tested() -> None:
    """Those before it are rejected with the reason; it is measured."""
    view = config_view(candidates=tuple(CandidateView(name, 1, ()) for name in ("a" * 64, "b" * 64, "c" * 64)))
    first, second, test = (decision.command for decision in gate.candidates(view, SETTINGS, {}, 1))
    for rejected, name in ((first, "a"), (second, "b")):
        assert isinstance(rejected, c.RejectModel)
        assert (rejected.sha256, rejected.evidence.rule) == (name * 64, "superseded")
        assert "superseded" in rejected.reason
    assert isinstance(test, c.Enqueue)
    assert [spec.id for spec in test.jobs] == [gate.gauntlet_id("c" * 64, 0)]


def test_a_champion_goes_after_enough_games_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """However clear they are."""
    for needed, goes in ((60, True), (61, False)):
        monkeypatch.setattr(gate, "REGRESSION_GAMES_MIN", needed)
        assert bool(gate.regression(VIEW, SETTINGS, "old", lost(60))) == goes


def test_who_was_brought_back_is_not_measured_against_whom_it_replaced() -> None:
    """After a promotion the champion before is known; after a rollback there is none."""
    promoted, rolled_back = (c.Evidence(rule) for rule in ("sprt", "rollback"))
    steps = [AliasStep("old", 1, "a", promoted), AliasStep("now", 2, "a", promoted)]
    assert previous(steps, "now") == "old"
    assert previous([*steps, AliasStep("old", 3, "a", rolled_back)], "old") == ""
    assert gate.regression(VIEW, SETTINGS, "", lost(60)) == []
