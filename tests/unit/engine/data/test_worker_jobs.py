"""The worker's export, verify and benchmark jobs with the real engine."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from engine.data.shards import ShardError, read_shard
from engine.nets.net import Net
from engine.nets.store import Manifest, digest, dump
from engine.rules.geometry import geometry
from tests.unit.workers.test_engine_jobs import SELFPLAY, Context, Store
from workers.jobs import find
from workqueue.schema import BenchmarkPayload, ExportPayload, PlayerSpec, TournamentPayload, VerifyPayload


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def data(tmp_path: Path, store: Store) -> tuple[str, ...]:
    """A shard that a self-play job made."""
    result = find("selfplay").run(Context(tmp_path / "data", store), SELFPLAY)
    return tuple(shard.sha256 for shard in result.shards)


@pytest.fixture
def model(store: Store) -> str:
    """Weights of an untrained net."""
    torch.manual_seed(1)
    weights = dump(Net(geometry("square8", 2), 8, 1), Manifest("square8", 2, "8x1"))
    store.bytes[digest(weights)] = weights
    return digest(weights)


@pytest.mark.parametrize("form", ["npz", "parquet"])
def test_export_writes_every_position(form: str, tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """As many rows as the shards have targets, readable without this engine."""
    result = find("export").run(Context(tmp_path / "a", store), ExportPayload("square8", 2, data, form))
    wanted = sum(read_shard(store.bytes[sha]).meta.positions for sha in data)
    assert (result.positions, result.size_bytes) == (wanted, len(store.bytes[result.sha256]))
    written = io.BytesIO(store.bytes[result.sha256])
    rows = pq.read_table(written).num_rows if form == "parquet" else len(np.load(written)["features"])
    assert rows == wanted


def test_export_of_another_config_is_refused(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    with pytest.raises(ShardError, match="one config at a time"):
        find("export").run(Context(tmp_path / "a", store), ExportPayload("hex8", 2, data))


def test_verify_replays_a_shard(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """A good shard is right; one with a changed result is found, and says where."""
    good = find("verify").run(Context(tmp_path / "a", store), VerifyPayload(shard=data[0]))
    assert (good.ok, good.games, good.detail) == (True, SELFPLAY.games, "")
    shard = read_shard(store.bytes[data[0]])
    shard.ranks[0] = shard.ranks[0][::-1]
    store.bytes["b" * 64] = shard.to_bytes()
    bad = find("verify").run(Context(tmp_path / "b", store), VerifyPayload(shard="b" * 64))
    assert not bad.ok
    assert "does not end as it claims" in bad.detail


def test_verify_evaluates_a_model(tmp_path: Path, store: Store, model: str) -> None:
    """Weights that answer sensibly are right; damaged ones and values that are no numbers are found."""
    good = find("verify").run(Context(tmp_path / "a", store), VerifyPayload(model=model))
    assert good.ok
    assert not good.detail
    store.bytes["c" * 64] = store.bytes[model][:-100]
    assert not find("verify").run(Context(tmp_path / "b", store), VerifyPayload(model="c" * 64)).ok
    net = Net(geometry("square8", 2), 8, 1)
    with torch.no_grad():
        net.value.bias[0] = float("inf")
    store.bytes["d" * 64] = dump(net, Manifest("square8", 2, "8x1"))
    bad = find("verify").run(Context(tmp_path / "c", store), VerifyPayload(model="d" * 64))
    assert not bad.ok
    assert "not numbers" in bad.detail


@pytest.mark.parametrize("form", ["swiss", "information"])
def test_tournaments_pair_as_they_are_told(form: str, tmp_path: Path, store: Store) -> None:
    """A tournament job takes every format of the engine."""
    entrants = (PlayerSpec("random"), PlayerSpec("heuristic"), PlayerSpec("flat_mc", simulations=1))
    payload = TournamentPayload("square8", 2, entrants, 6, 1, format=form)
    result = find("tournament").run(Context(tmp_path / "a", store), payload)
    assert len({game.id for game in result.games}) == len(result.games) >= 6


def test_benchmark_counts_evaluations(tmp_path: Path, store: Store, model: str) -> None:
    """Games and evaluations a second, both above none."""
    result = find("benchmark").run(Context(tmp_path / "a", store), BenchmarkPayload("square8", 2, 1, model))
    assert result.rates["games_s/square8_2p"] > 0
    assert result.rates["evals_s/square8_2p"] > 0
    assert [name.rpartition("/t")[2].partition("/")[2] for name in result.batches] == ["square8_2p/8x1"]
