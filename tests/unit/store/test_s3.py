"""Artifacts in a real S3 server: the same promises, with one store for all voters."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import aiohttp
import pytest
from obstore.exceptions import GenericError

from config.cluster import StoreSettings
from config.errors import ConfigError
from tests.ports import reserve_ports
from tests.unit.store.conftest import cluster_of
from tests.unit.store.test_artifacts import broken_upload, made
from workqueue.store import StoreError
from workqueue.stores import open_store
from workqueue.transfer import get_artifact, put_artifact

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def s3(tmp_path: Path) -> AsyncIterator[StoreSettings]:
    """A local S3 server with an empty bucket."""
    [port] = reserve_ports(1)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:
            for _ in range(300):
                try:
                    async with session.put(f"{url}/bucket") as answer:
                        assert answer.status == 200
                        break
                except aiohttp.ClientError:
                    await asyncio.sleep(0.1)
        (tmp_path / "s3.yaml").write_text("access_key_id: someone\nsecret_access_key: secret\n")
        yield StoreSettings(url="s3://bucket/rift", endpoint=url, credentials_file="s3.yaml", floor_mb=1)
    finally:
        server.kill()
        server.wait()


async def test_round_trip(s3: StoreSettings, tmp_path: Path) -> None:
    """Uploads resume, are verified, land in the bucket once, and every voter serves them."""
    path, sha256 = made(tmp_path / "a", 2_500_000)
    async with cluster_of(tmp_path / "voters", 2, s3) as cluster:
        for voter in cluster.voters:
            voter.store = open_store(s3, tmp_path / voter.voter_id, tmp_path)
        for voter in cluster.voters:
            await voter.stop()
        from tests.unit.store.conftest import serve

        for voter in cluster.voters:
            await serve(voter)
        cluster.http.servers = [voter.url for voter in cluster.voters]
        await broken_upload(cluster.voters[0].url, sha256, path.read_bytes()[:1_000_000], 2_500_000)
        sent: list[int] = []
        await put_artifact(cluster.http, path, kind="weights", progress=lambda done, _: sent.append(done))
        assert min(sent) > 1_000_000
        assert cluster.registry.holders[sha256] == {"store"}
        store = cluster.voters[1].store
        assert await store.inventory() == {sha256: 2_500_000}
        assert await store.verify(sha256)
        cluster.http.servers = [cluster.voters[1].url]
        (tmp_path / "b.part").write_bytes(path.read_bytes()[:77])
        await get_artifact(cluster.http, sha256, tmp_path / "b")
        assert (tmp_path / "b").read_bytes() == path.read_bytes()
        await store.delete(sha256)
        assert await store.size(sha256) is None


@pytest.mark.parametrize("url", ["http://bucket", "s3://"])
def test_bad_url(url: str, tmp_path: Path) -> None:
    """A store that cannot be is refused at start."""
    with pytest.raises(ConfigError, match="s3://bucket/prefix"):
        open_store(StoreSettings(url=url), tmp_path / "v", tmp_path)


def test_missing_credentials(tmp_path: Path) -> None:
    """So is a file of credentials that is not there."""
    with pytest.raises(ConfigError, match="credentials_file"):
        open_store(StoreSettings(url="s3://b", credentials_file="none.yaml"), tmp_path / "v", tmp_path)


@pytest.mark.parametrize("call", ["size", "delete", "verify", "inventory"])
async def test_a_store_that_fails_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """In one sentence of ours, whatever was asked for: callers know no other library's errors."""

    def failing(*_: object, **__: object) -> NoReturn:
        raise GenericError("out of order")

    for name in ("head_async", "delete_async", "list"):
        monkeypatch.setattr(f"workqueue.store_s3.obstore.{name}", failing)
    store = open_store(StoreSettings(url="s3://bucket", floor_mb=1), tmp_path / "v", tmp_path)
    arguments = () if call == "inventory" else ("a" * 64,)
    with pytest.raises(StoreError, match="the object store does not answer: out of order"):
        await getattr(store, call)(*arguments)


async def test_an_object_that_cannot_be_read_is_said_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block."""

    def failing(*_: object, **__: object) -> NoReturn:
        raise GenericError("out of order")

    monkeypatch.setattr("workqueue.store_s3.obstore.get_range_async", failing)
    store = open_store(StoreSettings(url="s3://bucket", floor_mb=1), tmp_path / "v", tmp_path)
    with pytest.raises(StoreError, match="out of order"):
        await anext(aiter(store.read("a" * 64, 0, 10)))
