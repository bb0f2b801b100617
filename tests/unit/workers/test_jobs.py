"""Job kinds as translations: payload to engine call, engine's answer to artifacts and a typed result."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from workers import jobs
from workers.jobs import find, names
from workers.jobs.context import JobError, Stopped
from workqueue.machine.commands import ArtifactRef
from workqueue.schema import (
    KINDS,
    EvaluatePayload,
    ExportPayload,
    GauntletPayload,
    PlayerSpec,
    SelfplayPayload,
    TournamentPayload,
    TrainPayload,
    VerifyPayload,
)

RANDOM, HEURISTIC = PlayerSpec("random"), PlayerSpec("heuristic")


class Context:
    """A worker in memory."""

    def __init__(self, folder: Path, cursor: dict[str, object] | None = None) -> None:
        self.job, self.attempt, self.kind, self.config = "j", 1, "x", "square8_2p"
        self.work = folder
        self.threads, self.device = 1, "cpu"
        self.cursor = cursor or {}
        self.stop = False
        self.stored: dict[str, bytes] = {}
        self.refs: list[ArtifactRef] = []
        self.told: list[dict[str, object]] = []

    def progress(self, **values: object) -> None:
        self.told.append(values)

    def checkpoint(self, cursor: dict[str, object]) -> None:
        self.cursor = dict(cursor)

    def should_stop(self) -> bool:
        return self.stop

    def fetch(self, sha256: str) -> Path:
        path = self.work / f"in-{sha256[:8]}"
        path.write_bytes(sha256.encode())
        return path

    def publish(self, path: Path, kind: str) -> ArtifactRef:
        data = path.read_bytes()
        ref = ArtifactRef(hashlib.sha256(data).hexdigest(), len(data), kind)
        self.stored[ref.sha256] = data
        self.refs.append(ref)
        path.unlink()
        return ref

    def include(self, ref: ArtifactRef) -> None:
        self.refs.append(ref)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Modules in place of the engine's, as far as jobs call them."""
    made = SimpleNamespace(calls=[])

    def module(name: str, **members: Any) -> None:
        stand_in = ModuleType(f"engine.{name}")
        stand_in.__dict__.update(members)
        monkeypatch.setitem(sys.modules, f"engine.{name}", stand_in)

    def selfplay(spec: Any, folder: Path, *, progress: Any, should_stop: Any, on_shard: Any) -> None:
        made.calls.append(spec)
        for start in range(0, spec.games, 4):
            if should_stop():
                return
            games = min(4, spec.games - start)
            path = folder / "shard"
            path.write_bytes(f"{spec.seed}/{start}".encode())
            info = SimpleNamespace(
                games=games, positions=10 * games, plies=20 * games, wins=(games, 0), policy_entropy=1.5
            )
            on_shard(path, info)
            made.after_shard()

    def train(spec: Any, shards: Any, folder: Path, **given: Any) -> Any:
        made.calls.append((spec, list(shards), given))
        steps = 0
        while steps < spec.steps and not given["should_stop"]():
            steps += 50
            (folder / "checkpoint").write_bytes(str(steps).encode())
            given["on_checkpoint"](folder / "checkpoint", steps)
            made.after_shard()
        (folder / "w").write_bytes(b"weights")
        (folder / "m").write_text(json.dumps({"size": spec.size}))
        return SimpleNamespace(
            weights=folder / "w", manifest=folder / "m", curves=None, steps=steps, samples=9, loss=1.5,
            policy_loss=1.0, value_loss=0.5, heldout_loss=float("nan"), seconds=2.0,
        )  # fmt: skip

    def play(spec: Any, players: Any, *, progress: Any, should_stop: Any) -> list[Any]:
        made.calls.append(spec)
        return [
            SimpleNamespace(
                seats=(index % 2, 1 - index % 2), ranks=(1, 2), plies=30, reason="ring_elimination",
                opening=f"o{index // 2}", record=b"record%d" % index,
            )
            for index in range(spec.games)
        ]  # fmt: skip

    made.after_shard = lambda: None
    config = SimpleNamespace
    module("rules", RULES_VERSION="1")
    module("players", PlayerConfig=config, make=lambda config, *rest: (config, rest))
    module("selfplay", SelfplaySpec=config, play=selfplay)
    module("training", TrainSpec=config, train=train)
    module("tournament", MatchSpec=config, play=play)
    module("rating", judge=lambda games, **test: SimpleNamespace(verdict="accept", llr=2.95))
    module("data", export=lambda shards, path, *rest: path.write_bytes(b"".join(s.read_bytes() for s in shards)) // 64,
           verify=lambda path, progress: SimpleNamespace(games=3, detail=""))  # fmt: skip
    return made


def test_every_kind_of_the_schema_can_be_found() -> None:
    """The table of kinds and the schema agree in payload and result."""
    assert set(jobs.BUILT_IN) == set(KINDS)
    for name, (payload, result) in KINDS.items():
        kind = find(name)
        assert (kind.payload, kind.result) == (payload, result)
    assert set(KINDS) <= set(names())


def test_a_kind_that_is_not_installed() -> None:
    """It is the machine's fault, with the kind's name."""
    with pytest.raises(JobError, match="sweep") as raised:
        find("sweep")
    assert raised.value.fault == "node"


def test_naming_kinds_imports_no_engine() -> None:
    """The agent's process stays small."""
    code = (
        "import sys, workers.agent, workers.jobs, workers.start; workers.jobs.names(); "
        "print([m for m in ('torch', 'numba', 'numpy', 'pysyncobj', 'engine') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


SELFPLAY = SelfplayPayload("square8", 2, HEURISTIC, games=10, seed=7, rules_version="1")


def test_selfplay_counts_what_its_shards_hold(context: Context, engine: SimpleNamespace) -> None:
    """Games, positions and wins are sums over stored shards."""
    result = find("selfplay").run(context, SELFPLAY)
    assert (result.games, result.positions, result.plies, result.wins) == (10, 100, 200, (10, 0))
    assert [shard.sha256 for shard in result.shards] == list(context.stored)
    assert sum(shard.games for shard in result.shards) == 10
    assert (result.player_key, result.policy_entropy_milli) == (HEURISTIC.key, 1500)


def test_selfplay_goes_on_at_its_cursor(context: Context, engine: SimpleNamespace, tmp_path: Path) -> None:
    """A stopped attempt keeps its shards; the next plays other games and names all shards as its own."""
    engine.after_shard = lambda: setattr(context, "stop", True)
    with pytest.raises(Stopped):
        find("selfplay").run(context, SELFPLAY)
    (tmp_path / "next").mkdir()
    second = Context(tmp_path / "next", msgspec.msgpack.decode(msgspec.msgpack.encode(context.cursor)))
    result = find("selfplay").run(second, SELFPLAY)
    assert (result.games, result.wins) == (10, (10, 0))
    assert (engine.calls[-1].games, engine.calls[-1].seed) == (6, 11)
    assert {ref.sha256 for ref in second.refs} == {shard.sha256 for shard in result.shards}


def test_other_rules_are_refused(context: Context, engine: SimpleNamespace) -> None:
    """A job for rules that are not installed never plays."""
    with pytest.raises(JobError, match="rules 2, not 1"):
        find("selfplay").run(context, msgspec.structs.replace(SELFPLAY, rules_version="2"))
    assert engine.calls == []


TRAIN = TrainPayload("square8", 2, ("a" * 64, "b" * 64), steps=200, seed=1, parent="c" * 64)


def test_train_publishes_weights_and_manifest(context: Context, engine: SimpleNamespace) -> None:
    """The model's name is the digest of its weights; a loss that is no number is no reason to fail."""
    result = find("train").run(context, TRAIN)
    assert context.stored[result.model] == b"weights"
    assert (result.steps, result.loss_milli, result.heldout_loss_milli) == (200, 1500, 0)
    assert msgspec.msgpack.decode(result.manifest) == {"size": "32x4", "data": list(TRAIN.shards)}
    _, shards, given = engine.calls[0]
    assert (len(shards), given["parent"] is not None, given["resume"]) == (2, True, None)


def test_train_resumes_from_its_checkpoint(context: Context, engine: SimpleNamespace, tmp_path: Path) -> None:
    """The next attempt fetches the last checkpoint of the one that was stopped."""
    engine.after_shard = lambda: setattr(context, "stop", True)
    with pytest.raises(Stopped):
        find("train").run(context, TRAIN)
    name = str(context.cursor["checkpoint"])
    assert context.stored[name] == b"50"
    (tmp_path / "next").mkdir()
    second = Context(tmp_path / "next", context.cursor)
    find("train").run(second, TRAIN)
    assert engine.calls[-1][2]["resume"].read_bytes() == name.encode()


@pytest.mark.parametrize(
    ("kind", "payload", "games"),
    [
        ("tournament", TournamentPayload("square8", 2, (RANDOM, HEURISTIC), 6, 1), 6),
        ("gauntlet", GauntletPayload("square8", 2, PlayerSpec("policy", "d" * 64), (RANDOM, HEURISTIC), 4, 1), 8),
        ("evaluate", EvaluatePayload("square8", 2, PlayerSpec("policy", "d" * 64), RANDOM, 10, 1), 10),
    ],
)
def test_matches_name_players_and_records(
    kind: str, payload: Any, games: int, context: Context, engine: SimpleNamespace
) -> None:
    """Each game has its own id, the keys of its players by seat, and its place in the stored records."""
    result = find(kind).run(context, payload)
    assert len({game.id for game in result.games}) == len(result.games) == games
    [record] = context.stored
    assert {game.record for game in result.games} == {record}
    assert msgspec.msgpack.decode(context.stored[record])[result.games[-1].index] == b"record%d" % (games - 1)
    assert result.verdict == ("accept" if kind == "evaluate" else "")
    assert find(kind).run(context, payload).games == result.games, "a replay has the same ids"


def test_export_and_verify(context: Context, engine: SimpleNamespace) -> None:
    """A window becomes one file; a shard is checked."""
    result = find("export").run(context, ExportPayload("square8", 2, ("a" * 64, "b" * 64)))
    assert (result.positions, result.size_bytes) == (2, 128)
    assert find("verify").run(context, VerifyPayload(shard="a" * 64)).ok
    with pytest.raises(JobError, match="either a shard or a model"):
        find("verify").run(context, VerifyPayload())
    with pytest.raises(JobError, match="neither npz nor parquet"):
        find("export").run(context, ExportPayload("square8", 2, (), "csv"))
