"""The journal: what was synced reads back, a torn tail is cut, anything else is refused."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.errors import InvariantBroken, StorageCorrupt
from consensus.journal import Journal
from consensus.simulation.disk import SimulatedDisk
from consensus.storage import DiskStorage

FIRST = 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def journal_of(folder: Path, *, preallocate_bytes: int = 0, **fields: int) -> Journal:
    return Journal(DiskStorage(folder), preallocate_bytes=preallocate_bytes, **fields)


def filled(folder: Path, count: int = 20, **fields: int) -> Journal:
    journal = journal_of(folder, **fields)
    journal.set_vote(3, "v1")
    for index in range(FIRST, FIRST + count):
        journal.append(b"entry-%d" % index, index, 3)
        journal.sync()
    return journal


def entries(journal: Journal) -> list[bytes]:
    return [entry[0] for entry in journal.slice(journal.base_index + 1, 1 << 30, 1 << 20)]


def segment(folder: Path) -> Path:
    return sorted(folder.glob("log-*"))[-1]


def test_what_was_synced_reads_back(folder: Path) -> None:
    """Entries, terms and the vote, after a crash without closing anything."""
    before = entries(filled(folder))
    again = journal_of(folder)
    assert entries(again) == before
    assert (again.term, again.vote, again.last_term) == (3, "v1", 3)


@pytest.mark.parametrize("cut", [1, 7, 30, 40])
def test_a_torn_tail_is_cut(folder: Path, cut: int) -> None:
    """The last record was not whole: nobody had been told of it."""
    filled(folder)
    path = segment(folder)
    data = path.read_bytes()
    path.write_bytes(data[:-cut])
    again = journal_of(folder)
    assert len(entries(again)) == 19
    again.append(b"next", again.last_index + 1, 3)
    again.sync()
    assert entries(journal_of(folder))[-1] == b"next"


def test_zeros_ahead_are_no_entries(folder: Path) -> None:
    """Syncs write into space that is there already; a restart goes on behind the last record, in the same space."""
    journal = filled(folder, preallocate_bytes=4096)
    size = segment(folder).stat().st_size
    again = journal_of(folder, preallocate_bytes=4096)
    assert entries(again) == entries(journal)
    again.append(b"next", again.last_index + 1, 3)
    again.sync()
    assert segment(folder).stat().st_size == size
    assert entries(journal_of(folder))[-2:] == [b"entry-21", b"next"]


@pytest.mark.parametrize("lost", [1, 20, 43])
def test_a_tail_torn_before_zeros_is_cut(folder: Path, lost: int) -> None:
    """The end, or all but the first byte, of the last record never reached the disk; zeros are in its place."""
    filled(folder, preallocate_bytes=4096)
    path = segment(folder)
    written = path.read_bytes().rstrip(b"\0")
    torn = written[:-lost] + bytes(lost)
    path.write_bytes(torn + bytes(1000))
    again = journal_of(folder, preallocate_bytes=4096)
    assert entries(again)[-1] == b"entry-20"
    again.append(b"next", again.last_index + 1, 3)
    again.sync()
    assert entries(journal_of(folder))[-2:] == [b"entry-20", b"next"]


def test_only_the_newest_segment_has_zeros_ahead(folder: Path) -> None:
    """A full segment ends with its last record; zeros where records were are corruption."""
    filled(folder, 40, segment_bytes=300, preallocate_bytes=4096)
    first, *_, last = sorted(folder.glob("log-*"))
    assert len(first.read_bytes().rstrip(b"\0")) == first.stat().st_size < 600
    assert last.stat().st_size > 4096
    with first.open("ab") as file:
        file.write(bytes(100))
    with pytest.raises(StorageCorrupt, match="replace this voter"):
        journal_of(folder, segment_bytes=300)


@pytest.mark.parametrize("at", [5, 30, 200, 400])
def test_a_changed_byte_in_synced_entries_is_refused(folder: Path, at: int) -> None:
    """Acknowledged data that does not read back stops the voter, with what to do."""
    filled(folder)
    path = segment(folder)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(StorageCorrupt, match="replace this voter"):
        journal_of(folder)


def test_a_corrupt_or_lost_vote_is_refused(folder: Path) -> None:
    """A voter that forgot its vote could vote twice in one term."""
    filled(folder)
    vote = folder / "vote"
    data = bytearray(vote.read_bytes())
    data[-1] ^= 1
    vote.write_bytes(data)
    with pytest.raises(StorageCorrupt, match="vote file is corrupt"):
        journal_of(folder)
    vote.unlink()
    with pytest.raises(StorageCorrupt, match="vote file was lost"):
        journal_of(folder)


def test_compaction_keeps_what_follows(folder: Path) -> None:
    """Only whole segments go, and the entries behind the base stay."""
    journal = filled(folder, 40, segment_bytes=300)
    files = len(list(folder.glob("log-*")))
    journal.compact(25)
    assert len(list(folder.glob("log-*"))) < files
    assert journal.base_index == 25
    again = Journal(DiskStorage(folder), (25, 3), segment_bytes=300)
    assert entries(again) == [b"entry-%d" % index for index in range(26, FIRST + 40)]


def test_a_missing_segment_is_refused(folder: Path) -> None:
    """A hole in the log is corruption."""
    filled(folder, 40, segment_bytes=300)
    sorted(folder.glob("log-*"))[1].unlink()
    with pytest.raises(StorageCorrupt, match="missing"):
        journal_of(folder, segment_bytes=300)


def test_truncation_is_durable(folder: Path) -> None:
    """What conflicted is gone after a crash too; the base cannot be cut."""
    journal = filled(folder)
    journal.truncate(10)
    assert len(entries(journal_of(folder))) == 8
    with pytest.raises(InvariantBroken):
        journal.truncate(1)


def test_entries_must_follow_each_other(folder: Path) -> None:
    """A gap or an older term is a broken invariant, not data."""
    journal = filled(folder)
    with pytest.raises(InvariantBroken):
        journal.append(b"x", journal.last_index + 2, 3)
    with pytest.raises(InvariantBroken):
        journal.append(b"x", journal.last_index + 1, 2)


def test_a_disk_that_refuses_a_sync_raises(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error reaches the caller, who must not acknowledge anything more."""
    journal = filled(folder)
    journal.append(b"x", journal.last_index + 1, 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdatasync", full)
    with pytest.raises(OSError, match="No space left"):
        journal.sync()


@settings(deadline=None)  # it waits for the disk
@given(st.lists(st.binary(max_size=50), max_size=30), st.data())
def test_any_cut_leaves_a_prefix(
    tmp_path_factory: pytest.TempPathFactory, commands: list[bytes], data: st.DataObject
) -> None:
    """Wherever an unsynced file is cut, what is left is a prefix of what was written."""
    folder = tmp_path_factory.mktemp("journal")
    journal = journal_of(folder)
    journal.set_vote(1, "v1")
    for k, command in enumerate(commands):
        journal.append(command, FIRST + k, 1)
    journal.sync()
    path = segment(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    left = entries(journal_of(folder))
    assert left == commands[: len(left)]


@pytest.mark.parametrize("start", [10, 11, 12, 13, 14, 15, 16])
def test_truncation_around_segment_borders_keeps_what_precedes(folder: Path, start: int) -> None:
    """Whole segments are dropped and the one before them stays whole, or is cut where the entry begins."""
    journal = journal_of(folder)
    journal.set_vote(3, "v1")
    for index in range(FIRST, 20):
        if index in (11, 12, 15):
            journal.rotate()
        journal.append(b"entry-%d" % index, index, 3)
    journal.truncate(start)
    journal.append(b"other", start, 3)
    journal.sync()
    kept = [b"entry-%d" % i for i in range(FIRST, start)] + [b"other"]
    assert entries(journal) == kept
    assert entries(journal_of(folder)) == kept


def test_what_a_failed_sync_left_in_the_cache_is_written_again() -> None:
    """After a failed sync Linux shows the bytes but holds them for written: they must not be taken for durable."""
    disk = SimulatedDisk(random.Random(1), lambda _seconds: None)
    journal = Journal(disk)
    journal.set_vote(3, "v1")
    journal.append(b"first", FIRST, 3)
    journal.sync()
    disk.broken = True
    journal.append(b"second", FIRST + 1, 3)
    with pytest.raises(OSError, match="simulated"):
        journal.sync()
    disk.killed()
    assert entries(Journal(disk)) == [b"first", b"second"]
    disk.power_cut()
    assert entries(Journal(disk)) == [b"first", b"second"]


def test_an_empty_segment_that_a_crash_left_takes_no_entries(folder: Path) -> None:
    """The power fails while a log is dropped for a snapshot, and its empty file is still there afterwards."""
    empty = journal_of(folder)
    empty.set_vote(2, None)
    empty.close()
    snapshot = (140, 2)
    journal = Journal(DiskStorage(folder), snapshot)
    journal.append(b"after", 141, 2)
    journal.sync()
    journal.close()
    assert entries(Journal(DiskStorage(folder), snapshot)) == [b"after"]
