"""Artifacts over HTTP: whole or not at all, from wherever an upload broke off, and never with a flipped byte."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import io
import os
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import aiohttp
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.cluster import LimitSettings, StoreSettings
from tests.unit.store.conftest import cluster_of
from workqueue.blocks import Throttle
from workqueue.errors import CorruptArtifact, Rejected, Unavailable
from workqueue.machine.commands import ArtifactRef
from workqueue.mirror import OFFSET
from workqueue.store import DiskStore, StoreError, StoreFull, keep_swept
from workqueue.transfer import get_artifact, put_artifact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.store.conftest import Cluster
    from workqueue.store import Upload


def made(path: Path, size: int = 300_000, seed: int = 1) -> tuple[Path, str]:
    data = hashlib.shake_128(seed.to_bytes(4)).digest(size)
    path.write_bytes(data)
    return path, hashlib.sha256(data).hexdigest()


def take(upload: Upload, block: bytes) -> None:
    upload.write(block)
    upload.digest(block)


async def test_stored_on_two_voters_before_it_is_acknowledged(cluster: Cluster, tmp_path: Path) -> None:
    """An acknowledged artifact is on `replicas` voters, registered with them, and readable from any voter."""
    path, sha256 = made(tmp_path / "a")
    seen: list[tuple[int, int]] = []
    ref = await put_artifact(cluster.http, path, kind="shard", progress=lambda *at: seen.append(at))
    assert ref == ArtifactRef(sha256, 300_000, "shard")
    assert seen[-1] == (300_000, 300_000)
    holding = {voter.voter_id for voter in cluster.voters if await voter.store.size(sha256) is not None}
    assert len(holding) == 2
    assert cluster.registry.holders[sha256] == holding
    for index, voter in enumerate(cluster.voters):
        cluster.http.servers = [voter.url]
        await get_artifact(cluster.http, sha256, tmp_path / f"b{index}")
        assert (tmp_path / f"b{index}").read_bytes() == path.read_bytes()


async def test_a_file_that_changed_since_it_was_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known digest is not taken on trust: other bytes are refused, and the caller learns that its file is damaged."""
    monkeypatch.setattr("workqueue.transfer._PAUSE_S", 0.002)
    path, sha256 = made(tmp_path / "a")
    ref = await put_artifact(cluster.http, path, kind="shard", sha256=sha256)
    assert ref == ArtifactRef(sha256, 300_000, "shard")
    other, name = made(tmp_path / "b", seed=2)
    other.write_bytes(other.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptArtifact):
        await put_artifact(cluster.http, other, kind="shard", sha256=name)
    assert name not in cluster.registry.holders


async def test_empty_artifact(cluster: Cluster, tmp_path: Path) -> None:
    """No bytes are an artifact too."""
    path, sha256 = made(tmp_path / "a", 0)
    await put_artifact(cluster.http, path, kind="other")
    await get_artifact(cluster.http, sha256, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b""


@given(cut=st.integers(0, 4999))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_upload_resumes_at_any_byte(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever byte a connection breaks after, the rest alone completes the upload."""
    folder = tmp_path_factory.mktemp("cut")
    path, sha256 = made(folder / "a", 5000, cut)
    async with cluster_of(folder / "voters", 1) as cluster:
        url = cluster.voters[0].url
        await broken_upload(url, sha256, path.read_bytes()[:cut], 5000)
        sent: list[int] = []
        await put_artifact(cluster.http, path, kind="shard", progress=lambda done, _: sent.append(done))
        assert cluster.voters[0].store.local(sha256).read_bytes() == path.read_bytes()
        async with cluster.http.session.head(f"{url}/v1/artifacts/{sha256}") as answer:
            assert answer.headers["Content-Length"] == "5000"


async def broken_upload(url: str, sha256: str, data: bytes, size: int) -> None:
    """Send the head of an upload and hang up; returns when the voter has kept what arrived."""
    host, port = url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"PUT /v1/artifacts/{sha256}?kind=shard HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n"
        f"Authorization: Bearer w\r\nContent-Range: bytes 0-{size - 1}/{size}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    await asyncio.sleep(0.1)  # what the voter has not taken from its socket yet is lost with the connection
    writer.close()
    await writer.wait_closed()
    async with aiohttp.ClientSession() as session:
        for _ in range(1000):
            async with session.head(f"{url}/v1/artifacts/{sha256}") as answer:
                if int(answer.headers.get(OFFSET, -1)) == len(data):
                    return
            await asyncio.sleep(0.01)
    raise AssertionError("the voter kept fewer bytes than arrived")


@given(at=st.integers(0, 1999), bit=st.integers(0, 7))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_a_flipped_bit_is_found_on_upload(at: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes with another digest than their name are refused and leave nothing behind."""
    folder = tmp_path_factory.mktemp("flip")
    path, sha256 = made(folder / "a", 2000)
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    async with cluster_of(folder / "voters", 1) as cluster:
        url = f"{cluster.voters[0].url}/v1/artifacts/{sha256}"
        async with cluster.http.session.put(url, data=bytes(data), headers=cluster.http.headers) as answer:
            assert answer.status == 422
        async with cluster.http.session.head(url) as answer:
            assert (answer.status, answer.headers[OFFSET]) == (404, "0")
        assert sha256 not in cluster.registry.holders


async def test_a_byte_that_rotted_on_disk_is_found_and_another_holder_answers(cluster: Cluster, tmp_path: Path) -> None:
    """A damaged copy is never handed to the caller; its holder checks itself and is dropped."""
    path, sha256 = made(tmp_path / "a")
    await put_artifact(cluster.http, path, kind="shard")
    first, second = [voter for voter in cluster.voters if await voter.store.size(sha256) is not None]
    copy = first.store.local(sha256)
    data = bytearray(copy.read_bytes())
    data[12345] ^= 4
    copy.write_bytes(data)
    cluster.http.servers = [first.url, second.url]
    await get_artifact(cluster.http, sha256, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    assert cluster.registry.holders[sha256] == {second.voter_id}
    assert await first.store.size(sha256) is None


async def test_only_damaged_copies_left(cluster: Cluster, tmp_path: Path) -> None:
    """When every copy is damaged the caller learns it and gets no file."""
    path, sha256 = made(tmp_path / "a")
    await put_artifact(cluster.http, path, kind="shard")
    for voter in cluster.voters:
        if copy := voter.store.local(sha256):
            copy.write_bytes(b"\0" * 300_000)
    with pytest.raises(CorruptArtifact):
        await get_artifact(cluster.http, sha256, tmp_path / "b")
    assert not (tmp_path / "b").exists()


async def test_download_goes_on_from_another_holder(cluster: Cluster, tmp_path: Path) -> None:
    """A download that broke off goes on at its last byte, wherever it is asked next."""
    path, sha256 = made(tmp_path / "a", 3_000_000)
    await put_artifact(cluster.http, path, kind="weights")
    (tmp_path / "b.part").write_bytes(path.read_bytes()[:2_000_001])
    seen: list[int] = []
    await get_artifact(cluster.http, sha256, tmp_path / "b", lambda done, _: seen.append(done))
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    assert min(seen) > 2_000_001


async def test_a_holder_that_is_down_is_passed_over(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Upload and download need one voter that answers."""
    monkeypatch.setattr("workqueue.transfer._PAUSE_S", 0.002)
    path, sha256 = made(tmp_path / "a")
    await cluster.voters[0].stop()
    await put_artifact(cluster.http, path, kind="shard")
    await cluster.voters[1].stop()
    await get_artifact(cluster.http, sha256, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == path.read_bytes()
    await cluster.voters[2].stop()
    with pytest.raises(Unavailable, match="no voter answered"):
        await get_artifact(cluster.http, sha256, tmp_path / "c")


async def test_too_few_holders_are_told(tmp_path: Path) -> None:
    """An upload that could not be copied is not acknowledged, but what is stored is registered for the repair."""
    path, sha256 = made(tmp_path / "a")
    async with cluster_of(tmp_path / "voters", 2) as cluster:
        await cluster.voters[1].stop()
        url = f"{cluster.voters[0].url}/v1/artifacts/{sha256}"
        async with cluster.http.session.put(url, data=path.read_bytes(), headers=cluster.http.headers) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
            assert "1 of 2" in (await answer.json())["detail"]
        assert cluster.registry.holders[sha256] == {"v0"}


async def test_unknown_artifact(cluster: Cluster, tmp_path: Path) -> None:
    """What nobody holds is a refusal, not a reason to try for ever."""
    with pytest.raises(Rejected, match="no voter that answers holds"):
        await get_artifact(cluster.http, "0" * 64, tmp_path / "b")


async def test_refusals_say_what_to_do(tmp_path: Path) -> None:
    """Bad names, sizes, roles and full disks get their own status and a sentence."""
    path, sha256 = made(tmp_path / "a", 3 << 20)
    store = StoreSettings(quota_mb=1, floor_mb=1)
    async with cluster_of(tmp_path / "voters", 1, store, LimitSettings(artifact_bytes_max=5 << 20)) as cluster:
        base = f"{cluster.voters[0].url}/v1/artifacts"
        http = cluster.http
        with pytest.raises(Rejected, match="quota of 1 MB"):
            await put_artifact(http, path, kind="shard")
        async with http.session.put(
            f"{base}/{sha256}", data=io.BytesIO(b"x" * (6 << 20)), headers=http.headers
        ) as answer:
            assert answer.status == 413
            problem = await answer.json()
            assert "5 MB" in problem["detail"]
            assert (problem["status"], problem["code"]) == (413, "request_entity_too_large")
        async with http.session.get(f"{base}/xyz", headers=http.headers) as answer:
            assert answer.status == 400
        async with http.session.delete(f"{base}/{sha256}", headers=http.headers) as answer:
            assert answer.status == 401
        headers = http.headers | {"Content-Range": "bytes 7-9/10"}
        async with http.session.put(f"{base}/{sha256}", data=b"789", headers=headers) as answer:
            assert (answer.status, answer.headers[OFFSET]) == (409, "0")


async def test_a_newer_connection_takes_an_upload_over(tmp_path: Path) -> None:
    """A half-open connection cannot block the upload that follows it."""
    path, sha256 = made(tmp_path / "a", 50_000)
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    old = await store.begin(sha256, 50_000, 0)
    old.write(path.read_bytes()[:20_000])
    new = await store.begin(sha256, 50_000, 20_000)
    with pytest.raises(Exception, match="another connection"):
        old.write(b"late")
    take(new, path.read_bytes()[20_000:])
    assert new.finish()
    assert await store.verify(sha256)


@pytest.mark.parametrize("broken", ["", "fdatasync", "fsync"])
async def test_what_arrives_is_synced_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """A disk that fails meanwhile, which the system tells only once, is not taken for whole: all must come again."""
    path, sha256 = made(tmp_path / "a", 50_000)
    data, synced = path.read_bytes(), []

    def syncing(name: str) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            synced.append((name, os.fstat(fd).st_size))
            if name == broken:
                raise OSError(errno.EIO, "the disk is gone")

        return sync

    monkeypatch.setattr("workqueue.store.SYNC_BYTES", 20_000)
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(f"workqueue.store.os.{name}", syncing(name))
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    upload = await store.begin(sha256, 50_000, 0)
    take(upload, data[:30_000])
    if broken:
        with pytest.raises(StoreError, match=r"did not keep the bytes \(the disk is gone\); send them again"):
            await asyncio.to_thread(lambda: (take(upload, data[30_000:]), upload.finish()))
        assert await store.offset(sha256) == 0
    else:
        take(upload, data[30_000:])
        assert upload.finish()
    upload.close()
    assert synced[0][0] == "fdatasync"
    assert synced[0][1] >= 30_000
    assert (store.local(sha256) is None) is bool(broken)


async def test_sweep_forgets_old_beginnings(tmp_path: Path) -> None:
    """Uploads that nobody goes on with do not fill the disk."""
    path, sha256 = made(tmp_path / "a", 50_000)
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    upload = await store.begin(sha256, 50_000, 0)
    upload.write(path.read_bytes()[:10])
    upload.close()
    begun_s = store.partial(sha256).stat().st_mtime
    assert store.sweep(60, begun_s + 30) == []
    assert store.sweep(60, begun_s + 90) == [sha256]
    assert await store.offset(sha256) == 0


async def test_the_quota_counts_what_is_on_its_way(tmp_path: Path) -> None:
    """Two uploads that fit one by one do not fit together; what was dropped makes room again."""
    path, sha256 = made(tmp_path / "a", 60_000)
    _, other = made(tmp_path / "b", 60_000, seed=2)
    store = DiskStore(tmp_path / "s", quota_bytes=100_000, floor_bytes=0)
    first = await store.begin(sha256, 60_000, 0)
    first.write(path.read_bytes()[:10_000])
    with pytest.raises(StoreFull, match="quota"):
        await store.begin(other, 60_000, 0)
    first.close()
    assert store.usage() == {"used_bytes": 0, "unfinished_bytes": 10_000, "quota_bytes": 100_000}
    second = await store.begin(sha256, 60_000, 10_000)
    take(second, path.read_bytes()[10_000:])
    assert second.finish()
    assert store.usage()["used_bytes"] == 60_000
    await store.delete(sha256)
    (await store.begin(other, 60_000, 0)).close()


async def test_a_voter_sweeps_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Housekeeping drops what nobody goes on with, again and again."""
    monkeypatch.setattr("workqueue.store.LEFT_S", -60.0)
    monkeypatch.setattr("workqueue.store.SWEEP_S", 0.01)
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    sweeping = asyncio.create_task(keep_swept(store))
    for name in ("0" * 64, "1" * 64):
        store.partial(name).write_bytes(b"begun")
        async with asyncio.timeout(5):
            while store.partial(name).exists():
                await asyncio.sleep(0.01)
    sweeping.cancel()


async def test_throttle_keeps_the_rate() -> None:
    """A limit of 8000 kbit/s lets 100 kB pass in no less than 0.1 s."""
    loop = asyncio.get_running_loop()
    throttle, start = Throttle(8000), loop.time()
    for _ in range(10):
        await throttle.take(10_000)
    assert 0.09 < loop.time() - start < 1.0


async def test_no_more_bytes_are_taken_than_announced(tmp_path: Path) -> None:
    """The sender is out of step: it begins anew."""
    path, sha256 = made(tmp_path / "a", 50_000)
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    upload = await store.begin(sha256, 50_000, 0)
    upload.write(path.read_bytes()[:40_000])
    with pytest.raises(StoreError, match="more bytes than the 50000 announced"):
        upload.write(bytes(10_001))
    upload.close()
    assert await store.offset(sha256) == 0


async def test_a_block_that_a_full_disk_took_half_of_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the sender is told to go on from is what was digested."""
    path, sha256 = made(tmp_path / "a", 50_000)
    data = path.read_bytes()
    monkeypatch.setattr("workqueue.store._PIECE_BYTES", 10_000)
    store = DiskStore(tmp_path / "s", quota_bytes=1 << 30, floor_bytes=0)
    upload = await store.begin(sha256, 50_000, 0)
    take(upload, data[:20_000])
    write, room = upload._file.write, [10_000]

    def full(piece: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room.pop()
        return write(piece)

    monkeypatch.setattr(upload, "_file", MagicMock(wraps=upload._file, write=full))
    with pytest.raises(StoreFull, match="cannot take more: No space left"):
        upload.write(data[20_000:])
    upload.close()
    assert await store.offset(sha256) == upload.offset == 20_000
    again = await store.begin(sha256, 50_000, 20_000)
    take(again, data[20_000:])
    assert again.finish()
