"""A self-play job can say everything that the engine offers, and nothing that it cannot do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from typer.testing import CliRunner

import engine.selfplay
from engine.nets import encoder, inference
from engine.nets.batch import remembered
from engine.nets.net import Net
from engine.nets.store import Manifest, dump
from engine.players.names import key_of
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import ENGINES, TEMPERATURES, SelfplaySpec, ShardInfo
from tests.unit.workers.test_engine_jobs import Context, Store
from workers import cli
from workers.jobs import find
from workers.jobs.context import JobError
from workers.jobs.engine import player_config
from workqueue.schema import (
    BenchmarkPayload,
    GauntletPayload,
    PlayerSpec,
    SelfplayPayload,
    TournamentPayload,
    VerifyPayload,
)

SHARED = {"board", "players", "games", "seed", "variant", "player", "player_key", "job"}  # set by name or made anew
OF_THE_RUN = {"max_seconds", "node"}  # the worker bounds the time itself; shards are known by their job
MIX = ((600, PlayerSpec("gumbel")), (400, PlayerSpec("heuristic")))


@pytest.fixture
def store() -> Store:
    """With the weights of a small net."""
    torch.manual_seed(2)
    held = Store()
    weights = dump(Net(geometry("square8", 2), 8, 1), Manifest("square8", 2, "8x1"))
    held.bytes[hashlib.sha256(weights).hexdigest()] = weights
    return held


def payload(store: Store, kind: str, **fields: Any) -> SelfplayPayload:
    model = "" if kind == "heuristic" else next(iter(store.bytes))
    player = PlayerSpec(kind, model, 0 if kind in ("heuristic", "policy") else 3, mix=fields.pop("mix", ()))
    return SelfplayPayload("square8", 2, player, 2, 9, **{"simulations_fast": 2, "batch_games": 2} | fields)


@pytest.mark.parametrize("kind", ENGINES)
def test_every_engine_can_be_asked_for(kind: str, tmp_path: Path, store: Store) -> None:
    """And plays, with every temperature schedule and what else there is to say."""
    schedule = TEMPERATURES[ENGINES.index(kind) + 1]
    mix = MIX if kind == "mixed" else ()
    asked = payload(store, kind, temperature=schedule, mix=mix, opening_plies=9, resign_below_milli=200, resign_run=1)
    result = find("selfplay").run(Context(tmp_path / "a", store), asked)
    assert result.games == 2
    assert result.positions > 0
    assert result.player_key == asked.player.key
    assert result.resigned + result.controls <= 2


def test_who_gave_up_is_counted_over_all_shards(tmp_path: Path, store: Store) -> None:
    """As the engine counts it: here a side is lost at once in every game, half of them are played on as controls."""
    counted: list[ShardInfo] = []
    real = engine.selfplay.play

    def play(*given: Any, on_shard: Any, **named: Any) -> Any:
        def keep(path: Path, info: ShardInfo) -> None:
            counted.append(info)
            on_shard(path, info)

        return real(*given, on_shard=keep, **named)

    asked = payload(store, "gumbel", resign_below_milli=499, resign_run=1, control_share_milli=500, shard_seconds=0)
    asked = msgspec.structs.replace(asked, games=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine.selfplay, "play", play)
        result = find("selfplay").run(Context(tmp_path / "a", store), asked)
    assert len(counted) > 1
    for name in ("resigned", "controls", "controls_wrong"):
        assert getattr(result, name) == sum(getattr(each, name) for each in counted) > 0


def test_every_setting_of_the_engine_has_a_field(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A payload that differs from the defaults everywhere gives a run that does."""
    asked = payload(
        store, "mixed", mix=MIX, simulations_fast=5, full_share_milli=500, temperature="cosine",
        temperature_start_milli=1300, temperature_end_milli=400, temperature_plies=7, opening_plies=2,
        resign_below_milli=50, resign_run=5, control_share_milli=300, shard_seconds=9, batch_games=0, keep="visits",
    )  # fmt: skip
    given: list[SelfplaySpec] = []
    monkeypatch.setattr(engine.selfplay, "play", lambda spec, *_, **__: given.append(spec))
    with pytest.raises(JobError, match="no game ended"):
        find("selfplay").run(Context(tmp_path / "a", store), asked)
    [spec] = given
    assert (spec.resign_below, spec.resign_run, spec.control_share) == (0.05, 5, 0.3)
    assert spec.player.mix == ((0.6, PlayerConfig("gumbel")), (0.4, PlayerConfig("heuristic")))
    plain = SelfplaySpec(board="square8", players=2, player=PlayerConfig("mixed"), player_key="", games=1, seed=1)
    same = {name for name in SelfplaySpec.__struct_fields__ if getattr(spec, name) == getattr(plain, name)}
    assert same <= SHARED | OF_THE_RUN


def test_a_mixed_player_has_one_key_everywhere() -> None:
    """In the match log the payload's player is the engine's."""
    for spec in (PlayerSpec("mixed", mix=((300, PlayerSpec("random")), (1000, PlayerSpec("alphabeta", depth=3)))),
                 PlayerSpec("mixed", simulations=32, mix=MIX)):  # fmt: skip
        assert spec.key == key_of(player_config(spec), None)
    assert PlayerSpec("mixed", simulations=32, mix=MIX).key == "none:mixed:0.6*gumbel:-+0.4*heuristic:-:s32"


def test_a_tournament_seats_mixed_players(tmp_path: Path, store: Store) -> None:
    """Named by their mix."""
    mixed = PlayerSpec("mixed", mix=((500, PlayerSpec("random")), (500, PlayerSpec("heuristic"))))
    job = TournamentPayload("square8", 2, (mixed, PlayerSpec("random")), 2, 1)
    games = find("tournament").run(Context(tmp_path / "a", store), job).games
    assert {seat for game in games for seat in game.seats} == {mixed.key, "none:random:-"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"resign_below_milli": 500}, {"resign_below_milli": -1}, {"resign_run": 0}, {"control_share_milli": 1001},
        {"resign_below_milli": 50, "control_share_milli": 0},
        {"player": {"kind": "gumbel", "mix": [[500, {"kind": "random"}]]}},
        {"player": {"kind": "mixed", "mix": [[0, {"kind": "random"}]]}},
        {"player": {"kind": "mixed", "mix": [[500, {"kind": "gumbel", "model": "ab"}]]}},
        {"player": {"kind": "mixed", "mix": [[500, {"kind": "mixed", "mix": [[1, {"kind": "random"}]]}]]}},
        {"keep": "all"},
        {"resign": 1},
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    """When it is read, before any worker sees it."""
    plain = {"board": "square8", "players": 2, "player": {"kind": "mixed"}, "games": 1, "seed": 1}
    assert msgspec.convert(plain, SelfplayPayload).player.mix == ()
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(plain | wrong, SelfplayPayload)


def test_payloads_of_before_read_and_write_as_they_did() -> None:
    """What has its default is not written: an older reader understands what an older writer could have said."""
    before = msgspec.msgpack.encode(
        {"board": "hex8", "players": 2, "player": {"kind": "gumbel", "model": "ab", "simulations": 16}, "games": 10,
         "seed": 3, "temperature": "step"}
    )  # fmt: skip
    read = msgspec.msgpack.decode(before, type=SelfplayPayload)
    assert (read.batch_games, read.resign_below_milli, read.player.key) == (64, 0, "ab:gumbel:s16")
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(read)) == msgspec.msgpack.decode(before)


@pytest.mark.parametrize(
    ("fields", "cause", "fault"),
    [
        ({"temperature": "hot"}, "payload.invalid", "payload"),
        ({"mix": ((1, PlayerSpec("random")),)}, "payload.invalid", "payload"),
    ],
)
def test_what_the_engine_refuses_is_the_payloads_fault(
    fields: dict[str, Any], cause: str, fault: str, tmp_path: Path, store: Store
) -> None:
    """With the engine's sentence."""
    with pytest.raises(JobError, match=r"choose one of|gumbel, policy or heuristic") as raised:
        find("selfplay").run(Context(tmp_path / "a", store), payload(store, "mixed", **fields))
    assert (raised.value.cause, raised.value.fault) == (cause, fault)


@pytest.mark.parametrize("kind", ["selfplay", "gauntlet", "benchmark", "verify"])
def test_a_runtime_that_is_missing_is_the_machines_fault(
    kind: str, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes to another worker."""
    asked = payload(store, "gumbel")
    [model] = store.bytes
    jobs = {
        "selfplay": asked,
        "gauntlet": GauntletPayload("square8", 2, asked.player, (PlayerSpec("random"),), 2, 1),
        "benchmark": BenchmarkPayload("square8", 2, seconds=1, model=model),
    }
    if kind == "verify":
        [shard] = find("selfplay").run(Context(tmp_path / "played", store), asked).shards
        jobs["verify"] = VerifyPayload(shard=shard.sha256, asked=asked, again=(0,))
    monkeypatch.setattr(inference, "installed", lambda name: name == "torch")
    context = Context(tmp_path / "a", store)
    context.backend = "openvino"
    with pytest.raises(JobError, match="not installed") as raised:
        find(kind).run(context, jobs[kind])
    assert raised.value.fault == "node"


def test_games_of_a_net_of_another_build_are_played_again_elsewhere(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They say nothing of who played them: the check goes to a worker of the build that the net is for."""
    asked = payload(store, "gumbel")
    [shard] = find("selfplay").run(Context(tmp_path / "a", store), asked).shards
    monkeypatch.setattr(encoder, "ENCODER", "seats-1x1")
    with pytest.raises(JobError, match="install the build") as raised:
        find("verify").run(Context(tmp_path / "b", store), VerifyPayload(shard=shard.sha256, asked=asked, again=(0,)))
    assert (raised.value.cause, raised.value.fault) == ("version.mismatch", "node")


def test_a_benchmark_names_the_batch_sizes_of_the_machine(tmp_path: Path, store: Store) -> None:
    """Those that it remembers, that of the net that it was given among them."""
    context = Context(tmp_path / "a", store)
    context.batches = tmp_path / "batches.json"  # type: ignore[assignment]
    job = BenchmarkPayload("square8", 2, seconds=1, model=next(iter(store.bytes)))
    result = find("benchmark").run(context, job)
    assert set(result.rates) == {"games_s/square8_2p", "evals_s/square8_2p"}
    assert result.batches == {name: each.size for name, each in remembered(context.batches).items()}
    assert len(result.batches) == 1


def test_a_worker_remembers_its_batch_size(tmp_path: Path, store: Store) -> None:
    """A job that names none is played with what this machine is fast with."""
    context = Context(tmp_path / "a", store)
    context.batches = tmp_path / "batches.json"  # type: ignore[assignment]
    assert find("selfplay").run(context, payload(store, "policy", batch_games=0)).games == 2
    assert "/square8_2p/8x1" in (tmp_path / "batches.json").read_text()


def test_a_worker_takes_the_backends_of_the_engine() -> None:
    """The agent knows their names without importing it; any other ends the command with a sentence."""
    for name in inference.BACKENDS:
        for precision in ("", *(f":{each}" for each in inference.PRECISIONS), ":int8"):
            try:
                inference.parse_backend(name + precision)
                known = True
            except ValueError:
                known = False
            assert bool(cli._BACKENDS.fullmatch(name + precision)) == known
    told = CliRunner().invoke(cli.app, ["--backend", "tensorrt"])
    assert told.exit_code == 2
    assert "write auto, torch, onnxruntime or openvino" in told.output
