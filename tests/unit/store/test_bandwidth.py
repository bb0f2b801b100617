"""Limits of bandwidth: a connection's, a provider's and a job's, on the bytes that really pass."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from config.cluster import StoreSettings, WorkerSettings
from tests.unit.store.conftest import Http, cluster_of
from tests.unit.store.test_artifacts import made
from workers.client import WorkerClient
from workqueue.blocks import Shares, Throttle
from workqueue.transfer import PROVIDER, ForJob, get_artifact, put_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.store.conftest import Cluster

SIZE = 100_000
KBPS = 4_000  # 0.2 s for SIZE bytes


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what waited for a limit: tells what is free of one on a machine that is slow itself."""
    sizes: list[int] = []
    take = Throttle.take

    async def noted(self: Throttle, size: int) -> None:
        if self.limited:
            sizes.append(size)
        await take(self, size)

    monkeypatch.setattr(Throttle, "take", noted)
    return sizes


async def seconds(cluster: Cluster, folder: Path, job: str = "", provider: str = "", count: int = 1) -> float:
    """How long it takes to fetch the stored artifacts, `count` at once."""
    headers = cluster.http.headers | ({PROVIDER: provider} if provider else {})
    http = ForJob(Http(cluster.http.session, cluster.http.servers, headers), job)
    names = list(cluster.registry.holders)[:count]
    loop = asyncio.get_running_loop()
    start = loop.time()
    await asyncio.gather(*(get_artifact(http, name, folder / f"{name}{start}") for name in names))
    return loop.time() - start


@pytest.mark.parametrize(
    ("limits", "limited", "free"),
    [
        ({"connection": KBPS}, {}, None),
        ({"job": KBPS}, {"job": "j"}, {}),
        ({"provider:vast": KBPS}, {"provider": "vast"}, {"provider": "other"}),
    ],
)
async def test_a_limit_slows_what_it_names_and_nothing_else(
    limits: dict[str, int], limited: dict[str, str], free: dict[str, str] | None, tmp_path: Path, held: list[int]
) -> None:
    """Downloads by whom a limit is for take as long as it says, others do not."""
    settings = StoreSettings(replicas=1, floor_mb=1, kbps_max=limits)
    async with cluster_of(tmp_path / "voters", 1, settings) as cluster:
        await put_artifact(cluster.http, made(tmp_path / "a", SIZE)[0], kind="shard")
        held.clear()
        assert await seconds(cluster, tmp_path, **limited) > 0.19
        assert sum(held) == SIZE
        if free is not None:
            held.clear()
            await seconds(cluster, tmp_path, **free)
            assert held == []


async def test_connections_of_one_job_share_its_limit(tmp_path: Path) -> None:
    """Two files at once take twice as long as one; uploads count as well."""
    settings = StoreSettings(replicas=1, floor_mb=1, kbps_max={"job": KBPS})
    async with cluster_of(tmp_path / "voters", 1, settings) as cluster:
        loop = asyncio.get_running_loop()
        start = loop.time()
        for seed in (1, 2):
            await put_artifact(ForJob(cluster.http, "u"), made(tmp_path / "a", SIZE, seed)[0], kind="shard")
        assert loop.time() - start > 0.38
        assert await seconds(cluster, tmp_path, job="j", count=2) > 0.38


def test_the_jobs_seen_longest_ago_are_forgotten() -> None:
    """Memory does not grow with the jobs of a year."""
    shares = Shares(1, 2)
    first = shares.of("a")
    assert shares.of("a") is first
    for name in ("b", "c"):
        shares.of(name)
    assert shares.of("a") is not first


async def test_bytes_that_are_passed_on_are_limited_too(tmp_path: Path) -> None:
    """A voter that lacks the bytes keeps to its own limits with those of a holder."""
    settings = StoreSettings(replicas=1, floor_mb=1, kbps_max={"job": KBPS})
    async with cluster_of(tmp_path / "voters", 2, settings) as cluster:
        await put_artifact(cluster.http, made(tmp_path / "a", SIZE)[0], kind="shard")
        [sha256] = cluster.registry.holders
        cluster.http.servers = [
            voter.url for voter in cluster.voters if voter.voter_id not in cluster.registry.holders[sha256]
        ]
        assert len(cluster.http.servers) == 1
        assert await seconds(cluster, tmp_path, job="j") > 0.19


@pytest.mark.parametrize(
    ("limit", "job", "limited"),
    [
        ("upload_kbps_max", "", (True, False)),
        ("download_kbps_max", "", (False, True)),
        ("job_kbps_max", "j", (True, True)),
        ("job_kbps_max", "", (False, False)),
    ],
)
async def test_a_worker_keeps_to_its_own_rates(
    limit: str, job: str, limited: tuple[bool, bool], tmp_path: Path, held: list[int]
) -> None:
    """Of uploads, downloads and each job's transfers, whatever the voters allow."""
    settings = StoreSettings(replicas=1, floor_mb=1)
    async with cluster_of(tmp_path / "voters", 1, settings) as cluster:
        told = {
            "id": "w",
            "join": cluster.http.servers,
            "token_file": "t",
            "ca": "c",
            "data": str(tmp_path),
            limit: KBPS,
        }
        client = WorkerClient(msgspec.convert(told, WorkerSettings), "w")
        client._session = cluster.http.session
        path, sha256 = made(tmp_path / "a", SIZE)
        loop = asyncio.get_running_loop()
        for way, transfer in zip(
            limited,
            (
                lambda: client.put_artifact(path, kind="shard", job=job),
                lambda: client.get_artifact(sha256, tmp_path / "b", job=job),
            ),
            strict=True,
        ):
            held.clear()
            start = loop.time()
            await transfer()
            assert sum(held) == SIZE * way
            assert not way or loop.time() - start > 0.15
