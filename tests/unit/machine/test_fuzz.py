"""Hostile entries, a short run of `python -m benchmarks.fuzz`."""

from __future__ import annotations

import random

import pytest

from benchmarks import fuzz
from benchmarks.fuzz_author import Author
from workqueue.machine import commands as c
from workqueue.machine import machine as machine_module


def test_every_hostile_entry_is_answered_alike() -> None:
    """20,000 entries to two replicas, one of which is restored on the way and stands on a deeper stack."""
    first = fuzz.replica(20_000, seed=7)
    second = fuzz.replica(20_000, seed=7, restores=1, frames=100)
    assert [first[name] for name in ("digest", "snapshot_sha256")] == [
        second[name] for name in ("digest", "snapshot_sha256")
    ]
    said = first["outcomes"]
    assert {"Granted", "Settled", "Completed.some", "AliasSet", "Locked", "SettingsSet", "Enqueued"} <= set(said)
    assert said["Refused.malformed"] < sum(said.values()) / 2, "most entries are not even read"


def test_the_author_knows_every_command() -> None:
    """What is added to the commands must be added to the fuzz."""
    author = Author(random.Random(1))
    missing = [kind.__name__ for kind in c.AnyCommand.__args__ if not hasattr(author, f"_{kind.__name__}")]
    assert missing == []


def test_a_machine_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with the exception."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(machine_module.HANDLERS, c.Rollback, broken)
    with pytest.raises(ZeroDivisionError):
        fuzz.replica(5_000, seed=7)
