"""What waits for the voters is on disk before anyone counts on it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from workers.spool import Spool
from workqueue.machine.commands import ArtifactRef, Complete, Completion, Fail, Fault

NIL = msgspec.Raw(b"\xc0")
REF = ArtifactRef("a" * 64, 3, "shard")


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names of what was synced, and how many bytes it had then."""
    found: list[tuple[str, int]] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        found.append((Path(f"/proc/self/fd/{fd}").readlink().name, os.fstat(fd).st_size))

    monkeypatch.setattr(os, "fsync", fsync)
    return found


def test_an_end_is_synced_under_another_name_first(tmp_path: Path, synced: list[tuple[str, int]]) -> None:
    """Whole bytes, then the name, then the folder that holds the name: a power cut leaves all of it or nothing."""
    entry = Spool(tmp_path / "spool").open("job/1", 2, "square8_2p")
    entry.finish(Fail("w", "job/1", 2, "job.failed", Fault.PAYLOAD, "it failed", cursor=NIL))
    whole = (entry.folder / "end").stat().st_size
    assert synced == [("end.new", whole), (entry.folder.name, synced[-1][1])]
    assert [path.name for path in entry.folder.iterdir()] == ["end"]


def test_the_next_run_finds_ends_and_drops_the_rest(tmp_path: Path) -> None:
    """With the files that voters lack; an attempt without an end, or with a damaged one, is redone from its cursor."""
    spool = Spool(tmp_path / "spool")
    ended, cut, damaged = (spool.open(name, 1, "square8_2p") for name in ("a/b", "cut", "damaged"))
    lost = ArtifactRef("b" * 64, 3, "shard")
    ended.path(REF).write_bytes(b"abc")
    assert [ended.add(ref) for ref in (REF, REF, lost)] == [True, False, True]
    ended.finish(Complete("w", (Completion("a/b", 1, NIL),)))
    (damaged.folder / "end").write_bytes(b"\xff")
    again = Spool(tmp_path / "spool")
    [found] = again.recover()
    assert (found.job, found.attempt, found.config, found.refs) == ("a/b", 1, "square8_2p", [REF, lost])
    assert isinstance(found.end, Complete)
    assert found.end.completions[0].artifacts == (REF, lost)
    assert found.stored == {lost.sha256}
    assert again.size_bytes == 3
    assert not cut.folder.exists()
    assert not damaged.folder.exists()
    again.drop(found)
    assert not ended.folder.exists()
    assert again.entries == {}
