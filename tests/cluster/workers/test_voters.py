"""Workers against real voters: an outage, drain, cancel, two of one name, a full disk."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cluster.workers.conftest import enqueue, reach, worker
from tests.cluster.workers.harness import workers_ended
from workqueue.machine.commands import Cancel, DrainWorker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.service.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
OUTAGE_S = 60


async def test_an_outage_of_a_minute_loses_no_step(voters: Cluster, tmp_path: Path) -> None:
    """All voters are away for twice the lease: the job goes on, ends, and its one attempt counts when they are back."""
    one = worker(voters, tmp_path)
    async with workers_ended(one):
        await one.start()
        async with voters.client() as client:
            await enqueue(client, "j", {"steps": 200, "step_ms": 100, "publish_every": 50}, lease_ms=30_000)
            await reach(client, "j", "running")
        await asyncio.sleep(2)
        for voter in voters.running():
            await voters.kill(voter)
        await asyncio.sleep(OUTAGE_S)
        await voters.start_all()
        await voters.wait_ready()
        async with voters.client() as client:
            job = await reach(client, "j", "completed", timeout_s=90)
    assert (job["attempt"], job["result"]["first"], len(job["result"]["files"])) == (1, 0, 4)


async def test_cancel_and_drain(voters: Cluster, tmp_path: Path) -> None:
    """A cancelled job ends within a heartbeat; a drained worker takes nothing more until it may again."""
    one = worker(voters, tmp_path)
    async with workers_ended(one), voters.client() as client:
        await one.start()
        await enqueue(client, "j", {"steps": 10_000, "step_ms": 50}, lease_ms=4_000)
        await reach(client, "j", "running")
        await client.submit(Cancel(("j",), "not wanted"))
        await reach(client, "j", "cancelled", timeout_s=5)
        await client.submit(DrainWorker("w"))
        await asyncio.sleep(6)  # the next sign of life tells the worker
        await enqueue(client, "k", {})
        await asyncio.sleep(2)
        assert (await client.query("job", job="k"))["state"] == "available"
        await client.submit(DrainWorker("w", on=False))
        await reach(client, "k", "completed")


async def test_two_workers_of_one_name(voters: Cluster, tmp_path: Path) -> None:
    """The second boot waits; when the first has left it takes over."""
    first, second = worker(voters, tmp_path / "a"), worker(voters, tmp_path / "b")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with workers_ended(first, second), voters.client() as client:
        await first.start()
        await enqueue(client, "j", {"steps": 40, "step_ms": 100})
        await reach(client, "j", "running")
        await second.start()
        await asyncio.sleep(3)
        assert "another worker is named w" in second.text()
        await first.signal(signal.SIGTERM)
        assert await first.wait() == 0
        job = await reach(client, "j", "completed")
    assert job["attempt"] == 2
    assert job["payload_faults"] == job["other_faults"] == 0


async def test_a_full_disk_takes_no_job(voters: Cluster, tmp_path: Path) -> None:
    """A worker whose quota is used up claims nothing, and says so."""
    one = worker(voters, tmp_path)
    (tmp_path / "worker.yaml").write_text("disk_mb: 40\nfloor_mb: 1\nid: w\njoin: [x]\ntoken_file: x\nca: x\n")
    one._command += ["--config", str(tmp_path / "worker.yaml")]
    async with workers_ended(one), voters.client() as client:
        (tmp_path / "w" / "spool").mkdir(parents=True)
        await one.start()
        await enqueue(client, "j", {"steps": 30, "publish_every": 1, "bytes_each": 100_000})
        await reach(client, "j", "completed")
        (one.data / "work" / "filler").write_bytes(b"x" * (30 << 20))
        await asyncio.sleep(6)
        await enqueue(client, "k", {})
        await asyncio.sleep(2)
        assert (await client.query("job", job="k"))["state"] == "available"
        (one.data / "work" / "filler").unlink()
        await reach(client, "k", "completed")
