"""Bytes by their SHA-256: kept on a voter's disk, or in an S3-compatible store that all voters share.

An upload grows a partial file; only when its bytes have the digest that names them are they synced and renamed to their
place, so whatever has a name is whole. An interrupted upload goes on at the length of the partial file.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import structlog

from config.errors import AppError
from workqueue.blocks import BLOCK_BYTES
from workqueue.errors import CorruptArtifact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from workqueue.blocks import Block

log = structlog.get_logger()
SYNC_BYTES = 16 << 20
_PIECE_BYTES = 512 << 10  # of a write: for larger ones the kernel looks for large free pages, which takes long
LEFT_S = 86_400.0  # an upload that nobody goes on with for so long is dropped
SWEEP_S = 3_600.0
_NAME = re.compile(r"[0-9a-f]{64}")


class StoreError(AppError):
    """The store refuses; `status` is the HTTP status that says so."""

    status = 500


class StoreFull(StoreError):
    """No room: the quota is used up or the disk would fall below its floor."""

    status = 507


class OffsetMismatch(StoreError):
    """An upload must go on at `offset`."""

    status = 409

    def __init__(self, offset: int) -> None:
        super().__init__(f"the upload has {offset} bytes so far; go on there")
        self.offset = offset


class Superseded(StoreError):
    """A newer connection uploads the same bytes."""

    status = 409


def is_name(sha256: str) -> bool:
    """Whether this is a SHA-256 in lower-case hexadecimal."""
    return _NAME.fullmatch(sha256) is not None


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes; blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ArtifactStore(Protocol):
    """Where a voter keeps bytes; `shared` when all voters see the same ones."""

    shared: bool

    async def size(self, sha256: str) -> int | None:
        """Size in bytes of what is stored under this name, None when nothing is."""

    async def offset(self, sha256: str) -> int:
        """Bytes of an unfinished upload."""

    async def begin(self, sha256: str, size: int, offset: int) -> Upload:
        """Go on with an upload; raises OffsetMismatch or StoreFull."""

    async def commit(self, sha256: str) -> None:
        """Bring verified bytes to where they stay; may be asked again."""

    async def room(self, sha256: str, size: int) -> Path:
        """Where a copy of `size` bytes may be written that `adopt` then takes in; raises StoreFull."""

    def adopt(self, path: Path, sha256: str) -> None:
        """Give a file of verified, synced bytes its name; blocks."""

    def local(self, sha256: str) -> Path | None:
        """The file that holds these bytes, None when they are not in a file of this machine."""

    def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `end` (not included)."""

    async def verify(self, sha256: str) -> bool:
        """Read the bytes back and compare them with their name; bytes that differ are deleted."""

    async def delete(self, sha256: str) -> None:
        """Forget these bytes."""

    async def inventory(self) -> dict[str, int]:
        """Size of every artifact by name."""

    def sweep(self, older_than_s: float, now_s: float) -> list[str]:
        """Drop what was begun and left on this voter's disk for long; returns the names; blocks."""

    def usage(self) -> dict[str, int]:
        """Say what of this voter's disk is used and may be used."""


class Upload:
    """One connection's part of an upload. Its methods block: call them in a thread, one at a time."""

    def __init__(self, store: DiskStore, sha256: str, size: int, offset: int) -> None:
        self._store = store
        self._sha256 = sha256
        self._size = size
        self._hash = hashlib.sha256()
        self._path = store.partial(sha256)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("r+b" if offset else "wb")
        self.offset = 0
        self._resume = offset
        self._synced = offset
        self._syncer = ThreadPoolExecutor(1, "sync")
        self._syncing: Future[None] | None = None
        self.superseded = False

    def prepare(self) -> None:
        """Digest what earlier connections have sent."""
        while self.offset < self._resume:
            block = self._file.read(min(BLOCK_BYTES, self._resume - self.offset))
            if not block:
                raise OffsetMismatch(self.offset)
            self._hash.update(block)
            self.offset += len(block)

    def write(self, block: Block) -> None:
        """Append bytes; raises Superseded, StoreFull, or StoreError when there are more than announced."""
        if self.superseded:
            raise Superseded("another connection uploads the same bytes")
        if self.offset + len(block) > self._size:
            self._store.discard(self._sha256)
            raise StoreError(f"more bytes than the {self._size} announced")
        try:
            for at in range(0, len(block), _PIECE_BYTES):
                self._file.write(block[at : at + _PIECE_BYTES])
            self._file.flush()
        except OSError as error:
            self._file.truncate(self.offset)
            raise StoreFull(f"the disk cannot take more: {error.strerror}") from error
        self.offset += len(block)
        self._sync_ahead()

    def digest(self, block: Block) -> None:
        """Digest bytes; apart from `write`, so that a thread of its own does it."""
        self._hash.update(block)

    def _sync_ahead(self) -> None:
        """Have what was written reach the disk while more arrives, so that little is left for the end; never waits."""
        if self.offset - self._synced < SYNC_BYTES or (self._syncing and not self._syncing.done()):
            return
        self._check_synced()
        self._synced = self.offset
        self._syncing = self._syncer.submit(self._sync_apart, os.dup(self._file.fileno()))

    def _sync_apart(self, fd: int) -> None:
        """Sync by a descriptor of one's own, so that the file may be closed meanwhile."""
        try:
            self._sync(os.fdatasync, fd)
        finally:
            os.close(fd)

    def _sync(self, sync: Callable[[int], None], fd: int) -> None:
        """Have bytes reach the disk; those that do not must all come again, because the system tells that only once."""
        try:
            sync(fd)
        except OSError as error:
            self._store.discard(self._sha256)
            raise StoreError(f"the disk did not keep the bytes ({error.strerror}); send them again") from error

    def _check_synced(self) -> None:
        """Wait for a sync and raise its error."""
        if self._syncing:
            self._syncing.result()

    def finish(self) -> bool:
        """Give whole and right bytes their name; False when some are still to come.

        Raises CorruptArtifact, and StoreError when the disk does not keep them.
        """
        if self.offset < self._size:
            return False
        if self._hash.hexdigest() != self._sha256:
            self.close()
            self._store.discard(self._sha256)
            raise CorruptArtifact(self._sha256)
        self._check_synced()
        self._sync(os.fsync, self._file.fileno())
        self.close()
        self._store.adopt(self._path, self._sha256)
        return True

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to be written by this connection."""
        return 0 if self._file.closed else self._size - self.offset

    def close(self) -> None:
        """Keep what was written for a later connection."""
        self._file.close()
        self._syncer.shutdown(wait=False)


class DiskStore:
    """Artifacts in a folder: `objects/ab/abcd…` whole and `partial/abcd…` growing."""

    shared = False

    def __init__(self, root: Path, *, quota_bytes: int, floor_bytes: int) -> None:
        self._objects = root / "objects"
        self._partial = root / "partial"
        self._quota = quota_bytes
        self._floor = floor_bytes
        self._writers: dict[str, Upload] = {}
        for folder in (self._objects, self._partial):
            folder.mkdir(parents=True, exist_ok=True)
        self._used = sum(size for _, size in self._scan())

    @property
    def used_bytes(self) -> int:
        """Bytes of whole artifacts."""
        return self._used

    def path(self, sha256: str) -> Path:
        """Where these bytes are, or would be."""
        return self._objects / sha256[:2] / sha256

    def partial(self, sha256: str) -> Path:
        """Where these bytes grow while they are uploaded."""
        return self._partial / sha256

    def local(self, sha256: str) -> Path | None:
        """The file of whole bytes."""
        path = self.path(sha256)
        return path if path.exists() else None

    async def size(self, sha256: str) -> int | None:
        """Size of whole bytes."""
        path = self.local(sha256)
        return path.stat().st_size if path else None

    async def offset(self, sha256: str) -> int:
        """Bytes of an unfinished upload."""
        path = self.partial(sha256)
        return path.stat().st_size if path.exists() else 0

    async def begin(self, sha256: str, size: int, offset: int) -> Upload:
        """Go on with an upload; a connection that was at it is superseded."""
        held = await self.offset(sha256)
        if held > size:
            self.discard(sha256)
            held = 0
        if offset not in {0, held}:
            raise OffsetMismatch(held)
        self._make_room(size - held, sha256)
        if older := self._writers.get(sha256):
            older.superseded = True
        upload = self._writers[sha256] = Upload(self, sha256, size, offset)
        await asyncio.to_thread(upload.prepare)
        return upload

    async def commit(self, sha256: str) -> None:
        """They are in their place already."""

    async def room(self, sha256: str, size: int) -> Path:
        """Where a copy from another voter may be written."""
        self._make_room(size)
        return self._partial / f"{sha256}.copy"

    def adopt(self, path: Path, sha256: str) -> None:
        """Rename verified, synced bytes to their place and sync the folder."""
        target = self.path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        new = not target.exists()
        size = path.stat().st_size
        path.rename(target)
        _sync_folder(target.parent)
        self._used += size if new else 0
        self._writers.pop(sha256, None)

    def discard(self, sha256: str) -> None:
        """Drop an unfinished upload."""
        self.partial(sha256).unlink(missing_ok=True)
        self._writers.pop(sha256, None)

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `end`."""
        with self.path(sha256).open("rb") as file:
            file.seek(start)
            while start < end:
                block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, end - start))
                if not block:
                    return
                start += len(block)
                yield block

    async def verify(self, sha256: str) -> bool:
        """Read the bytes back; those that are not what their name says are deleted."""
        path = self.local(sha256)
        if path is None:
            return False
        if await asyncio.to_thread(digest_file, path) == sha256:
            return True
        await self.delete(sha256)
        return False

    async def delete(self, sha256: str) -> None:
        """Forget whole bytes."""
        path = self.local(sha256)
        if path:
            self._used -= path.stat().st_size
            path.unlink(missing_ok=True)

    async def inventory(self) -> dict[str, int]:
        """Size of every whole artifact by name."""
        return await asyncio.to_thread(lambda: dict(self._scan()))

    def sweep(self, older_than_s: float, now_s: float) -> list[str]:
        """Drop unfinished uploads that nobody has touched for long; returns their names."""
        old = [name for name, (_, changed_s) in self._unfinished().items() if now_s - changed_s > older_than_s]
        for name in old:
            self.discard(name)
        return old

    def sweep_whole(self, older_than_s: float, now_s: float) -> list[str]:
        """Drop whole artifacts that are old, where this folder is only a stage on the way elsewhere."""
        old = [path for path in self._objects.glob("??/*") if now_s - path.stat().st_mtime > older_than_s]
        for path in old:
            self._used -= path.stat().st_size
            path.unlink(missing_ok=True)
        return [path.name for path in old]

    def usage(self) -> dict[str, int]:
        """Bytes of whole artifacts and of unfinished uploads, and the quota."""
        unfinished = sum(size for size, _ in self._unfinished().values())
        return {"used_bytes": self._used, "unfinished_bytes": unfinished, "quota_bytes": self._quota}

    def _unfinished(self) -> dict[str, tuple[int, float]]:
        """Size and time of the last change of every partial file."""
        found = {}
        for path in self._partial.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it became whole at this moment
                stat = path.stat()
                found[path.name] = (stat.st_size, stat.st_mtime)
        return found

    def _scan(self) -> Iterator[tuple[str, int]]:
        for path in self._objects.glob("??/*"):
            if is_name(path.name):
                yield path.name, path.stat().st_size

    def _make_room(self, more: int, own: str = "") -> None:
        """Refuse what would not fit beside all that is whole, unfinished or on its way here."""
        taken = self._used + sum(size for size, _ in self._unfinished().values())
        taken += sum(upload.missing_bytes for name, upload in self._writers.items() if name != own)
        if taken + more > self._quota:
            raise StoreFull(
                f"the quota of {self._quota >> 20} MB is used up; raise store.quota_mb or collect artifacts"
            )
        if shutil.disk_usage(self._objects).free - more < self._floor:
            raise StoreFull(
                f"less than {self._floor >> 20} MB of disk would be left; free some or lower store.floor_mb"
            )


async def keep_swept(store: ArtifactStore) -> None:
    """Drop what was begun and left, for ever."""
    while True:
        if gone := await asyncio.to_thread(store.sweep, LEFT_S, time.time_ns() / 1e9):
            log.info("artifacts.swept", count=len(gone))
        await asyncio.sleep(SWEEP_S)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
