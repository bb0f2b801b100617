"""A disk that keeps what was synced, and of the rest whatever chance leaves after a power cut."""

import errno
import random
from collections.abc import Callable

SECTOR = 512
Change = tuple[int, bytes] | int  # a write at an offset, or a truncation to a size


class PowerLost(BaseException):
    """The voter ends here, in the middle of what it did; not an Exception, so that nothing handles it."""


class _Inode:
    """A file's bytes as programs see them, and as they are on the platter."""

    def __init__(self) -> None:
        self.seen = bytearray()
        self.durable = bytearray()
        self.pending: list[Change] = []

    def settle(self, chance: random.Random) -> None:
        """Keep the synced bytes and a chance part of what was written since; sectors survive or not one by one."""
        fate = chance.choice(("all", "none", "some"))
        for change in self.pending:
            if fate == "all":
                _apply(self.durable, change)
            elif fate == "some":
                _apply_some(self.durable, change, chance)
        self.pending = []


def _apply(data: bytearray, change: Change) -> None:
    if isinstance(change, int):
        del data[change:]
        return
    offset, written = change
    if len(data) < offset:
        data.extend(bytes(offset - len(data)))
    data[offset : offset + len(written)] = written


def _apply_some(data: bytearray, change: Change, chance: random.Random) -> None:
    if isinstance(change, int):
        if chance.random() < 0.5:
            _apply(data, change)
        return
    offset, written = change
    at = 0
    while at < len(written):
        end = min(len(written), at + SECTOR - (offset + at) % SECTOR)
        if chance.random() < 0.6:
            _apply(data, (offset + at, written[at:end]))
        at = end


class SimulatedDisk:
    """A `Storage`: one flat folder; file systems journal names in order, so after a power cut a prefix of them holds.

    `full` refuses writes (after a part of them), `broken` refuses syncs and forgets what they were to keep,
    `crash_in` cuts the power after so many operations. `spend` is told the seconds that a sync takes.
    """

    def __init__(self, chance: random.Random, spend: Callable[[float], None]) -> None:
        self.chance = chance
        self.spend = spend
        self.full = False
        self.broken = False
        self.slowness = 1.0
        self.crash_in: int | None = None
        self._off = False
        self._names: dict[str, _Inode] = {}
        self._durable_names: dict[str, _Inode] = {}
        self._pending_names: list[dict[str, _Inode]] = []

    # ---- faults

    def step(self) -> None:
        """Count an operation; the power may fail just before it."""
        if self.crash_in is not None:
            self.crash_in -= 1
            self._off = self._off or self.crash_in < 0
        if self._off:
            raise PowerLost

    def killed(self) -> None:
        """The process ended; the operating system keeps every byte."""
        self._heal()

    def power_cut(self) -> None:
        """Everything that was not synced is lost, kept or torn."""
        states = [self._durable_names, *self._pending_names]
        self._names = dict(self.chance.choice(states))
        self._durable_names, self._pending_names = dict(self._names), []
        inodes = sorted(self._names.items())
        for _, inode in inodes:
            inode.settle(self.chance)
            inode.seen = bytearray(inode.durable)
        self._heal()

    def _heal(self) -> None:
        self.full = self.broken = self._off = False
        self.slowness = 1.0
        self.crash_in = None

    # ---- Storage

    def open(self, name: str, *, create: bool = False) -> "SimulatedFile":
        """Open for reading and writing; FileNotFoundError unless it exists or create is set."""
        self.step()
        if name not in self._names:
            if not create:
                raise FileNotFoundError(name)
            self._names[name] = _Inode()
            self._changed()
        return SimulatedFile(self, self._names[name])

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted(self._names)

    def rename(self, old: str, new: str) -> None:
        """Give a file a new name, replacing whatever had it."""
        self.step()
        self._names[new] = self._names.pop(old)
        self._changed()

    def remove(self, name: str) -> None:
        """Remove a file; no error if there is none."""
        self.step()
        if self._names.pop(name, None) is not None:
            self._changed()

    def sync_names(self) -> None:
        """Return when all changes of names are on disk."""
        self.step()
        self._sync_time()
        if self.broken:
            raise OSError(errno.EIO, "simulated: the folder could not be synced")
        self._durable_names, self._pending_names = dict(self._names), []

    def _changed(self) -> None:
        self._pending_names.append(dict(self._names))

    def _sync_time(self) -> None:
        self.spend(self.chance.uniform(0.0001, 0.002) * self.slowness)

    def sync_file(self, inode: _Inode) -> None:
        """Make a file's bytes durable, or fail and forget which were not (as Linux does after an error)."""
        self.step()
        self._sync_time()
        if self.broken:
            inode.settle(self.chance)
            raise OSError(errno.EIO, "simulated: the file could not be synced")
        for change in inode.pending:
            _apply(inode.durable, change)
        inode.pending = []


class SimulatedFile:
    """An open file; it stays usable when its name is removed."""

    def __init__(self, disk: SimulatedDisk, inode: _Inode) -> None:
        self._disk = disk
        self._inode = inode

    def size(self) -> int:
        """Return the length in bytes."""
        return len(self._inode.seen)

    def read(self, offset: int, count: int) -> bytes:
        """Return up to count bytes from offset; fewer only at the end."""
        return bytes(self._inode.seen[offset : offset + count])

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Write all of data at offset; durable only after `sync`."""
        self._disk.step()
        written = bytes(data)
        if self._disk.full:
            written = written[: self._disk.chance.randrange(len(written) + 1)]
        self._change((offset, written))
        if self._disk.full:
            raise OSError(errno.ENOSPC, "simulated: the disk is full")

    def truncate(self, size: int) -> None:
        """Cut the file; durable only after `sync`."""
        self._disk.step()
        self._change(size)

    def sync(self) -> None:
        """Return when everything written is on disk."""
        self._disk.sync_file(self._inode)

    def close(self) -> None:
        """Nothing to give back."""

    def _change(self, change: Change) -> None:
        _apply(self._inode.seen, change)
        self._inode.pending.append(change)
