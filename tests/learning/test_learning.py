"""A net that learns from nothing by its own games: to beat random in a minute, from generation to generation in ten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.learning_play import Result, Score, one_thread, rate, ratings, steps
from benchmarks.learning_run import Plan, Run, run
from engine.nets.net import Net, parse_size
from engine.nets.store import Manifest, save
from engine.players.player import PlayerConfig, make
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec
from engine.selfplay import play as play_games
from engine.tournament.play import MatchSpec, points
from engine.tournament.play import play as play_match
from engine.training.train import TrainSpec, train

SIMULATIONS = 8  # so few that search alone finds little


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    one_thread()


def untrained(folder: Path, size: str) -> Path:
    """Weights that know nothing."""
    folder.mkdir()
    torch.manual_seed(1)
    path, _ = save(Net(geometry("square8", 2), *parse_size(size)), Manifest("square8", 2, size), folder)
    return path


def against_random(weights: Path, games: int) -> Score:
    """A net with few simulations against random."""
    where = geometry("square8", 2)
    players = [make(PlayerConfig("gumbel", SIMULATIONS), where, weights), make(PlayerConfig("random"), where)]
    played = play_match(MatchSpec(board="square8", players=2, games=games, seed=11), players, ["net", "random"])
    return Score("random", *points(played, 0))


@pytest.mark.timeout(300)
def test_a_minute_from_nothing_beats_random(tmp_path: Path) -> None:
    """A small net with random weights, then two generations of 150 own games: random wins less and less."""
    weights = untrained(tmp_path / "g0", "16x2")
    scores, shards = [against_random(weights, 60)], list[Path]()
    for number in (1, 2):
        spec = SelfplaySpec(
            board="square8", players=2, player=PlayerConfig("gumbel", 16), player_key="x", games=150, seed=number,
            full_share=0.5, batch_games=150,
        )  # fmt: skip
        play_games(spec, tmp_path, weights=weights, on_shard=lambda path, _: shards.append(path))
        learning = TrainSpec(
            board="square8", players=2, steps=120, seed=1, size="16x2", batch_size=128, learning_rate=4e-3
        )
        out = tmp_path / f"g{number}"
        out.mkdir()
        weights = Path(train(learning, shards, out, parent=weights).path)
        scores.append(against_random(weights, 60))
    first, second, third = scores
    assert second.low > first.high, list(map(str, scores))
    assert third.low > 0.6, list(map(str, scores))


def test_generations_are_rated_together() -> None:
    """One scale for all who met, random at 0, a step between generations with its interval."""
    results = [
        Result(("g0", "random"), (1, 2), 60), Result(("g0", "random"), (2, 1), 40),
        Result(("g1", "g0"), (1, 2), 75), Result(("g0", "g1"), (1, 2), 25),
    ]  # fmt: skip
    fitted = rate("square8-2p", results)
    elo = ratings(fitted)
    assert elo["random"]["elo"] == 0
    assert elo["g0"]["elo"] == pytest.approx(70, abs=5)  # 400 log10(60 / 40), the prior pulls a little
    (step,) = steps(fitted, ["g0", "g1"])
    assert step["elo"] == pytest.approx(191, abs=8)  # 400 log10(75 / 25)
    assert 0 < step["low"] < step["elo"] < step["high"]


@pytest.mark.learning
@pytest.mark.timeout(1800)
def test_strength_rises_from_nothing(tmp_path: Path) -> None:
    """Random weights, then three generations of own games: strength rises, random loses nearly always.

    So few games do not show every single step.
    """
    plan = Plan(
        generations=3, games=700, steps=300, match_games=200, match_simulations=SIMULATIONS, final_games=200, threads=2
    )
    found = run(plan, tmp_path)
    fitted = rate(plan.config, [Result(**each) for each in found["results"]])
    for later, earlier in (("g1", "g0"), ("g3", "g1")):
        ahead, error = fitted.difference(later, earlier)
        assert ahead > 1.96 * error, (later, earlier, found["steps"])
    by_random = [each["scores"][0] for each in found["generations"]]
    assert by_random[1]["low"] > by_random[0]["high"], by_random
    assert found["final"][0]["low"] >= 0.85, found["final"]


@pytest.mark.learning
@pytest.mark.timeout(600)
def test_a_run_that_was_cut_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut between games and training: the second session keeps the games and ends like a run without a cut."""
    plan = Plan(
        generations=1, games=16, steps=4, size="16x2", match_games=8, match_simulations=2, simulations=4,
        simulations_fast=2, final_games=0, threads=1,
    )  # fmt: skip
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    expected = run(plan, whole)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train", _cut)
        with pytest.raises(InterruptedError):
            run(plan, cut)
    found = run(plan, cut)
    models = [[each["model"] for each in every["generations"]] for every in (expected, found)]
    assert models[0] == models[1]
    assert found["results"] == expected["results"]
    assert [len(expected["sessions"]), len(found["sessions"])] == [1, 2]
    kept = json.loads((cut / "run.json").read_text())["played"][1]["seconds"]
    assert found["minutes"] * 60 > kept > 0


def _cut(*_: object, **__: object) -> None:
    raise InterruptedError
