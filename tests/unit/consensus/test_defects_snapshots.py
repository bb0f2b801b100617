"""Defects of the library's snapshots on disk: each scenario shows the harm on it, and none on ours."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj.syncobj as library
import pytest
from pysyncobj.serializer import Serializer
from virtual import Killed, VirtualClock, World
from virtual_ours import Ours
from virtual_stock import Stock

from consensus import StorageCorrupt
from consensus.snapshot import ForkedChild, read_head
from consensus.storage import DiskStorage

WorldOf = Callable[..., World]


def test_defect_01_a_restart_keeps_what_follows_the_snapshot(world_of: WorldOf) -> None:
    """All are killed when a child has written its snapshot, unnoticed by its parent: the rest of the log goes."""
    world = world_of("abcde")
    leader = world.leader()
    world.write(range(20), leader)
    world.run(0.5)
    snapshot_unnoticed(world)
    acked = world.write(range(20, 50), leader)
    world.run(0.5)
    for name in world.names:
        world.kill(name)
    for name in world.names:
        world.start(name)
    leader = world.leader()
    world.run(2)
    lost = [a.value for a in acked if a.value not in world.values(leader)]
    assert lost == (list(range(20, 50)) if world.stock else [])


def snapshot_unnoticed(world: World) -> None:
    """Every voter's snapshot is on disk, and every voter believes that it is still written."""
    if isinstance(world, Stock):
        for voter in world.voters.values():
            state = {k: v for k, v in voter.__dict__.items() if k not in voter._SyncObj__properies | {"_world"}}
            before, last = voter._SyncObj__getEntries(voter.raftLastApplied - 1, 2)
            serializer = voter._SyncObj__serializer
            serializer.serialize(({"log": state["log"]}, last, before, set()), before[1])
            serializer.checkSerializing = lambda: (library.SERIALIZER_STATE.SERIALIZING, 0)
    elif isinstance(world, Ours):
        world.children_unnoticed = True
        for name in world.names:
            world.take_snapshot(name)


@pytest.mark.parametrize("step", range(1, 5))
def test_defect_01_a_kill_while_a_snapshot_is_published_loses_nothing(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Ours, killed between any two changes of names on disk while it publishes a snapshot and cuts its log."""
    world = Ours("a", tmp_path, clock)
    leader = world.leader()
    world.write(range(30), leader)
    world.children_unnoticed = True
    world.take_snapshot(leader)
    for value in range(30, 40):
        world.write([value], leader)
    changes = 0

    def change(original: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            nonlocal changes
            changes += 1
            if changes == step:
                raise Killed
            original(*arguments)

        return counted

    with monkeypatch.context() as patch:
        for name in ("rename", "remove", "sync_names"):
            patch.setattr(DiskStorage, name, change(getattr(DiskStorage, name)))
        world.children_unnoticed = False
        with pytest.raises(Killed):
            world.run(0.5)
    world.kill("a")
    world.start("a")
    world.leader()
    assert world.values("a") == list(range(40))


def test_defect_09_an_unreadable_snapshot_stops_the_voter(world_of: WorldOf, tmp_path: Path) -> None:
    """The library logs that it can't read its snapshot, and goes on to vote and lead with an empty state."""
    world = world_of("abc")
    leader = world.leader()
    world.write(range(100), leader)
    world.run(0.5)
    for name in world.names:
        world.take_snapshot(name)
    victim = next(n for n in world.names if n != leader)
    world.kill(victim)
    path = tmp_path / (f"{victim}.dump" if world.stock else f"{victim}/snapshot")
    os.truncate(path, path.stat().st_size // 2)
    if not world.stock:
        with pytest.raises(StorageCorrupt, match=r"cut short|corrupt"):
            world.start(victim)
        return
    world.start(victim)
    world.run(1)
    world.voters[leader].transferLeadership(victim)
    world.run(2)
    assert world.leads(victim)
    assert world.values(victim) == []


class _Slow:
    """Takes as long to pickle as a file is absent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        wait_for(self.path)
        return str, ("old",)


def wait_for(path: Path) -> None:
    for _ in range(1000):
        if path.exists():
            return
        time.sleep(0.005)


def test_defect_26_an_older_snapshot_never_replaces_a_newer_one(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's child, still writing when a newer snapshot is installed, renames its older one over it."""
    dump, go = tmp_path / "dump", tmp_path / "go"
    serializer = Serializer(str(dump), 1 << 16, True, None, None, None)
    serializer.serialize(_Slow(go), 20)
    serializer.setTransmissionData((b"newer", True, False))
    assert serializer.setTransmissionData((b"", False, True))
    assert dump.read_bytes() == b"newer"
    go.touch()
    while serializer.checkSerializing()[0] == library.SERIALIZER_STATE.SERIALIZING:
        time.sleep(0.005)
    assert dump.read_bytes() != b"newer"

    world = Ours("abc", tmp_path, clock)
    leader = world.leader()
    behind = next(n for n in world.names if n != leader)
    rest = [n for n in world.names if n != behind]
    world.write(range(10), leader)
    world.run(1)
    instant, world.spawn = world.spawn, ForkedChild
    never = tmp_path / "never"
    monkeypatch.setattr(world.voters[behind].machine, "snapshot", lambda: iter([wait_for(never) or b""]))
    world.take_snapshot(behind)
    child = world.voters[behind].snapshots._child._pid
    world.spawn = instant
    world.cut(behind, rest)
    world.write(range(10, 20), leader, only=rest)
    world.take_snapshot(leader)
    world.heal(behind, rest)
    assert world.until(lambda: len(world.values(behind)) == 20, 10)
    world.run(1)
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    storage = DiskStorage(tmp_path / behind)
    newest = read_head(storage)
    assert newest == read_head(DiskStorage(tmp_path / leader))
    assert "snapshot.writing" not in storage.names()
