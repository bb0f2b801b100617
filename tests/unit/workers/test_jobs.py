"""Job kinds as translations: payload to engine call, engine's answer to artifacts and a typed result."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import msgspec
import pytest

from workers import jobs
from workers.jobs import find, names
from workers.jobs.context import JobError
from workqueue.machine.commands import ArtifactRef
from workqueue.schema import (
    KINDS,
    ExportPayload,
    PlayerSpec,
    SelfplayPayload,
    VerifyPayload,
)

RANDOM, HEURISTIC = PlayerSpec("random"), PlayerSpec("heuristic")


class Context:
    """A worker in memory."""

    def __init__(self, folder: Path, cursor: dict[str, object] | None = None) -> None:
        self.job, self.attempt, self.kind, self.config = "j", 1, "x", "square8_2p"
        self.work = folder
        self.threads, self.device = 1, "cpu"
        self.backend, self.batches = "torch", None
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

    module("rules", RULES_VERSION="1")
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


def test_other_rules_are_refused(context: Context, engine: SimpleNamespace) -> None:
    """A job for rules that are not installed never plays."""
    with pytest.raises(JobError, match="rules 2, not 1"):
        find("selfplay").run(context, msgspec.structs.replace(SELFPLAY, rules_version="2"))
    assert engine.calls == []


def test_export_and_verify(context: Context, engine: SimpleNamespace) -> None:
    """A window becomes one file; a check names one thing to check."""
    result = find("export").run(context, ExportPayload("square8", 2, ("a" * 64, "b" * 64)))
    assert (result.positions, result.size_bytes) == (2, 128)
    with pytest.raises(JobError, match="only one"):
        find("verify").run(context, VerifyPayload())
    with pytest.raises(JobError, match="neither npz nor parquet"):
        find("export").run(context, ExportPayload("square8", 2, (), "csv"))
