"""What can be done with data folders while their voters are stopped: verify them, export their state, restore it.

Nothing here writes to a folder that is verified or exported. An export holds every entry of the most advanced log
among the folders given. If they are a majority of the voters it holds every acknowledged write; it may also hold
entries whose proposers were never answered, which is what "outcome unknown" promised them.
"""

import shutil
import uuid as uuids
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from consensus.entry import entry_head
from consensus.errors import StorageCorrupt, WrongIdentity
from consensus.identity import Identity, read_identity, write_identity
from consensus.journal import FIRST_INDEX, Journal, write_vote
from consensus.library import COMMAND
from consensus.machine import StateMachine
from consensus.settings import ReplicaSettings
from consensus.snapshot import (
    WRITING,
    SnapshotHead,
    publish,
    read_head,
    restore_snapshot,
    verify_snapshot,
    write_snapshot,
)
from consensus.storage import DiskStorage, File, Storage

MakeMachine = Callable[[], StateMachine]


class FolderReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a data folder holds, every byte of it checked."""

    folder: str
    node_id: str
    cluster_id: str
    voters: list[str]
    term: int
    snapshot_index: int  # 1 if there is none
    last_index: int
    last_term: int
    compared_at: int  # the index up to which the logs given agree
    digest: str  # of the state at that index


class _ReadOnlyFile:
    """A file that is read; changes that loading would make are left out."""

    def __init__(self, path: Path | None) -> None:
        self._file = None if path is None else path.open("rb")

    def size(self) -> int:
        return 0 if self._file is None else self._file.seek(0, 2)

    def read(self, offset: int, count: int) -> bytes:
        if self._file is None:
            return b""
        self._file.seek(offset)
        return self._file.read(count)

    def write(self, offset: int, data: bytes | bytearray) -> None:
        """Leave it: loading writes again what it has read, in case that it had not reached the disk."""

    def truncate(self, size: int) -> None:
        """Leave a torn tail where it is: it was never acknowledged, and the voter will cut it."""

    def sync(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _ReadOnly:
    """A data folder that is read and never changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str, *, create: bool = False) -> File:
        path = self._folder / name
        return _ReadOnlyFile(None if create and not path.exists() else path)

    def names(self) -> list[str]:
        return sorted(path.name for path in self._folder.iterdir() if path.is_file())

    def rename(self, old: str, new: str) -> None:
        raise WrongIdentity(f"{old} was to be renamed to {new} in a folder that is only read")

    def remove(self, name: str) -> None:
        """Leave it: the voter removes what a snapshot has replaced."""

    def sync_names(self) -> None:
        """Nothing was changed."""


class _Held:
    """One folder, opened."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise WrongIdentity(f"{folder} is not a folder")
        self.storage: Storage = _ReadOnly(folder)
        identity = read_identity(self.storage)
        if identity is None:
            raise WrongIdentity(f"{folder} is not a voter's data folder: it has no identity file")
        self.identity = identity
        self.head = verify_snapshot(self.storage) if read_head(self.storage) is not None else None
        self.base = (self.head.index, self.head.term) if self.head else (FIRST_INDEX, 0)
        self.journal = Journal(self.storage, self.base)

    @property
    def last(self) -> tuple[int, int]:
        """Term and index of the last entry: what elections compare."""
        return self.journal.last_term, self.journal.last_index

    def state_at(self, index: int, machine: StateMachine) -> int:
        """Bring an empty machine to the state after index; returns the time of the last entry."""
        now_ms = 0
        if self.head is not None:
            now_ms = restore_snapshot(self.storage, machine).now_ms
        for at in range(self.base[0] + 1, index + 1):
            command = self.journal.entry(at)[0]
            if command[:1] == COMMAND:
                machine.apply(command[1:])
                now_ms = entry_head(command[1:])[0]
        return now_ms

    def close(self) -> None:
        self.journal.close()


def _hold(folders: Sequence[Path]) -> list[_Held]:
    held = [_Held(folder) for folder in folders]
    clusters = {each.identity.cluster_id for each in held}
    if len(clusters) > 1:
        raise WrongIdentity(f"the folders belong to different clusters: {', '.join(sorted(clusters))}")
    names = [each.identity.node_id for each in held]
    if len(set(names)) < len(names):
        raise WrongIdentity(f"two folders belong to the same voter: {', '.join(sorted(names))}")
    return held


def verify(folders: Sequence[Path], make_machine: MakeMachine) -> list[FolderReport]:
    """Check every byte of stopped voters' folders, and that their states agree where their logs do.

    Raises StorageCorrupt for a damaged or diverged folder, WrongIdentity for what is no voter's folder.
    """
    held = _hold(folders)
    common = _agreed(held)
    reports = []
    for each in held:
        index = max(common, each.base[0])  # a snapshot may be ahead of what another voter has
        machine = make_machine()
        each.state_at(index, machine)
        reports.append(
            FolderReport(
                folder=str(each.folder),
                node_id=each.identity.node_id,
                cluster_id=each.identity.cluster_id,
                voters=each.identity.voters,
                term=each.journal.term,
                snapshot_index=each.base[0],
                last_index=each.journal.last_index,
                last_term=each.journal.last_term,
                compared_at=index,
                digest=machine.digest().hex(),
            )
        )
        each.close()
    by_index: dict[int, set[str]] = {}
    for report in reports:
        by_index.setdefault(report.compared_at, set()).add(report.digest)
    for index, digests in by_index.items():
        if len(digests) > 1:
            found = "; ".join(f"{r.node_id} {r.digest[:16]}" for r in reports if r.compared_at == index)
            raise StorageCorrupt(f"the voters' states differ at index {index} ({found}): replace the one that differs")
    return reports


def _agreed(held: Sequence[_Held]) -> int:
    """Return the highest index at which all logs have the same term: up to there they must be equal (log matching)."""
    lowest = max(each.base[0] for each in held)
    index = min(each.journal.last_index for each in held)
    while index > lowest and len({each.journal.term_at(index) for each in held}) > 1:
        index -= 1
    first = held[0].journal
    for each in held[1:]:
        for at in range(lowest + 1, index + 1):
            if each.journal.entry(at) != first.entry(at):
                names = f"{held[0].identity.node_id} and {each.identity.node_id}"
                raise StorageCorrupt(f"the logs of {names} hold different entries at index {at}")
    return index


def export(folders: Sequence[Path], out: Path, make_machine: MakeMachine, *, minority: bool = False) -> SnapshotHead:
    """Write the state of the most advanced of these stopped voters to a file, and verify what was written.

    Refuses fewer folders than a majority of the voters, because acknowledged writes may be missing, unless told so.
    """
    held = _hold(folders)
    voters = held[0].identity.voters
    needed = len(voters) // 2 + 1
    if len(held) < needed and not minority:
        raise WrongIdentity(
            f"{len(held)} of {len(voters)} voters' folders may lack acknowledged writes: give {needed}, or say "
            "--minority if the others are lost"
        )
    if out.exists():
        raise WrongIdentity(f"{out} exists: choose another name")
    best = max(held, key=lambda each: each.last)
    machine = make_machine()
    index, term = best.journal.last_index, best.journal.last_term
    now_ms = best.state_at(index, machine)
    addresses = best.head.voters if best.head else {}
    head = SnapshotHead(
        index=index,
        term=term,
        cluster_id=best.identity.cluster_id,
        voters={voter: addresses.get(voter, "") for voter in best.identity.voters},
        now_ms=now_ms,
        digest=machine.digest(),
    )
    storage = DiskStorage(out.absolute().parent)
    write_snapshot(storage, out.name, head, machine.snapshot())
    storage.sync_names()
    restore_snapshot(storage, make_machine(), out.name)
    for each in held:
        each.close()
    return head


def restore(file: Path, settings: ReplicaSettings, make_machine: MakeMachine) -> SnapshotHead:
    """Make an empty data folder hold an exported state, as a voter of a new cluster; do it for each of its voters."""
    source = DiskStorage(file.absolute().parent)
    machine = make_machine()
    old = restore_snapshot(source, machine, file.name)
    if settings.cluster_id == old.cluster_id:
        raise WrongIdentity(
            f"the export is of cluster {old.cluster_id}: give the new cluster another cluster_id in cluster.yaml, so "
            "that a voter of the old one can never join it"
        )
    folder = settings.data_dir
    if folder.exists() and any(folder.iterdir()):
        raise WrongIdentity(f"{folder} is not empty: restore into a new folder, and keep the old one until all is well")
    voters = {**settings.peers, settings.node_id: settings.address}
    head = SnapshotHead(
        index=old.index,
        term=old.term,
        cluster_id=settings.cluster_id,
        voters=dict(sorted(voters.items())),
        now_ms=old.now_ms,
        digest=old.digest,
    )
    try:
        _fill(DiskStorage(folder), settings, head, machine, make_machine)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return head


def _fill(
    storage: Storage, settings: ReplicaSettings, head: SnapshotHead, machine: StateMachine, make_machine: MakeMachine
) -> None:
    write_snapshot(storage, WRITING, head, machine.snapshot())
    restore_snapshot(storage, make_machine(), WRITING)
    publish(storage, WRITING)
    write_vote(storage, head.term, None)
    identity = Identity(
        uuid=uuids.uuid4().hex,
        cluster_id=settings.cluster_id,
        node_id=settings.node_id,
        voters=sorted(head.voters),
    )
    write_identity(storage, identity)
