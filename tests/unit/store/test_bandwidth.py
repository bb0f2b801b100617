"""Limits of bandwidth: a connection's, a provider's and a job's, on the bytes that really pass."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from config.cluster import StoreSettings
from tests.unit.store.conftest import Http, cluster_of
from tests.unit.store.test_artifacts import made
from workqueue.http import bandwidth
from workqueue.http.bandwidth import Bandwidth
from workqueue.transfer import PROVIDER, ForJob, get_artifact, put_artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.store.conftest import Cluster

SIZE = 100_000
KBPS = 4_000  # 0.2 s for SIZE bytes


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
    limits: dict[str, int], limited: dict[str, str], free: dict[str, str] | None, tmp_path: Path
) -> None:
    """Downloads by whom a limit is for take as long as it says, others do not."""
    settings = StoreSettings(replicas=1, floor_mb=1, kbps_max=limits)
    async with cluster_of(tmp_path / "voters", 1, settings) as cluster:
        await put_artifact(cluster.http, made(tmp_path / "a", SIZE)[0], kind="shard")
        assert 0.19 < await seconds(cluster, tmp_path, **limited) < 1.5
        if free is not None:
            assert await seconds(cluster, tmp_path, **free) < 0.19


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


def test_the_jobs_seen_longest_ago_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the jobs of a year."""
    monkeypatch.setattr(bandwidth, "JOBS_MAX", 2)
    limits = Bandwidth(StoreSettings(kbps_max={"job": 1}))
    first = limits._of_job("a")
    assert limits._of_job("a") is first
    for name in ("b", "c"):
        limits._of_job(name)
    assert limits._of_job("a") is not first
