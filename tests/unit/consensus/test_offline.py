"""Data folders of stopped voters: verified, exported, restored; and voters that take another's place."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from consensus import Replica, ReplicaSettings, StorageCorrupt, WrongIdentity, encode_entry
from consensus.identity import load_identity
from consensus.journal import Journal
from consensus.ledger import Ledger
from consensus.offline import export, restore, verify
from consensus.storage import DiskStorage
from tests.unit.consensus.cluster import leader_of, put, settings_of


async def _run(settings: Sequence[ReplicaSettings], writes: int, *, snapshot_at: int = 0) -> dict[str, bytes]:
    """Run the voters, acknowledge writes, stop; returns what the leader holds."""
    replicas = [await Replica(s, Ledger()).__aenter__() for s in settings]
    leader = await leader_of(replicas)
    for number in range(1, writes + 1):
        await leader.propose([put(f"k{number}", b"%d" % number, seq=number)])
        if number == snapshot_at:
            for replica in replicas:
                await replica.snapshot_now()
    found = dict(leader.machine.values)  # type: ignore[attr-defined]
    for replica in replicas:
        await replica.__aexit__(None, None, None)
    return found


def _bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_folders_of_one_cluster_verify_and_agree(tmp_path: Path) -> None:
    """Every folder is read to the last byte, nothing in it changes, and states agree where logs do."""
    settings = settings_of(tmp_path, 3)
    await _run(settings, 12, snapshot_at=6)
    folders = [s.data_dir for s in settings]
    before = [_bytes_of(folder) for folder in folders]
    reports = verify(folders, Ledger)
    assert [_bytes_of(folder) for folder in folders] == before
    assert {r.node_id for r in reports} == {"v0", "v1", "v2"}
    assert len({r.digest for r in reports}) == 1
    assert all(r.snapshot_index > 1 and r.compared_at >= 12 for r in reports)


async def test_a_damaged_snapshot_or_journal_is_named(tmp_path: Path) -> None:
    """One flipped bit is found, whichever file it is in."""
    settings = settings_of(tmp_path, 1)
    await _run(settings, 12, snapshot_at=6)
    folder = settings[0].data_dir
    for name in [n for n in _bytes_of(folder) if n == "snapshot" or n.startswith("log-") or n == "vote"]:
        path, good = folder / name, (folder / name).read_bytes()
        if len(good) < 20:
            at = len(good) - 1
        else:
            at = 30 if name.startswith("log-") else len(good) // 2
        if not good:
            continue
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(StorageCorrupt, match=name.split("-")[0].replace("log", "journal segment")):
            verify([folder], Ledger)
        path.write_bytes(good)
    verify([folder], Ledger)


async def test_different_entries_at_one_index_and_term_are_found(tmp_path: Path) -> None:
    """Two logs that match in index and term must hold the same bytes."""
    settings = settings_of(tmp_path, 3)
    folders = [s.data_dir for s in settings[:2]]
    for s, value in zip(settings, (b"one", b"two"), strict=False):
        storage = DiskStorage(s.data_dir)
        load_identity(storage, s)
        journal = Journal(storage)
        journal.set_vote(1, None)
        journal.append(b"\0" + encode_entry(1, [put("k", value)]), 2, 1)
        journal.sync()
        journal.close()
    with pytest.raises(StorageCorrupt, match="different entries at index 2"):
        verify(folders, Ledger)


async def test_an_export_restores_a_new_cluster_with_every_acknowledged_write(tmp_path: Path) -> None:
    """From a majority's folders to the voters of another cluster, which goes on from there."""
    old = settings_of(tmp_path / "old", 3)
    held = await _run(old, 20, snapshot_at=8)
    out = tmp_path / "state.export"
    with pytest.raises(WrongIdentity, match="may lack acknowledged writes"):
        export([old[0].data_dir], out, Ledger)
    head = export([s.data_dir for s in old[:2]], out, Ledger)
    with pytest.raises(WrongIdentity, match="exists"):
        export([s.data_dir for s in old[:2]], out, Ledger)
    new = [_with(s, cluster_id="another") for s in settings_of(tmp_path / "new", 5)]
    for settings in new:
        assert restore(out, settings, Ledger).digest == head.digest
    with pytest.raises(WrongIdentity, match="not empty"):
        restore(out, new[0], Ledger)
    assert len({r.digest for r in verify([s.data_dir for s in new], Ledger)}) == 1
    found = await _run(new, 0)
    assert found == held


async def test_a_restored_cluster_needs_another_name_and_whole_bytes(tmp_path: Path) -> None:
    """Voters of the old cluster must never meet those of the new one; a damaged export leaves no folder behind."""
    old = settings_of(tmp_path / "old", 1)
    await _run(old, 3)
    out = tmp_path / "state.export"
    export([old[0].data_dir], out, Ledger)
    with pytest.raises(WrongIdentity, match="another cluster_id"):
        restore(out, settings_of(tmp_path / "same", 1)[0], Ledger)
    data = bytearray(out.read_bytes())
    data[len(data) // 2] ^= 1
    out.write_bytes(bytes(data))
    settings = _with(settings_of(tmp_path / "new", 1)[0], cluster_id="another")
    with pytest.raises(StorageCorrupt):
        restore(out, settings, Ledger)
    assert not settings.data_dir.exists()


def test_what_is_no_data_folder_is_refused(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    with pytest.raises(WrongIdentity, match="not a folder"):
        verify([tmp_path / "none"], Ledger)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WrongIdentity, match="no identity file"):
        verify([tmp_path / "empty"], Ledger)


def _with(settings: ReplicaSettings, **changes: object) -> ReplicaSettings:
    return msgspec.structs.replace(settings, **changes)


async def test_other_voters_than_the_stored_ones_are_refused(tmp_path: Path) -> None:
    """A changed configuration without a prepared replacement starts nothing."""
    settings = settings_of(tmp_path, 3)
    await _run(settings, 1)
    peers = {"v9" if n == "v1" else n: a for n, a in settings[0].peers.items()}
    for replaced in ((), (("v1", "v8", 1),), (("v2", "v9", 1),)):
        with pytest.raises(WrongIdentity, match="rift cluster replace"):
            load_identity(DiskStorage(settings[0].data_dir), _with(settings[0], peers=peers, replaced=replaced))
    with pytest.raises(WrongIdentity, match="belongs to voter v0"):
        load_identity(DiskStorage(settings[0].data_dir), _with(settings[1], data_dir=settings[0].data_dir))


async def test_a_prepared_replacement_is_adopted_by_those_that_have_the_log(tmp_path: Path) -> None:
    """A voter that lacks what was committed before the replacement must catch up first."""
    settings = settings_of(tmp_path, 3)
    await _run(settings, 5)
    peers = {"v9" if n == "v1" else n: a for n, a in settings[0].peers.items()}
    folder = settings[0].data_dir
    behind = _with(settings[0], peers=peers, replaced=(("v1", "v9", 1000),))
    with pytest.raises(WrongIdentity, match="until it has caught up"):
        load_identity(DiskStorage(folder), behind)
    ready = _with(settings[0], peers=peers, replaced=(("v1", "v9", 3),))
    assert load_identity(DiskStorage(folder), ready).voters == ["v0", "v2", "v9"]
    assert load_identity(DiskStorage(folder), ready).voters == ["v0", "v2", "v9"]
    with pytest.raises(WrongIdentity, match="this cluster was made of v0, v2, v9"):
        load_identity(DiskStorage(folder), settings[0])


async def test_a_replaced_voter_of_a_running_cluster_loses_nothing(tmp_path: Path) -> None:
    """Stop one, commit without it, restart the others one by one with its successor named, and start that one empty."""
    settings = {s.node_id: s for s in settings_of(tmp_path, 6, tls=False)}
    spare = settings.pop("v5")
    settings = {n: _with(s, peers={p: a for p, a in s.peers.items() if p != "v5"}) for n, s in settings.items()}
    replicas = {n: await Replica(s, Ledger()).__aenter__() for n, s in settings.items()}
    acked: list[str] = []

    async def write(count: int) -> None:
        for _ in range(count):
            leader = await leader_of(list(replicas.values()))
            key = f"k{len(acked)}"
            await leader.propose([put(key, seq=len(acked) + 1)])
            acked.append(key)

    await write(10)
    await replicas.pop("v2").__aexit__(None, None, None)
    shutil.rmtree(settings.pop("v2").data_dir)
    await write(5)
    index = (await leader_of(list(replicas.values()))).role().commit_index
    voters = {n: s.address for n, s in {**settings, "v5": spare}.items()}
    for node_id in sorted(settings):
        await replicas.pop(node_id).__aexit__(None, None, None)
        peers = {n: a for n, a in voters.items() if n != node_id}
        changed = _with(settings[node_id], peers=peers, replaced=(("v2", "v5", index),))
        replicas[node_id] = await Replica(changed, Ledger()).__aenter__()
        await write(3)
    peers = {n: a for n, a in voters.items() if n != "v5"}
    replicas["v5"] = await Replica(_with(spare, peers=peers), Ledger()).__aenter__()
    await write(3)
    await (await leader_of(list(replicas.values()))).transfer_leadership()
    for node_id in ("v0", "v1"):  # the new one is needed for a majority now
        await replicas.pop(node_id).__aexit__(None, None, None)
    await write(3)
    leader = await leader_of(list(replicas.values()))
    assert set(acked) <= set(leader.machine.values)  # type: ignore[attr-defined]
    for replica in replicas.values():
        await replica.__aexit__(None, None, None)
