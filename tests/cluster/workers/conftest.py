"""Three voters for the tests of workers, and what these do to them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cluster.service.cluster import Cluster, cluster
from tests.cluster.workers.harness import Worker
from workqueue.machine.commands import Enqueue, JobSpec, RegisterKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workqueue.client import Client


@pytest.fixture
async def voters(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path / "voters", 3) as made:
        async with made.client() as client:
            await client.submit(RegisterKind("fake"))
        yield made


def worker(voters: Cluster, folder: Path, name: str = "w", *flags: str) -> Worker:
    created = voters.created
    urls = [voter.http for voter in voters.voters]
    return Worker(folder, name, urls, created.worker_token, created.ca, ("--slots", "1", *flags))


async def enqueue(client: Client, name: str, payload: dict[str, Any], **fields: Any) -> None:
    raw = msgspec.Raw(msgspec.msgpack.encode(payload))
    await client.submit(Enqueue((JobSpec(name, "fake", raw, **fields),)))


async def reach(client: Client, name: str, *states: str, timeout_s: float = 60) -> dict[str, Any]:
    async with asyncio.timeout(timeout_s):
        while True:
            job: dict[str, Any] = await client.query("job", job=name)
            if job["state"] in states:
                return job
            await asyncio.sleep(0.1)
