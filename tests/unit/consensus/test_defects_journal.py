"""Defects of the library's journal: each scenario shows the harm on it, and none on ours."""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj.journal as stock_journal
import pytest
from pysyncobj import SyncObjConf
from virtual import Killed, VirtualClock, World
from virtual_ours import Ours

from consensus import StorageCorrupt, StorageFailed
from consensus.journal import Journal, _parse
from consensus.storage import DiskStorage

WorldOf = Callable[..., World]


def filled(storage: DiskStorage, count: int, **fields: Any) -> Journal:
    journal = Journal(storage, **fields)
    journal.set_vote(3, "b")
    for index in range(2, count + 2):
        journal.append(b"payload-%03d" % index, index, 3)
        journal.sync()
    return journal


def stock_filled(path: Path, count: int) -> stock_journal.FileJournal:
    journal = stock_journal.FileJournal(str(path))
    for index in range(1, count + 1):
        journal.add(b"\0" + b"payload-%03d" % index * 5, index, 3)
    journal.setCurrentTerm(7, "b")
    return journal


def indices(journal: Journal) -> list[int]:
    return [entry[1] for entry in journal.slice(journal.base_index + 1, 1 << 30, 1 << 20)]


def test_defect_02_compaction_never_rewrites_the_live_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill inside the library's compaction, which writes the log anew in place, leaves a fifth of it."""
    path = tmp_path / "stock"
    journal = stock_filled(path, 1000)
    added = 0
    add = stock_journal.FileJournal.add

    def killed(*arguments: Any) -> None:
        nonlocal added
        added += 1
        if added == 100:
            raise Killed
        add(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(stock_journal.FileJournal, "add", killed)
        with pytest.raises(Killed):
            journal.deleteEntriesTo(500)
    assert len(stock_journal.FileJournal(str(path))) == 99

    remove = DiskStorage.remove
    for kill_at in range(1, 8):
        storage = DiskStorage(tmp_path / f"ours-{kill_at}")
        ours = filled(storage, 100, segment_bytes=500)
        removed = 0

        def killed_too(storage: DiskStorage, name: str, kill_at: int = kill_at) -> None:
            nonlocal removed
            removed += 1
            if removed == kill_at:
                raise Killed
            remove(storage, name)

        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(DiskStorage, "remove", killed_too)
            ours.compact(51)
        assert indices(Journal(storage, (51, 3))) == list(range(52, 102))
    assert removed == 4, "the last of them was not killed"


def test_defect_04_a_majority_has_it_on_disk_before_it_is_acknowledged(
    world_of: WorldOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library never waits for the disk, and takes an option to do so that it does not have."""
    synced = 0

    def counted(original: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            nonlocal synced
            synced += 1
            original(*arguments)

        return call

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "fdatasync", counted(os.fdatasync))
    monkeypatch.setattr(stock_journal.ResizableFile, "flush", counted(stock_journal.ResizableFile.flush))
    world = world_of("abc")
    leader = world.leader()
    world.run(2)
    for value in range(5):
        synced = 0
        world.write([value], leader)
        assert synced == 0 if world.stock else synced >= 2
    assert not hasattr(SyncObjConf(flushJournal=True), "flushJournal")


def test_defect_16_the_log_may_grow_beyond_four_gibibytes(tmp_path: Path) -> None:
    """At 4 GiB the library takes an entry into memory and then fails to write it."""
    path = tmp_path / "stock"
    journal = stock_journal.FileJournal(str(path))
    journal._FileJournal__currentOffset = 2**32 - 60
    os.truncate(path, 2**32 + 4096)
    journal._FileJournal__journalFile._ResizableFile__mm.resize(2**32 + 4096)
    with pytest.raises(struct.error):
        journal.add(b"x" * 100, 2, 1)
    assert len(journal) == 1
    path.unlink()

    ours = filled(DiskStorage(tmp_path / "ours"), 3, segment_bytes=1 << 40)
    segment = ours._segments[-1]
    segment.size = ours._written = ours._synced = 2**32 - 60
    ours.append(b"x" * 100, 5, 3)
    ours.sync()
    written = segment.file.read(2**32 - 60, 4096)
    assert _parse(written, 0) == ((b"x" * 100, 5, 3), 2**32 - 60)


@pytest.mark.parametrize("call", ["write", "sync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("who", ["leader", "follower"])
def test_defect_16_a_disk_that_refuses_stops_the_voter_first(
    tmp_path: Path, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch, call: str, code: int, who: str
) -> None:
    """Ours, at the first write or sync that fails: it acknowledges nothing more, and the others go on without it."""
    world = Ours("abc", tmp_path, clock)
    leader = world.leader()
    world.write(range(5), leader)
    broken = leader if who == "leader" else next(n for n in world.names if n != leader)
    rest = [n for n in world.names if n != broken]
    file = world.voters[broken].raft.journal._segments[-1].file

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(file, call, refuse)
    last = world.last_index(broken)
    asked = world.ask(leader, "x")
    world.run(0.3)
    assert isinstance(world.voters[broken].failure, StorageFailed)
    assert asked.heard == ("unknown" if who == "leader" else "done")
    world.kill(broken)
    world.write(["after"], world.leader(rest), only=rest)
    world.start(broken)
    world.leader()
    assert world.until(lambda: "after" in world.values(broken))
    assert world.last_index(broken) > last
    assert len({tuple(map(str, world.values(n))) for n in world.names}) == 1


def harm_stock(path: Path, how: str) -> None:
    end = struct.unpack("<I", path.read_bytes()[36:40])[0]
    match how:
        case "bit":
            data = bytearray(path.read_bytes())
            data[2000] ^= 0x40
            path.write_bytes(data)
        case "header":
            with path.open("r+b") as file:
                file.seek(36)
                file.write(struct.pack("<I", 40))
        case "tail":
            with path.open("r+b") as file:
                file.seek(end - 150)
                file.write(bytes(150))
        case "vote":
            os.truncate(f"{path}.meta", 0)


def harm_ours(folder: Path, how: str) -> None:
    path = next(folder.glob("log-*"))
    data = bytearray(path.read_bytes())
    match how:
        case "bit":
            data[2014] ^= 0x40  # in the data of an entry
        case "header":
            data[:48] = bytes(48)
        case "tail":
            end = len(data.rstrip(b"\0"))
            data[end - 20 : end] = bytes(20)
        case "vote":
            os.truncate(folder / "vote", 0)
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["bit", "header", "tail", "vote"])
def test_defect_17_what_is_read_is_what_was_written(tmp_path: Path, how: str) -> None:
    """A flipped bit is taken for data, a lost page for an empty log, a lost vote for none, a torn tail for the end."""
    stock_filled(tmp_path / "stock", 100)._destroy()
    harm_stock(tmp_path / "stock", how)
    if how == "tail":
        with pytest.raises(struct.error):
            stock_journal.FileJournal(str(tmp_path / "stock"))
    else:
        journal = stock_journal.FileJournal(str(tmp_path / "stock"))
        assert len(journal) == (0 if how == "header" else 100)
        wrong = [e for e in journal[:] if e[0] != b"\0" + b"payload-%03d" % e[1] * 5]
        assert len(wrong) == (1 if how == "bit" else 0)
        assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == ((0, None) if how == "vote" else (7, "b"))

    filled(DiskStorage(tmp_path / "ours"), 100)
    harm_ours(tmp_path / "ours", how)
    if how == "tail":
        assert indices(Journal(DiskStorage(tmp_path / "ours"))) == list(range(2, 101))
    else:
        with pytest.raises(StorageCorrupt, match="replace this voter"):
            Journal(DiskStorage(tmp_path / "ours"))
