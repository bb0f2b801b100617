"""Shards checked, counted, drawn, exported and made of games; the jobs that do it on a worker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from engine.cli import app
from engine.data import export, verify
from engine.data.bring import PLAYER, bring_npz, read_games, shard_of_games
from engine.data.check import part_of
from engine.data.flat import read_npz
from engine.data.plot import draw_stats
from engine.data.quality import Bounds, quality
from engine.data.shards import Shard, ShardError, load_shard, replay
from engine.data.stats import GameFacts, calibration, facts, stats_of
from engine.nets.net import Net
from engine.nets.store import Manifest, dump
from engine.players.player import PlayerConfig, make
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec
from engine.selfplay import play as selfplay
from engine.tournament.play import MatchSpec, pack_records, play

runner = CliRunner()
NET = Manifest("square8", 2, "8x1")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two shards of heuristic games."""
    folder = tmp_path_factory.mktemp("shards")
    for seed in (1, 2):
        spec = SelfplaySpec(
            board="square8", players=2, player=PlayerConfig("heuristic"), player_key="none:heuristic:-", games=8,
            seed=seed, batch_games=4, node=f"n{seed}",
        )  # fmt: skip
        selfplay(spec, folder)
    return sorted(folder.glob("*.npz"))


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of a net's games for three, with searched chances."""
    folder = tmp_path_factory.mktemp("searched")
    where = geometry("square8", 3)
    torch.manual_seed(1)
    weights = folder / "w.safetensors"
    weights.write_bytes(dump(Net(where, 8, 1), Manifest("square8", 3, "8x1")))
    spec = SelfplaySpec(
        board="square8", players=3, player=PlayerConfig("gumbel", 4), player_key="x:gumbel:s4", games=4, seed=3,
        batch_games=4, simulations_fast=2, full_share=0.5,
    )  # fmt: skip
    selfplay(spec, folder, weights=weights)
    return next(folder.glob("*.npz"))


# ---- verify


def test_good_shards_are_verified_game_by_game(shards: list[Path], searched: Path) -> None:
    """All games and positions are counted, with progress."""
    told: list[dict[str, object]] = []
    found = verify(shards[0], progress=told.append)
    assert (found.games, found.detail) == (8, "")
    assert found.positions == load_shard(shards[0]).meta.positions
    assert told[-1] == {"done": 8, "total": 8}
    assert verify(searched).detail == ""


def damaged(shard: Shard, what: str) -> Shard:
    """Return a shard that lies in one way."""
    match what:
        case "a code":
            shard.codes[40] = (shard.codes[40] + 1) % shard.where.tables.policy_size
        case "a result":
            shard.ranks[5] = shard.ranks[5][::-1]
        case "a target's move":
            shard.targets_code[0] = shard.where.tables.policy_size - 1
        case "a target's sum":
            shard.targets_prob[0] = 3.0
        case _:
            shard.targets_value[0] = 1.5
    return shard


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("a code", "does not follow the rules"),
        ("a result", "does not end as it claims"),
        ("a target's move", "not legal"),
        ("a target's sum", "is no policy"),
        ("a chance", "not between 0 and 1"),
    ],
)
def test_each_kind_of_lie_is_found(what: str, words: str, shards: list[Path], tmp_path: Path) -> None:
    path, _ = damaged(load_shard(shards[0]), what).save(tmp_path)
    assert words in verify(path).detail


def test_what_is_no_shard_is_a_finding(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"junk")
    assert "not a shard" in verify(path).detail


def test_parts_of_a_shard_are_shards(shards: list[Path]) -> None:
    """Their games replay, and together they are the whole."""
    whole = load_shard(shards[0])
    parts = [part_of(whole, a, b) for a, b in ((0, 3), (3, 8))]
    assert sum(part.meta.positions for part in parts) == whole.meta.positions
    states = np.concatenate([replay(part)[0] for part in parts])
    assert (states == replay(whole)[0]).all()


# ---- export


def test_exported_positions_are_what_the_shards_hold(shards: list[Path], tmp_path: Path) -> None:
    """NPZ and Parquet agree; policies sum to one; results are those of the games; rows count over all shards."""
    npz, parquet = tmp_path / "a.npz", tmp_path / "a.parquet"
    count = export(iter(shards), npz, "square8", 2, "npz")
    assert count == export(shards, parquet, "square8", 2, "parquet")
    meta, rows = read_npz(npz)
    loaded = [load_shard(path) for path in shards]
    assert meta.positions == count == sum(shard.meta.positions for shard in loaded) == len(rows["features"])
    assert rows["features"].shape[1:] == (29, 8, 8)
    pointer = rows["policy_indptr"]
    assert np.allclose(np.add.reduceat(rows["policy_values"], pointer[:-1]), 1, atol=0.01)
    assert (rows["policy_indices"] == np.concatenate([shard.targets_code for shard in loaded])).all()
    winners = rows["values_mp"][:, :2].argmax(1) + 1
    assert ((rows["values"] == 1) == (rows["to_move"] == winners)).all()
    assert set(rows["game"]) == set(range(16))
    assert (rows["move_numbers"] < rows["total_game_moves"]).all()
    assert np.isnan(rows["searched"]).all()
    table = pq.read_table(parquet)
    assert table.num_rows == count
    assert (table["to_move"].to_numpy() == rows["to_move"]).all()
    assert (np.array(table["globals"].to_pylist(), np.float32) == rows["globals"]).all()
    first = table["policy_values"][0].as_py()
    assert np.allclose(first, rows["policy_values"][: pointer[1]])
    assert json.loads(pq.read_metadata(parquet).metadata[b"riftq"])["board"] == "square8"


def test_three_seats_have_values_from_first_to_last(searched: Path, tmp_path: Path) -> None:
    """1, 0, -1 by seat, 0 for the seat that does not exist, and the searched chances."""
    export([searched], tmp_path / "a.npz", "square8", 3)
    _, rows = read_npz(tmp_path / "a.npz")
    assert (rows["values_mp"][:, 3] == 0).all()
    assert np.allclose(rows["values_mp"].sum(1), 0, atol=1e-5)
    assert (rows["values_mp"].max(1) == 1).all()
    assert ((rows["searched"] >= 0) & (rows["searched"] <= 1)).all()


def test_bad_exports_are_refused(shards: list[Path], searched: Path, tmp_path: Path) -> None:
    """Mixed configs, unknown formats, nothing to write; and what is no file of positions is not read."""
    with pytest.raises(ShardError, match="one config at a time"):
        export([*shards, searched], tmp_path / "a.npz", "square8", 2)
    with pytest.raises(ValueError, match="npz, parquet"):
        export(shards, tmp_path / "a.csv", "square8", 2, "csv")
    with pytest.raises(ValueError, match="no position"):
        export([], tmp_path / "a.npz", "square8", 2)
    with pytest.raises(ValueError, match="no file of positions"):
        read_npz(shards[0])


# ---- statistics and quality


def test_statistics_count_what_is_there(shards: list[Path], searched: Path, tmp_path: Path) -> None:
    """Games, seats, ends and nodes add up; searched chances are held against results; a picture on request."""
    found, games = stats_of({path.stem: load_shard(path) for path in shards})
    assert (found.games, found.shards, found.duplicates) == (16, 2, 0)
    assert sum(found.wins) == pytest.approx(16)
    assert sum(found.reasons.values()) == 16 == sum(found.nodes.values())
    assert found.nodes == {"n1": 8, "n2": 8}
    assert found.policy_entropy > 0
    assert np.isnan(found.brier)
    with_search, three = stats_of({"s": load_shard(searched)}, {"s": "gpu-1"})
    assert with_search.searched == 1
    assert 0 < with_search.brier < 1
    assert {game.node for game in three} == {"gpu-1"}
    rows = calibration([load_shard(searched)])
    assert sum(count for _, _, count in rows) == with_search.positions
    assert draw_stats(found, games, rows, tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="one config"):
        stats_of({"a": load_shard(shards[0]), "b": load_shard(searched)})


def game(rng: np.random.Generator, node: str, **fields: Any) -> GameFacts:
    """A game as a healthy node plays it."""
    ranks = (1, 2) if rng.random() < 0.53 else (2, 1)
    base = GameFacts(
        "s", node, int(rng.normal(90, 15)), ranks, f"{rng.integers(1 << 60):x}", 20, rng.normal(1.5, 0.2),
        rng.normal(0.2, 0.05),
    )  # fmt: skip
    return msgspec.structs.replace(base, **fields)


def healthy(nodes: int = 4, games: int = 60, seed: int = 1) -> list[GameFacts]:
    rng = np.random.default_rng(seed)
    return [game(rng, f"n{k}") for k in range(nodes) for _ in range(games)]


def test_healthy_games_have_no_findings() -> None:
    """Forty sets of games, four nodes each: hardly a false alarm, never a quarantine."""
    found = [quality(healthy(seed=seed)) for seed in range(40)]
    assert sum(each.verdict != "ok" for each in found) <= 1
    assert not any(each.quarantined for each in found)


@pytest.mark.parametrize(
    ("fields", "check"),
    [
        ({"plies": 3}, "length"),
        ({"ranks": (1, 2)}, "outcome"),
        ({"ranks": (1, 1)}, "ties"),
        ({"entropy": 0.001}, "entropy"),
        ({"digest": "same"}, "duplicates"),
        ({"surprise": 0.6}, "surprise"),
    ],
)
def test_each_fault_is_found(fields: dict[str, Any], check: str) -> None:
    """A set of games that all have it is to be kept out of training."""
    rng = np.random.default_rng(2)
    result = quality([game(rng, "n1", **fields) for _ in range(200)])
    assert result.verdict == "quarantine"
    assert check in {each.check for each in result.findings}


def test_a_drifting_node_is_named_and_no_other() -> None:
    """One node of four plays games half as long with flat policies."""
    rng = np.random.default_rng(3)
    games = healthy(3) + [game(rng, "bad", plies=int(rng.normal(60, 15))) for _ in range(60)]
    result = quality(games)
    assert result.quarantined == ("node bad",)
    assert {each.check for each in result.findings if each.verdict == "quarantine"} == {"drift of plies"}
    assert quality(games, Bounds(games_min=100)).verdict == "ok", "few games are no evidence"


def test_a_shard_that_does_not_replay_is_quarantined() -> None:
    result = quality(healthy(), broken=[("abc", "game 3 does not follow the rules")])
    assert result.quarantined == ("shard abc",)


def test_facts_need_no_replay(shards: list[Path]) -> None:
    """Lengths and digests are those of the codes."""
    shard = load_shard(shards[0])
    quick, full = facts("s", shard, replayed=False), facts("s", shard)
    assert [each.plies for each in quick] == shard.plies.tolist()
    assert [each.digest for each in quick] == [each.digest for each in full]
    assert len({each.digest for each in quick}) == 8


# ---- import


def test_games_become_a_shard(tmp_path: Path) -> None:
    """A tournament's games, alone and packed, make a shard that replays, with the moves as targets."""
    where = geometry("hex8", 2)
    players = [make(PlayerConfig("random"), where) for _ in range(2)]
    played = play(MatchSpec(board="hex8", players=2, games=4, seed=1), players, ["a", "b"])
    (tmp_path / "one.rifg").write_bytes(played[0].record)
    (tmp_path / "games").write_bytes(pack_records(played[1:]))
    records = read_games([tmp_path / "one.rifg", tmp_path / "games"])
    shard = shard_of_games(records)
    path, _ = shard.save(tmp_path)
    found = verify(path)
    assert (found.games, found.detail) == (4, "")
    assert shard.meta.player == PLAYER
    assert (shard.codes[shard.targets_ply] == shard.targets_code).all()
    assert [tuple(ranks) for ranks in shard.ranks] == [each.ranks for each in played]


def test_foreign_arrays_are_taken_without_running_their_code(tmp_path: Path) -> None:
    """Plain arrays of clear meaning are kept; object arrays and foreign encodings are left out by name."""
    path, out = tmp_path / "old.npz", tmp_path / "new.npz"
    policies = np.empty(3, object)
    policies[:] = [np.arange(2), np.arange(3), np.arange(1)]
    np.savez(
        path, features=np.zeros((3, 4, 8, 8), np.float32), values=np.array([1.0, -1.0, 0.0], np.float32),
        num_players=np.array([2, 2, 2]), policy_indices=policies, board_type=np.array("square8"),
    )  # fmt: skip
    found = bring_npz(path, out)
    assert found.rows == 3
    assert set(found.taken) == {"values", "num_players"}
    assert "foreign code" in found.left_out["policy_indices"]
    assert set(found.left_out) == {"features", "policy_indices", "board_type"}
    with np.load(out, allow_pickle=False) as arrays:
        assert arrays["values"].tolist() == [1, -1, 0]
    assert "features" in bring_npz(path, out, foreign=True).taken
    np.savez(path, values=np.array([2.0]))
    with pytest.raises(ValueError, match="not between -1 and 1"):
        bring_npz(path, out)
    np.savez(path, values=np.zeros(2), num_players=np.array([2]))
    with pytest.raises(ValueError, match="lengths differ"):
        bring_npz(path, out)
    path.write_bytes(b"junk")
    with pytest.raises(ValueError, match="no NPZ"):
        bring_npz(path, out)


# ---- commands


def test_data_from_the_command_line(shards: list[Path], tmp_path: Path) -> None:
    """Each command answers with its exit code; damaged shards are named and change it."""
    folder = shards[0].parent
    bad = tmp_path / "bad"
    bad.mkdir()
    damaged(load_shard(shards[0]), "a code").save(bad)
    for arguments, code, words in (
        (["stats", str(folder)], 0, "policy entropy"),
        (["stats", str(folder), "--json"], 0, '"games":16'),
        (["plot", str(folder), "--out", str(tmp_path / "d.png")], 0, "d.png"),
        (["quality", str(folder)], 0, "16 games: ok"),
        (["quality", str(folder), str(bad)], 1, "keep out of training: shard"),
        (["verify", str(folder)], 0, "16 games with"),
        (["verify", str(bad)], 1, "does not follow the rules"),
        (["export", str(folder), "--out", str(tmp_path / "p.npz")], 0, "positions,"),
        (["export", str(tmp_path / "none.npz")], 2, "there is no shard"),
        (["stats", str(bad)], 2, "does not follow the rules"),
        (["import", str(shards[0]), "--out", str(tmp_path / "in")], 2, "no arrays of positions"),
        (["quality", str(folder), "--nodes", str(tmp_path / "none.json")], 2, "is no map"),
    ):
        done = runner.invoke(app, ["data", *arguments])
        assert done.exit_code == code, f"{arguments}: {done.output}"
        assert words in done.output.replace("\n", " "), arguments
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
