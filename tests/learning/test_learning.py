"""A net that learns: in a minute from the heuristic's games, in ten by its own."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from benchmarks.learning import Plan, Run, Score, one_thread, run
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
def test_a_minute_of_the_heuristics_games_beats_random(tmp_path: Path) -> None:
    """A small net before and after: intervals apart."""
    before = against_random(untrained(tmp_path / "untrained", "16x2"), 100)
    spec = SelfplaySpec(
        board="square8", players=2, player=PlayerConfig("heuristic"), player_key="x", games=150, seed=1,
        opening_plies=8,
    )  # fmt: skip
    shards: list[Path] = []
    play_games(spec, tmp_path, on_shard=lambda path, _: shards.append(path))
    done = train(
        TrainSpec(board="square8", players=2, steps=120, seed=1, size="16x2", batch_size=128, learning_rate=3e-3),
        shards, tmp_path,
    )  # fmt: skip
    after = against_random(Path(done.path), 100)
    assert after.low > before.high, (str(before), str(after))


@pytest.mark.learning
@pytest.mark.timeout(1800)
def test_strength_rises_from_nothing(tmp_path: Path) -> None:
    """Untrained, after games of the heuristic, after own games: random loses more and more, at last nearly always."""
    plan = replace(
        Plan(), heuristic_games=800, heuristic_steps=500, generations=1, games=300, steps=200,
        match_simulations=SIMULATIONS, final_games=200,
    )  # fmt: skip
    folder = tmp_path / "run"
    folder.mkdir()
    with ProcessPoolExecutor(plan.threads, get_context("spawn"), initializer=one_thread) as pool:
        start = Run(plan, folder, pool).match(
            untrained(tmp_path / "untrained", plan.size), "random", None, 100, SIMULATIONS, 7
        )
    found = run(plan, folder)
    first, second = (each["scores"][0] for each in found["generations"])
    assert first["low"] > start.high, (str(start), first)
    assert second["low"] > start.high, (str(start), second)
    assert found["final"][0]["low"] >= 0.85, found["final"]
    assert found["elo"]["g1"] > found["elo"]["heuristic"] > 0, found["elo"]
