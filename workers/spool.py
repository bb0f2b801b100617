"""Ends of attempts and the files they need, on disk until voters have them.

An entry is a folder `job@attempt` (the job's id quoted): files named by their SHA-256 as the runner published them, and
`end` once the attempt has ended. What has an end survives a restart of the agent; what has none was cut short and is
dropped then, because the job is redone from its cursor.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

from workqueue.machine.commands import ArtifactRef, Complete, Fail, Release

if TYPE_CHECKING:
    from pathlib import Path

_encode = msgspec.msgpack.Encoder().encode


class Ended(msgspec.Struct, frozen=True):
    """The file `end`."""

    config: str
    refs: list[ArtifactRef]
    end: Complete | Fail | Release


class Entry:
    """One attempt's folder."""

    def __init__(self, folder: Path) -> None:
        job, _, attempt = folder.name.rpartition("@")
        self.folder = folder
        self.job = unquote(job)
        self.attempt = int(attempt)
        self.refs: list[ArtifactRef] = []
        self.stored: set[str] = set()  # sha256 of files that voters hold
        self.end: Complete | Fail | Release | None = None
        self.config = ""

    def path(self, ref: ArtifactRef) -> Path:
        """The file of a reference; gone once it is stored."""
        return self.folder / ref.sha256

    def add(self, ref: ArtifactRef) -> bool:
        """Note a published file, which is whole and synced; False when it was known."""
        if any(known.sha256 == ref.sha256 for known in self.refs):
            return False
        self.refs.append(ref)
        return True

    def finish(self, end: Complete | Fail | Release) -> None:
        """Put the end of the attempt on disk, with the artifacts of its files when it is a completion; blocks."""
        if isinstance(end, Complete):
            [completion] = end.completions
            end = Complete(end.worker, (msgspec.structs.replace(completion, artifacts=tuple(self.refs)),))
        self.end = end
        _write(self.folder / "end", _encode(Ended(self.config, self.refs, end)))


_ENDED = msgspec.msgpack.Decoder(Ended)


class Spool:
    """All entries."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.entries: dict[tuple[str, int], Entry] = {}

    def open(self, job: str, attempt: int, config: str) -> Entry:
        """The entry of an attempt, made when it is new."""
        entry = self.entries.get((job, attempt))
        if entry is None:
            folder = self._folder / f"{quote(job, safe='')}@{attempt}"
            folder.mkdir(exist_ok=True)
            entry = self.entries[job, attempt] = Entry(folder)
            entry.config = config
        return entry

    def recover(self) -> list[Entry]:
        """Entries that an earlier run of the agent left with an end, oldest first; the others are dropped."""
        found = []
        for folder in sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime):
            entry = _load(folder)
            if entry is None:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                self.entries[entry.job, entry.attempt] = entry
                found.append(entry)
        return found

    def drop(self, entry: Entry) -> None:
        """Forget an entry and its files."""
        self.entries.pop((entry.job, entry.attempt), None)
        shutil.rmtree(entry.folder, ignore_errors=True)

    @property
    def size_bytes(self) -> int:
        """Bytes of files that wait."""
        return sum(
            ref.size_bytes for entry in self.entries.values() for ref in entry.refs if ref.sha256 not in entry.stored
        )


def _load(folder: Path) -> Entry | None:
    try:
        entry = Entry(folder)
        ended = _ENDED.decode((folder / "end").read_bytes())
    except (OSError, ValueError):  # msgspec's errors are ValueErrors
        return None
    entry.config, entry.refs, entry.end = ended.config, ended.refs, ended.end
    entry.stored = {ref.sha256 for ref in entry.refs if not entry.path(ref).exists()}
    return entry


def _write(path: Path, data: bytes) -> None:
    """Replace a file as a whole; it and its name are synced."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
