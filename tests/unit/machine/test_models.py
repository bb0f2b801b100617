"""Models and aliases: compare-and-set, guarded promotion, history, rollback, lineage."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o

CHAMPION = f"champion/{CONFIG}"
BY_HAND = c.Evidence("manual", note="seen to play well")


@pytest.fixture
def league(driver: Driver) -> Driver:
    """Three models, two games of the first in the log, and the first as champion."""
    for model in ("m1", "m2", "m3"):
        driver.train(f"train {model}", model, parent={"m2": "m1", "m3": "m2"}.get(model, ""))
    driver.tournament("cup", [("g1", (1, 2)), ("g2", (2, 1))], model="m2")
    assert isinstance(driver.do(c.SetAlias(CHAMPION, "m1", "", BY_HAND)), o.AliasSet)
    return driver


def sprt(**changes: Any) -> c.Evidence:
    """Evidence for m2 that holds, with changes."""
    sound = {
        "champion": "m1", "match_ids": (f"{CONFIG}/g1", f"{CONFIG}/g2"), "games": 100, "wins": 60, "draws": 10,
        "losses": 30, "llr_milli": 2950, "bound_milli": 2944, "floors": {"random": (990, 50, 850)},
    }  # fmt: skip
    return c.Evidence("sprt", **{**sound, **changes})


def status(driver: Driver, model: str) -> str:
    return str(driver.view("model", sha256=model).model.status)


def test_a_training_registers_its_model_as_candidate(driver: Driver) -> None:
    """The model knows its job, worker, parents and manifest, and the candidate alias points at it."""
    driver.train("t1", "m1")
    driver.train("t2", "m2", parent="m1")
    shown = driver.view("model", sha256="m2")
    assert (shown.model.job, shown.model.worker, shown.model.parents) == ("t2", "w1", ("m1",))
    assert (shown.model.status, shown.manifest) == ("candidate", {"arch": "32x4"})
    steps = driver.view("aliases")[f"candidate/{CONFIG}"]
    assert [(step.sha256, step.evidence.rule) for step in steps] == [("m1", "trained"), ("m2", "trained")]


def test_a_model_by_hand_needs_its_weights(driver: Driver) -> None:
    """What is not stored cannot be registered; twice is once."""
    command = c.RegisterModel("m1", CONFIG, raw({"by": "hand"}), ("p",))
    assert driver.do(command).code is o.Code.ARTIFACT_MISSING
    driver.store("m1", kind="weights")
    assert driver.do(command) == o.Changed(("m1",))
    assert driver.do(c.RegisterModel("m1", "hex8_2p", raw({}))) == o.Changed(("m1",))
    assert driver.view("model", sha256="m1").model.config == CONFIG
    assert driver.do(c.RegisterModel("m1", "square8", raw({}))).code is o.Code.INVALID


def test_an_alias_moves_only_from_where_it_is_expected(league: Driver) -> None:
    """Of two that test against the same champion the second is refused and told what it is now."""
    assert league.do(c.SetAlias(CHAMPION, "m2", "m1", sprt())) == o.AliasSet(CHAMPION, "m2", "m1")
    refused = league.do(c.SetAlias(CHAMPION, "m3", "m1", sprt()))
    assert (refused.code, refused.current) == (o.Code.CONFLICT, "m2")
    again = league.do(c.SetAlias(CHAMPION, "m2", "m2", BY_HAND))
    assert again.code is o.Code.CONFLICT
    assert [status(league, model) for model in ("m1", "m2", "m3")] == ["retired", "champion", "candidate"]


@pytest.mark.parametrize(
    ("evidence", "words"),
    [
        (sprt(champion="m3"), "tested against m3"),
        (sprt(champion=""), "the champion is m1"),
        (sprt(games=99), "do not add up"),
        (sprt(games=0, wins=0, draws=0, losses=0), "do not add up"),
        (sprt(llr_milli=2943), "did not reach its bound"),
        (sprt(bound_milli=0), "did not reach its bound"),
        (sprt(match_ids=()), "matches that are not in the log"),
        (sprt(match_ids=(f"{CONFIG}/g1", f"{CONFIG}/nine")), "matches that are not in the log"),
        (sprt(match_ids=(f"{CONFIG}/g1",) * 2), "or one twice"),
        (sprt(floors={"random": (849, 50, 850)}), "below the floor against random"),
        (sprt(floors={"random": (1000, 0, 850)}), "below the floor against random"),
        (c.Evidence("manual"), "needs a note"),
        (c.Evidence("feeling", note="strong"), "there is no rule 'feeling'"),
        (c.Evidence("bootstrap", floors={"random": (990, 50, 1)}, match_ids=(f"{CONFIG}/g1",)), "without a champion"),
    ],
)
def test_a_promotion_without_sound_evidence_is_refused(league: Driver, evidence: c.Evidence, words: str) -> None:
    """The champion stays, and the sentence says what is missing."""
    refused = league.do(c.SetAlias(CHAMPION, "m2", "m1", evidence))
    assert (refused.code, words in refused.message) == (o.Code.INVALID, True), refused
    assert league.view("aliases")[CHAMPION][-1].sha256 == "m1"
    assert status(league, "m2") == "candidate"


def test_evidence_of_another_config_does_not_count(league: Driver) -> None:
    """Neither matches nor models cross configs."""
    league.store("big", kind="weights", config="hex8_2p")
    league.do(c.RegisterModel("big", "hex8_2p", raw({})))
    assert league.do(c.SetAlias(CHAMPION, "big", "m1", BY_HAND)).code is o.Code.INVALID
    refused = league.do(c.SetAlias("champion/hex8_2p", "big", "", sprt(champion="")))
    assert "matches of another config" in refused.message
    assert league.do(c.SetAlias(CHAMPION, "nobody", "m1", BY_HAND)).code is o.Code.NOT_FOUND


def test_evidence_from_revoked_matches_is_refused(league: Driver) -> None:
    """A worker's matches that were excluded promote nobody."""
    league.do(c.Revoke(worker="w1", reason="wrong results"))
    refused = league.do(c.SetAlias(CHAMPION, "m2", "m1", sprt()))
    assert "revoked" in refused.message


def test_bootstrap_makes_the_first_champion_only(driver: Driver) -> None:
    """With floors against baselines, while a config has no champion."""
    driver.train("t", "m1")
    driver.tournament("cup", [("g1", (2, 1))], model="m1")
    bare = c.Evidence("bootstrap", match_ids=(f"{CONFIG}/g1",))
    assert "needs floors" in driver.do(c.SetAlias(CHAMPION, "m1", "", bare)).message
    sound = c.Evidence("bootstrap", match_ids=(f"{CONFIG}/g1",), floors={"random": (900, 20, 750)})
    assert driver.do(c.SetAlias(CHAMPION, "m1", "", sound)) == o.AliasSet(CHAMPION, "m1", "")
    assert driver.view("model", sha256="m1").evidence == sound


def test_a_rejected_model_returns_by_hand_only(league: Driver) -> None:
    """The evidence of its rejection stays with it; the champion cannot be rejected."""
    assert league.do(c.RejectModel("m2", sprt(llr_milli=-2950), "weaker")) == o.Changed(("m2",))
    assert (status(league, "m2"), league.view("model", sha256="m2").model.reason) == ("rejected", "weaker")
    refused = league.do(c.SetAlias(CHAMPION, "m2", "m1", sprt()))
    assert (refused.code, "weaker" in refused.message) == (o.Code.CONFLICT, True)
    assert league.do(c.RejectModel("m1", sprt(), "x")).code is o.Code.CONFLICT
    assert league.do(c.RejectModel("nobody", sprt(), "x")).code is o.Code.NOT_FOUND
    assert isinstance(league.do(c.SetAlias(CHAMPION, "m2", "m1", BY_HAND)), o.AliasSet)


def test_rollback_is_one_command_and_keeps_the_history(league: Driver) -> None:
    """Back to the last sound champion, by compare-and-set; what was rolled back is rejected and stays so."""
    for model, before in (("m2", "m1"), ("m3", "m2")):
        league.do(c.SetAlias(CHAMPION, model, before, BY_HAND))
    why = c.Evidence("regression", note="lost 50 Elo")
    assert league.do(c.Rollback(CHAMPION, "m2", why, "late word")).code is o.Code.CONFLICT
    assert league.do(c.Rollback(CHAMPION, "m3", why, "weaker")) == o.AliasSet(CHAMPION, "m2", "m3")
    assert [status(league, model) for model in ("m1", "m2", "m3")] == ["retired", "champion", "rejected"]
    assert league.do(c.Rollback(CHAMPION, "m2", why, "weaker too")) == o.AliasSet(CHAMPION, "m1", "m2")
    refused = league.do(c.Rollback(CHAMPION, "m1", why, "and now?"))
    assert refused.code is o.Code.NOT_FOUND
    steps = league.view("aliases")[CHAMPION]
    assert [step.sha256 for step in steps] == ["m1", "m2", "m3", "m2", "m1"]
    assert [step.evidence.rule for step in steps] == ["manual", "manual", "manual", "regression", "regression"]
    names = [event.name for event in league.machine.events_since(0)]
    assert names.count("model.rolled_back") == 2


def test_rolling_another_alias_back_leaves_the_champion_alone(league: Driver) -> None:
    """A candidate alias that points at the champion may go back; the champion stays what it is."""
    league.do(c.SetAlias(CHAMPION, "m3", "m1", BY_HAND))
    league.do(c.Rollback(f"candidate/{CONFIG}", "m3", c.Evidence("manual", note="x"), "look again"))
    assert league.view("aliases")[f"candidate/{CONFIG}"][-1].sha256 == "m2"
    assert (status(league, "m3"), league.view("aliases")[CHAMPION][-1].sha256) == ("champion", "m3")


def test_lineage_follows_parents(league: Driver) -> None:
    """Nearest first, each once, also for a parent that is not known here."""
    league.store("m4", kind="weights")
    league.do(c.RegisterModel("m4", CONFIG, raw({}), ("m3", "m1", "foreign")))
    shown = league.view("model", sha256="m4")
    assert shown.lineage == ("m3", "m1", "foreign", "m2")
    assert shown.history == {}
    assert list(league.view("model", sha256="m1").history) == [f"candidate/{CONFIG}", CHAMPION]


def test_models_are_found_by_prefix(league: Driver) -> None:
    """Six digits are enough when they name one model."""
    for name in ("abcdef01", "abcdef02"):
        league.store(name, kind="weights")
        league.do(c.RegisterModel(name, CONFIG, raw({})))
    assert league.view("model", sha256="abcdef01").model.sha256 == "abcdef01"
    assert "several models" in league.ask("model", sha256="abcdef").message
    assert league.ask("model", sha256="m").code is o.Code.NOT_FOUND


def test_nothing_an_alias_pointed_to_is_collected(league: Driver) -> None:
    """Weights of every model stay, also of a rejected one."""
    league.do(c.RejectModel("m2", sprt(), "weaker"))
    assert league.do(c.CollectArtifacts(("m1", "m2", "m3"))) == o.Changed()
