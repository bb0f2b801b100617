"""Logs and snapshots of released versions are read by this one, to the same outcomes and the same bytes."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from workqueue.machine import commands as c
from workqueue.machine import invariants
from workqueue.machine.machine import Machine

HERE = Path(__file__).parent
RELEASES = sorted(path.stem for path in HERE.glob("*.json"))
SNAPSHOTS = sorted(path.name for path in (*HERE.glob("*.snapshot"), *HERE.glob("*.bin")))


def about(release: str) -> Any:
    return json.loads((HERE / f"{release}.json").read_text())


def log(release: str) -> list[bytes]:
    return msgspec.msgpack.decode(gzip.decompress((HERE / f"{release}.log.gz").read_bytes()), type=list[bytes])


@pytest.mark.parametrize("release", RELEASES)
def test_an_old_log_is_replayed_to_the_same_digests(release: str) -> None:
    """Every outcome is what it was (the digests chain them), and the snapshot at the end is the same."""
    machine = Machine()
    digests = about(release)["digests"]
    seen = {}
    for index, entry in enumerate(log(release), 1):
        machine.apply(entry)
        if str(index) in digests:
            seen[str(index)] = machine.digest().hex()
    assert seen == digests
    invariants.check(machine.ledger)
    assert b"".join(machine.snapshot()) == (HERE / f"{release}.snapshot").read_bytes()


@pytest.mark.parametrize("release", RELEASES)
def test_an_old_snapshot_stands_for_its_log(release: str) -> None:
    """It has the digest of the last entry, and goes on alike: repeated requests get their first answers."""
    machine = Machine()
    machine.restore([(HERE / f"{release}.snapshot").read_bytes()])
    assert machine.digest().hex() == about(release)["digests"][str(about(release)["entries"])]
    twin = Machine()
    for entry in log(release):
        twin.apply(entry)
    for entry in log(release)[:50]:
        assert msgspec.msgpack.encode(machine.apply(entry)) == msgspec.msgpack.encode(twin.apply(entry))
    assert machine.digest() == twin.digest()


@pytest.mark.parametrize("name", SNAPSHOTS)
def test_old_snapshots_load(name: str) -> None:
    """Read, sound, and written back the same."""
    data = (HERE / name).read_bytes()
    machine = Machine()
    machine.restore([data[k : k + 777] for k in range(0, len(data), 777)])
    invariants.check(machine.ledger)
    assert b"".join(machine.snapshot()) == data
    assert machine.query("models", {})
    assert machine.query("matches", {})


@pytest.mark.parametrize("release", RELEASES)
def test_a_log_holds_every_command_of_its_time(release: str) -> None:
    """At least 300 entries; the commands of today are in the newest, but for those that are younger."""
    entries = log(release)
    assert len(entries) == about(release)["entries"] >= 300
    kinds: Counter[str] = Counter()
    for entry in entries:
        try:
            kinds.update(type(each.command).__name__ for each in msgspec.msgpack.decode(entry, type=Entry)[2])
        except (msgspec.MsgspecError, UnicodeDecodeError):
            kinds["unreadable"] += 1
    assert kinds["unreadable"] >= 3
    if release == RELEASES[-1]:
        assert {kind.__name__ for kind in c.AnyCommand.__args__} - set(kinds) == NEW


NEW = {"ForgetWorkers"}  # since the newest release; empty again when the files of the next one are made
Entry = tuple[int, int, list[c.Request]]


def test_there_is_a_release() -> None:
    """The tests above are not empty."""
    assert RELEASES
    assert len(SNAPSHOTS) > len(RELEASES)


def test_files_are_never_written_again() -> None:
    """The command says so and changes nothing."""
    before = {path.name: path.read_bytes() for path in HERE.iterdir() if path.is_file()}
    done = subprocess.run(
        [sys.executable, str(HERE / "make.py"), RELEASES[-1]], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "never written again" in done.stderr
    assert {path.name: path.read_bytes() for path in HERE.iterdir() if path.is_file()} == before
