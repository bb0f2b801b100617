"""The few file operations that durability rests on, so that a simulated disk may stand in for the real one."""

import os
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """An open file; every method may raise OSError."""

    def size(self) -> int:
        """Return the length in bytes."""
        ...

    def read(self, offset: int, count: int) -> bytes:
        """Return up to count bytes from offset; fewer only at the end."""
        ...

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Write all of data at offset; durable only after `sync`."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file; durable only after `sync`."""
        ...

    def sync(self) -> None:
        """Return when everything written is on disk."""
        ...

    def close(self) -> None:
        """Close; further use is an error."""
        ...


class Storage(Protocol):
    """One flat folder; creations, renames and removals are durable only after `sync_names`."""

    def open(self, name: str, *, create: bool = False) -> File:
        """Open for reading and writing; FileNotFoundError unless it exists or create is set."""
        ...

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file a new name, replacing whatever had it."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file; no error if there is none."""
        ...

    def sync_names(self) -> None:
        """Return when all changes of names are on disk."""
        ...


class DiskFile:
    """A file on the real disk."""

    def __init__(self, path: Path, *, create: bool, fsync: bool) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        self._fd = os.open(path, flags, 0o600)
        self._fsync = fsync

    def size(self) -> int:
        """Return the length in bytes."""
        return os.fstat(self._fd).st_size

    def read(self, offset: int, count: int) -> bytes:
        """Return up to count bytes from offset; fewer only at the end."""
        parts = []
        while count > 0:
            part = os.pread(self._fd, min(count, 1 << 30), offset)
            if not part:
                break
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return b"".join(parts)

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Write all of data at offset; durable only after `sync`."""
        with memoryview(data) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self._fd, view[done:], offset + done)

    def truncate(self, size: int) -> None:
        """Cut the file; durable only after `sync`."""
        os.ftruncate(self._fd, size)

    def sync(self) -> None:
        """Return when everything written is on disk."""
        if self._fsync:
            os.fdatasync(self._fd)

    def close(self) -> None:
        """Close; further use is an error."""
        os.close(self._fd)


class DiskStorage:
    """A folder on the real disk; with fsync off it forgets recent writes at a power cut (for measurements only)."""

    def __init__(self, folder: Path, *, fsync: bool = True) -> None:
        self._folder = folder
        self._fsync = fsync
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, name: str, *, create: bool = False) -> DiskFile:
        """Open for reading and writing; FileNotFoundError unless it exists or create is set."""
        return DiskFile(self._folder / name, create=create, fsync=self._fsync)

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(p.name for p in self._folder.iterdir() if p.is_file())

    def rename(self, old: str, new: str) -> None:
        """Give a file a new name, replacing whatever had it."""
        (self._folder / old).replace(self._folder / new)

    def remove(self, name: str) -> None:
        """Remove a file; no error if there is none."""
        (self._folder / name).unlink(missing_ok=True)

    def sync_names(self) -> None:
        """Return when all changes of names are on disk."""
        if not self._fsync:
            return
        fd = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_whole(storage: Storage, name: str) -> bytes | None:
    """Return a file's bytes, or None if there is no such file."""
    try:
        file = storage.open(name)
    except FileNotFoundError:
        return None
    try:
        return file.read(0, file.size())
    finally:
        file.close()


def replace_whole(storage: Storage, name: str, data: bytes) -> None:
    """Replace a small file: after this returns the new bytes survive a power cut; before, the old ones do."""
    temporary = name + ".new"
    storage.remove(temporary)
    file = storage.open(temporary, create=True)
    try:
        file.write(0, data)
        file.sync()
    finally:
        file.close()
    storage.rename(temporary, name)
    storage.sync_names()
