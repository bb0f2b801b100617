"""Recorded games are played again from their seeds: honest ones agree, other players' do not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engine.data.shards import Shard, load_shard
from engine.nets.net import Net
from engine.nets.store import Manifest, dump
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec, play
from engine.selfplay.again import Agreement, agreement

PLAYERS = {"heuristic": 0, "gumbel": 8, "mcts": 8, "policy": 0, "mixed": 8}


def spec(kind: str, simulations: int | None = None, **fields: object) -> SelfplaySpec:
    base = {"board": "square8", "players": 2, "player_key": "x", "seed": 4, "games": 6, "simulations_fast": 4}
    player = PlayerConfig(kind, PLAYERS[kind] if simulations is None else simulations)
    return SelfplaySpec(**{**base, "player": player, "shard_seconds": 1e6, **fields})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net with opinions: its logits are spread as a trained one's."""
    torch.set_num_threads(1)
    torch.manual_seed(3)
    found = Net(geometry("square8", 2), 8, 1)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.mul_(2.0)
    path = tmp_path_factory.mktemp("net") / "a.safetensors"
    path.write_bytes(dump(found, Manifest("square8", 2, "8x1")))
    return path


def recorded(what: SelfplaySpec, folder: Path, net: Path) -> Shard:
    folder.mkdir()
    done = play(what, folder, weights=None if what.player.kind == "heuristic" else net)
    [shard] = done.shards
    return load_shard(folder / f"{shard.sha256}.npz")


def again(what: SelfplaySpec, shard: Shard, net: Path, games: tuple[int, ...] = (0, 3)) -> Agreement:
    return agreement(what, shard, games, weights=None if what.player.kind == "heuristic" else net)


@pytest.mark.parametrize("kind", PLAYERS)
def test_honest_games_agree(kind: str, tmp_path: Path, net: Path) -> None:
    """Of every engine, with other games beside them, and when they were cooled from game to game."""
    what = spec(kind, temperature="curriculum")
    found = again(what, recorded(what, tmp_path / "a", net), net)
    assert found.decisions > 20
    assert not found.detail
    assert found.agreed >= 0.98 * found.decisions


@pytest.mark.parametrize(
    "cheat",
    [
        spec("heuristic"),
        spec("policy"),
        spec("gumbel", 2, simulations_fast=1),
        spec("gumbel", temperature_start=0.2, temperature_end=0.2),
    ],
)
def test_games_of_another_player_do_not(cheat: SelfplaySpec, tmp_path: Path, net: Path) -> None:
    """An engine, a budget or a temperature that nobody asked for shows in most decisions, though seeds are right."""
    found = again(spec("gumbel"), recorded(cheat, tmp_path / "a", net), net)
    assert found.decisions > 20
    assert found.agreed < 0.8 * found.decisions


def test_games_of_other_seeds_are_told_at_once(tmp_path: Path, net: Path) -> None:
    """Games of another job, or one of them twice, are not what was asked for; a borrowed opening is seen."""
    shard = recorded(spec("heuristic"), tmp_path / "a", net)
    assert "seeds" in again(spec("heuristic", seed=5), shard, net).detail
    twice = msgspec.structs.replace(shard, seeds=np.repeat(shard.seeds[:1], len(shard.seeds)))
    assert "seeds" in again(spec("heuristic"), twice, net).detail
    turned = msgspec.structs.replace(shard, seeds=shard.seeds[::-1])
    found = again(spec("heuristic"), turned, net, tuple(range(6)))
    assert "opening" in found.detail


def test_policies_that_were_changed_afterwards_show(tmp_path: Path, net: Path) -> None:
    """Right moves with invented targets, or targets at moves that are none, do not agree."""
    shard = recorded(spec("heuristic"), tmp_path / "a", net)
    rng = np.random.default_rng(1)
    invented = msgspec.structs.replace(shard, targets_prob=rng.random(len(shard.targets_prob)).astype(np.float16))
    found = again(spec("heuristic"), invented, net)
    assert found.agreed < 0.8 * found.decisions
