"""The durable log: segments of checksummed records, one sync a batch, and the term and vote beside them.

Record = magic, crc, length, synced, index, term, data. `synced` is the length of the segment that was known to be on
disk when the record was written. A bad record at or beyond every such length is a torn tail, which nobody was told
of: it is cut. A bad record before one of them is corruption of acknowledged data: the voter refuses to start. Behind
the records of the newest segment there may be zeros, space that was allocated ahead.

The log begins after a base (index, term): what the snapshot holds. Compaction removes whole segments and copies
nothing. `self[0]` is a placeholder for the base, so that entry i is `self[i - base_index]`.
"""

import struct
import zlib

import msgspec

from consensus.errors import InvariantBroken, StorageCorrupt
from consensus.storage import File, Storage, read_whole, replace_whole

Entry = tuple[bytes, int, int]  # command, index, term

FIRST_INDEX = 1  # the base of an empty log, as the library counts
MAGIC = b"\xa9LOG"
_RECORD = struct.Struct("<4sIIQQQ")  # magic, crc, length, synced, index, term
_CHECKED = struct.Struct("<IQQQ")  # what the crc covers before the data
MAX_RECORD = 1 << 30
# Zeros written ahead of the records: a sync that changes no file's size leaves the file system nothing of its own to
# commit, which takes longer than the data where several voters share a disk.
PREALLOCATE_BYTES = 1 << 20
_VOTE = "vote"
_SEGMENT = "log-"


class _Segment:
    """One file of consecutive records."""

    def __init__(self, first: int, file: File, size: int) -> None:
        self.first = first
        self.file = file
        self.size = size  # bytes of whole records, buffered ones included


class Journal:
    """All entries after the base, in memory and on disk; entries count as durable after `sync`."""

    def __init__(
        self,
        storage: Storage,
        base: tuple[int, int] = (FIRST_INDEX, 0),
        *,
        segment_bytes: int = 64 << 20,
        preallocate_bytes: int = PREALLOCATE_BYTES,
    ) -> None:
        self._storage = storage
        self._segment_bytes = segment_bytes
        self._zeros = bytes(preallocate_bytes)
        self._entries: list[Entry] = [(b"", *base)]
        self._offsets: list[int] = [0]  # of each entry in its segment
        self._segments: list[_Segment] = []
        self._buffer = bytearray()
        self._written = 0  # bytes of the last segment handed to the disk
        self._synced = 0  # bytes of the last segment known to be on disk
        self._allocated = 0  # bytes that the last segment's file has: behind what is written come zeros
        self.syncs = 0
        self.total_bytes = 0  # of records ever added, for the snapshot trigger
        storage.sync_names()  # a process may have ended between a rename and its sync: what is read must also last
        self.term, self.vote = self._read_vote()
        self._load()
        if self._entries[-1][2] > self.term:
            raise StorageCorrupt(
                f"the journal holds term {self._entries[-1][2]} but the vote file only {self.term}: "
                "the vote file was lost; replace this voter"
            )

    # ---- reading

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def base_index(self) -> int:
        """The index that the snapshot covers."""
        return self._entries[0][1]

    @property
    def base_term(self) -> int:
        """The term of the entry at the base."""
        return self._entries[0][2]

    @property
    def last_index(self) -> int:
        """The index of the newest entry, or of the base."""
        return self._entries[-1][1]

    @property
    def last_term(self) -> int:
        """The term of the newest entry, or of the base."""
        return self._entries[-1][2]

    @property
    def dirty(self) -> bool:
        """Whether there are entries that `sync` has not made durable."""
        return bool(self._buffer)

    def term_at(self, index: int) -> int | None:
        """Return the term of the entry at index, or None if it is not here (the base is)."""
        at = index - self._entries[0][1]
        return self._entries[at][2] if 0 <= at < len(self._entries) else None

    def entry(self, index: int) -> Entry:
        """Return the entry at an index after the base."""
        return self._entries[index - self._entries[0][1]]

    def size(self, first: int, last: int) -> int:
        """Return the bytes of the entries from index first to last, both after the base."""
        return sum(len(self.entry(index)[0]) for index in range(first, last + 1))

    def slice(self, start: int, max_bytes: int, max_entries: int = 4096) -> list[Entry]:
        """Return entries from index start on, until their data exceed max_bytes; at least one if there is one."""
        first = start - self._entries[0][1]
        found: list[Entry] = []
        size = 0
        for at in range(first, min(first + max_entries, len(self._entries))):  # a slice would copy all that follow
            entry = self._entries[at]
            if found and size + len(entry[0]) > max_bytes:
                break
            found.append(entry)
            size += len(entry[0])
        return found

    # ---- writing

    def set_vote(self, term: int, vote: str | None) -> None:
        """Make term and vote durable before anything that tells of them may be sent."""
        if (term, vote) == (self.term, self.vote):
            return
        write_vote(self._storage, term, vote)
        self.term, self.vote = term, vote

    def append(self, command: bytes, index: int, term: int) -> None:
        """Add an entry behind the last one; durable only after `sync`."""
        if index != self._entries[-1][1] + 1 or term < self._entries[-1][2]:
            raise InvariantBroken(f"entry ({index}, {term}) cannot follow {self._entries[-1][1:]}")
        segment = self._segments[-1]
        head = _CHECKED.pack(len(command), self._synced, index, term)
        crc = zlib.crc32(command, zlib.crc32(head))
        self._buffer += MAGIC + crc.to_bytes(4, "little") + head
        self._buffer += command
        self._entries.append((command, index, term))
        self._offsets.append(segment.size)
        size = _RECORD.size + len(command)
        segment.size += size
        self.total_bytes += size

    def sync(self) -> None:
        """Write what is buffered and wait until it is on disk: one sync however many entries."""
        if not self._buffer:
            return
        segment = self._segments[-1]
        end = self._written + len(self._buffer)
        if end > self._allocated:
            segment.file.write(end, self._zeros)
            self._allocated = end + len(self._zeros)
        segment.file.write(self._written, self._buffer)
        self._written = end
        self._buffer = bytearray()
        segment.file.sync()
        self._synced = self._written
        self.syncs += 1
        if segment.size >= self._segment_bytes:
            self.rotate()

    def rotate(self) -> None:
        """Begin a new segment, so that the older ones can be removed once a snapshot covers them."""
        self.sync()
        segment = self._segments[-1]
        if segment.size:
            if self._allocated > segment.size:  # zeros may follow the last record of the last segment only
                segment.file.truncate(segment.size)
                segment.file.sync()
            self._open_segment(self.last_index + 1)

    def truncate(self, start: int) -> None:
        """Remove the entries from index start on, durably, before anything is written in their place."""
        self.sync()
        at = start - self.base_index
        if at <= 0:
            raise InvariantBroken(f"entries from {start} are covered by the snapshot and cannot be removed")
        inside = at < len(self._offsets)  # whether the last segment that stays is to be cut inside
        while len(self._segments) > 1 and self._segments[-1].first >= start:
            inside = inside and self._segments[-1].first != start
            self._drop_segment(self._segments.pop())
        segment = self._segments[-1]
        segment.size = self._offsets[at] if inside else segment.size
        del self._entries[at:], self._offsets[at:]
        segment.file.truncate(segment.size)
        segment.file.sync()
        self._written = self._synced = self._allocated = segment.size

    def compact(self, index: int) -> None:
        """Forget the entries up to index, which a durable snapshot covers; keep all that follow."""
        at = index - self.base_index
        if at <= 0:
            return
        term = self._entries[at][2]
        self._entries[: at + 1] = [(b"", index, term)]
        self._offsets[: at + 1] = [0]
        while len(self._segments) > 1 and self._segments[1].first <= index + 1:
            segment = self._segments.pop(0)
            segment.file.close()
            self._storage.remove(_segment_name(segment.first))
        self._storage.sync_names()

    def reset(self, index: int, term: int) -> None:
        """Forget every entry, because a durable snapshot at (index, term) replaces them all."""
        self._buffer = bytearray()
        while self._segments:  # newest first: what remains after a crash is a log that the snapshot covers
            self._drop_segment(self._segments.pop())
        self._entries = [(b"", index, term)]
        self._offsets = [0]
        self._open_segment(index + 1)

    def close(self) -> None:
        """Close the files without writing what is buffered."""
        for segment in self._segments:
            segment.file.close()
        self._segments.clear()

    # ---- files

    def _open_segment(self, first: int) -> None:
        self._storage.remove(_segment_name(first))
        file = self._storage.open(_segment_name(first), create=True)
        self._storage.sync_names()
        self._segments.append(_Segment(first, file, 0))
        self._written = self._synced = self._allocated = 0

    def _drop_segment(self, segment: _Segment) -> None:
        segment.file.close()
        self._storage.remove(_segment_name(segment.first))
        self._storage.sync_names()

    def _read_vote(self) -> tuple[int, str | None]:
        data = read_whole(self._storage, _VOTE)
        if data is None:
            return 0, None
        if len(data) < 4 or zlib.crc32(data[4:]) != int.from_bytes(data[:4], "little"):
            raise StorageCorrupt("the vote file is corrupt: replace this voter")
        term, vote = msgspec.msgpack.decode(data[4:], type=tuple[int, str | None])
        return term, vote

    def _load(self) -> None:
        firsts = [int(n[len(_SEGMENT) :]) for n in self._storage.names() if n.startswith(_SEGMENT)]
        base_index, base_term = self._entries[0][1:]
        if firsts and firsts[0] > base_index + 1:
            raise StorageCorrupt(
                f"the snapshot ends at index {base_index} but the journal begins at {firsts[0]}: "
                "restore the newer snapshot or replace this voter"
            )
        found: list[tuple[Entry, int]] = []
        for first in firsts:
            self._load_segment(first, found, last=first == firsts[-1])
        kept = [(e, o) for e, o in found if e[1] >= base_index]
        elsewhere = not found and firsts and firsts != [base_index + 1]  # entries would go into a file of other ones
        stale = found and (not kept or (kept[0][0][1] == base_index and kept[0][0][2] != base_term))
        if elsewhere or stale:
            self.reset(base_index, base_term)  # a crash came between installing a snapshot and dropping the old log
            return
        if kept and kept[0][0][1] == base_index:
            kept = kept[1:]
        self._entries += [e for e, _ in kept]
        self._offsets += [o for _, o in kept]
        if not self._segments:
            self._open_segment(base_index + 1)

    def _load_segment(self, first: int, found: list[tuple[Entry, int]], *, last: bool) -> None:
        file = self._storage.open(_segment_name(first))
        data = file.read(0, file.size())
        expect = found[-1][0] if found else None
        if expect is not None and expect[1] + 1 != first:
            raise StorageCorrupt(f"journal entries {expect[1] + 1} to {first - 1} are missing: replace this voter")
        at = 0
        index, term = first - 1, expect[2] if expect else 0
        while at < len(data):
            record = _parse(data, at)
            if record is None or record[0][1] != index + 1 or record[0][2] < term:
                break
            found.append((record[0], at))
            index, term = record[0][1:]
            at += _RECORD.size + len(record[0][0])
        allocated = len(data)
        if at < allocated and not (last and data.count(0, at) == allocated - at):
            if not last or _was_synced(data, at):
                raise StorageCorrupt(
                    f"journal segment {first} is corrupt at byte {at}, in entries that were already synced: "
                    "do not delete anything; replace this voter"
                )
            file.truncate(at)
            allocated = at
        if last:
            self._rewrite_tail(file, data, at, found)
        file.sync()  # what was read may have been in the page cache only
        self._segments.append(_Segment(first, file, at))
        self._written = self._synced = at
        self._allocated = allocated

    def _rewrite_tail(self, file: File, data: bytes, end: int, found: list[tuple[Entry, int]]) -> None:
        """Write again what no record proves to be on disk: after a failed sync Linux shows it, but will not sync it."""
        record = _parse(data, found[-1][1]) if end else None
        if record is not None and record[1] < end:
            file.write(record[1], data[record[1] : end])


def write_vote(storage: Storage, term: int, vote: str | None) -> None:
    """Write term and vote, durably."""
    body = msgspec.msgpack.encode([term, vote])
    replace_whole(storage, _VOTE, struct.pack("<I", zlib.crc32(body)) + body)


def _segment_name(first: int) -> str:
    return f"{_SEGMENT}{first:020d}"


def _parse(data: bytes, at: int) -> tuple[Entry, int] | None:
    """Return the entry at this offset and the length synced when it was written, or None if it is not whole."""
    if at + _RECORD.size > len(data):
        return None
    magic, crc, length, synced, index, term = _RECORD.unpack_from(data, at)
    end = at + _RECORD.size + length
    if magic != MAGIC or length > MAX_RECORD or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[at + 8 : end]) != crc:
        return None
    return (data[at + _RECORD.size : end], index, term), synced


def _was_synced(data: bytes, bad: int) -> bool:
    """Whether a later whole record proves that the bytes at offset bad had been synced."""
    at = data.find(MAGIC, bad + 1)
    while at >= 0:
        record = _parse(data, at)
        if record is not None and record[1] > bad:
            return True
        at = data.find(MAGIC, at + 1)
    return False
