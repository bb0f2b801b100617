"""Snapshots: a checksummed file written by a forked child, published by the parent, streamed to a lagging voter.

File = magic, then frames of (length, crc, bytes): the head, the machine's chunks compressed, and an empty frame
followed by the SHA-256 of all that precedes. The head carries the machine's digest, checked after every restore.
"""

import hashlib
import os
import signal
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec

from consensus.errors import StorageCorrupt
from consensus.machine import StateMachine
from consensus.storage import File, Storage

SNAPSHOT = "snapshot"
WRITING = "snapshot.writing"
INCOMING = "snapshot.incoming"
MAGIC = b"SNAPSHT1"
_FRAME = struct.Struct("<II")  # length, crc
_MAX_FRAME = 1 << 30


class SnapshotHead(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot is a snapshot of."""

    index: int
    term: int
    cluster_id: str
    voters: dict[str, str]  # node id -> address, as of index
    now_ms: int  # time of the last entry applied
    digest: bytes


class Child(Protocol):
    """Work going on beside the voter."""

    def poll(self) -> bool | None:
        """Return None while it runs, then whether it succeeded."""
        ...

    def kill(self) -> None:
        """End it and wait for its end."""
        ...


Spawn = Callable[[Callable[[], None]], Child]


class ForkedChild:
    """A copy of this single-threaded process that runs one function and exits."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._pid = os.fork()
        if self._pid == 0:
            _run_in_child(work)

    def poll(self) -> bool | None:
        """Return None while it runs, then whether it succeeded."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        return None if pid == 0 else status == 0

    def kill(self) -> None:
        """End it and wait for its end."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _run_in_child(work: Callable[[], None]) -> None:
    code = 1
    try:
        for fd in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 - the child must hold no socket of its parent
            if fd > 2:
                _close_quietly(fd)
        os.nice(10)
        work()
        code = 0
    except BaseException as error:  # noqa: BLE001 - the top of a process
        sys.stderr.write(f"snapshot child: {error!r}\n")
    finally:
        os._exit(code)


def _close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def write_snapshot(storage: Storage, name: str, head: SnapshotHead, chunks: Iterable[bytes]) -> None:
    """Write a snapshot file and wait until it is on disk."""
    storage.remove(name)
    file = storage.open(name, create=True)
    checksum = hashlib.sha256()
    at = 0

    def put(data: bytes) -> None:
        nonlocal at
        file.write(at, data)
        checksum.update(data)
        at += len(data)

    try:
        put(MAGIC)
        put(_frame(msgspec.msgpack.encode(head)))
        for chunk in chunks:
            put(_frame(zlib.compress(chunk, 1)))
        put(_FRAME.pack(0, 0))
        file.write(at, checksum.digest())
        file.sync()
    finally:
        file.close()


def read_head(storage: Storage, name: str = SNAPSHOT) -> SnapshotHead | None:
    """Return the head of a snapshot, or None if there is none."""
    try:
        file = storage.open(name)
    except FileNotFoundError:
        return None
    try:
        return _decode_head(next(_frames(file, name)), name)
    finally:
        file.close()


def verify_snapshot(storage: Storage, name: str = SNAPSHOT) -> SnapshotHead:
    """Read a whole snapshot and return its head; StorageCorrupt if any byte is wrong."""
    file = storage.open(name)
    try:
        frames = _frames(file, name)
        head = _decode_head(next(frames), name)
        for frame in frames:
            _inflate(frame, name)
        return head
    finally:
        file.close()


def restore_snapshot(storage: Storage, machine: StateMachine, name: str = SNAPSHOT) -> SnapshotHead:
    """Restore the machine from a snapshot verified to the last byte and by the machine's own digest."""
    head = verify_snapshot(storage, name)
    file = storage.open(name)
    try:
        frames = _frames(file, name)
        next(frames)
        machine.restore(_inflate(frame, name) for frame in frames)
    finally:
        file.close()
    if machine.digest() != head.digest:
        raise StorageCorrupt(f"{name}: the restored state has another digest than the one recorded")
    return head


def start_snapshot(storage: Storage, spawn: Spawn, machine: StateMachine, head: SnapshotHead) -> Child:
    """Begin to write the machine's present state beside the voter, under a name that only the parent publishes."""
    return spawn(lambda: write_snapshot(storage, WRITING, head, machine.snapshot()))


def publish(storage: Storage, name: str) -> None:
    """Make a complete, synced file the snapshot, atomically and durably."""
    storage.rename(name, SNAPSHOT)
    storage.sync_names()


def snapshot_path(folder: Path) -> Path:
    """Return where a voter's snapshot lies."""
    return folder / SNAPSHOT


def _frame(data: bytes) -> bytes:
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def _frames(file: File, name: str) -> Iterator[bytes]:
    """Yield the frames of a file, the last only if the checksum of the whole is right."""
    checksum = hashlib.sha256()
    at = len(MAGIC)
    start = file.read(0, at)
    if start != MAGIC:
        raise StorageCorrupt(f"{name}: not a snapshot of this version")
    checksum.update(start)
    while True:
        head = file.read(at, _FRAME.size)
        if len(head) < _FRAME.size:
            raise StorageCorrupt(f"{name}: cut short at byte {at}")
        checksum.update(head)
        length, crc = _FRAME.unpack(head)
        at += _FRAME.size
        if length == 0:
            if file.read(at, 32) != checksum.digest() or file.size() != at + 32:
                raise StorageCorrupt(f"{name}: checksum of the whole file is wrong")
            return
        data = file.read(at, min(length, _MAX_FRAME))
        if len(data) < length or zlib.crc32(data) != crc:
            raise StorageCorrupt(f"{name}: corrupt at byte {at}")
        checksum.update(data)
        at += length
        yield data


def _decode_head(data: bytes, name: str) -> SnapshotHead:
    try:
        return msgspec.msgpack.decode(data, type=SnapshotHead)
    except msgspec.DecodeError as error:
        raise StorageCorrupt(f"{name}: unreadable head ({error})") from error


def _inflate(data: bytes, name: str) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error as error:
        raise StorageCorrupt(f"{name}: unreadable chunk ({error})") from error
