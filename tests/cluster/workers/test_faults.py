"""Networks, jobs, disks and clocks that fail under real workers and voters: what must follow, and what must not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cluster.workers.conftest import enqueue, reach, worker
from tests.cluster.workers.harness import Worker, workers_ended
from tests.cluster.workers.proxy import Ways
from workqueue.machine.commands import RetryPolicy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cluster.service.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]
ONCE = RetryPolicy(1, 100, 100)


async def test_a_worker_that_is_cut_off_counts_once(voters: Cluster, tmp_path: Path) -> None:
    """Its job runs elsewhere; what it finishes meanwhile is refused as stale, and then it works on."""
    async with Ways([voter.http for voter in voters.voters]) as ways:
        created = voters.created
        cut = Worker(tmp_path, "cut", ways.urls, created.worker_token, created.ca, ("--slots", "1"))
        other = worker(voters, tmp_path, "other")
        async with workers_ended(cut, other), voters.client() as client:
            await cut.start()
            await enqueue(client, "j", {"steps": 160, "step_ms": 50, "publish_every": 80}, lease_ms=60_000)
            await reach(client, "j", "running")
            await other.start()
            await asyncio.sleep(1)
            ways.cut()
            async with asyncio.timeout(10):
                while (job := await client.query("job", job="j"))["worker"] != "other":
                    await asyncio.sleep(0.1)
            assert job["attempt"] == 2
            await asyncio.sleep(4)  # the first attempt ends in the meantime
            ways.heal()
            async with asyncio.timeout(30):
                while "stale_attempt" not in cut.text() and "lease.lost" not in cut.text():
                    await asyncio.sleep(0.1)
            job = await reach(client, "j", "completed")
            assert (job["attempt"], job["payload_faults"], job["worker"]) == (2, 0, "other")
            await other.kill()
            await enqueue(client, "k", {})
            assert (await reach(client, "k", "completed"))["worker"] == "cut"
            assert list((cut.data / "spool").iterdir()) == []


async def test_a_voter_that_vanishes_without_a_word_costs_no_attempt(voters: Cluster, tmp_path: Path) -> None:
    """Its workers turn to other voters before their heartbeats are missed, time after time."""
    urls = [voter.http for voter in voters.voters]
    async with Ways(urls) as ways:
        created = voters.created
        one = Worker(tmp_path, "w", ways.urls, created.worker_token, created.ca, ("--slots", "1"))
        async with workers_ended(one), voters.client() as client:
            await one.start()
            await enqueue(client, "j", {"steps": 10_000, "step_ms": 50}, lease_ms=60_000)
            await reach(client, "j", "running")
            for url in (*urls, urls[0]):  # one of them is the worker's
                ways.cut(url)
                await asyncio.sleep(5)  # more than the time to live of a heartbeat
                ways.heal()
                await asyncio.sleep(0.5)
            job = await client.query("job", job="j")
            assert (job["state"], job["attempt"], job["other_faults"]) == ("running", 1, 0), one.text()
            assert "voter.left" in one.text()


async def test_a_pause_is_survived_and_a_long_one_is_healed(voters: Cluster, tmp_path: Path) -> None:
    """An agent that stands still for two seconds keeps its job; after eight it has lost it, and works on afterwards."""
    one = worker(voters, tmp_path)
    async with workers_ended(one), voters.client() as client:
        await one.start()
        await enqueue(client, "j", {"steps": 10_000, "step_ms": 50}, lease_ms=60_000)
        await reach(client, "j", "running")
        await asyncio.sleep(1)
        await one.signal(signal.SIGSTOP)
        await asyncio.sleep(2)
        await one.signal(signal.SIGCONT)
        await asyncio.sleep(3)
        job = await client.query("job", job="j")
        assert (job["state"], job["attempt"]) == ("running", 1)
        await one.signal(signal.SIGSTOP)
        await reach(client, "j", "available", timeout_s=10)
        await one.signal(signal.SIGCONT)
        async with asyncio.timeout(20):
            while (job := await client.query("job", job="j"))["attempt"] < 2 or job["state"] != "running":
                await asyncio.sleep(0.1)
        assert (job["worker"], job["payload_faults"]) == ("w", 0)
        assert "lease.lost" in one.text() or "claim.refused" in one.text()


async def test_a_spot_notice_moves_the_job_with_its_progress(voters: Cluster, tmp_path: Path) -> None:
    """The machine leaves at once; another worker goes on at the cursor, and no attempt is burned."""
    notice = tmp_path / "notice"
    one = worker(voters, tmp_path, "spot", "--spot-command", f"test -e {notice}")
    two = worker(voters, tmp_path, "two")
    async with workers_ended(one, two), voters.client() as client:
        await one.start()
        await enqueue(client, "j", {"steps": 400, "step_ms": 50, "publish_every": 10}, lease_ms=60_000)
        await reach(client, "j", "running")
        await two.start()
        async with asyncio.timeout(20):
            while not (await client.query("job", job="j"))["cursor"]:
                await asyncio.sleep(0.1)
        notice.touch()
        assert await one.wait() == 0
        async with asyncio.timeout(10):
            while (job := await client.query("job", job="j"))["worker"] != "two":
                await asyncio.sleep(0.05)
        assert job["cursor"]["step"] >= 10
        assert (job["attempt"], job["payload_faults"], job["other_faults"]) == (2, 0, 0)


async def test_a_job_that_misbehaves_fails_with_its_cause(voters: Cluster, tmp_path: Path) -> None:
    """Hang, too much memory, a segmentation fault, an exit: typed, with the log's tail, and the agent works on."""
    wanted = {
        "hang": "runner.hung",
        "memory": "runner.out_of_memory",
        "segfault": "runner.crashed",
        "exit": "runner.crashed",
    }
    one = worker(voters, tmp_path, "w", "--hang-s", "2", "--memory-mb", "300")
    async with workers_ended(one), voters.client() as client:
        await one.start()
        for act in wanted:
            await enqueue(client, act, {"steps": 3, "act": act, "act_at": 1}, retry=ONCE)
        for act, cause in wanted.items():
            job = await reach(client, act, "failed")
            [told] = job["causes"]
            assert (told["cause"], told["fault"]) == (cause, "payload"), told
            assert f"job {act} starts at 0" in told["log_tail"]
        await enqueue(client, "good", {})
        assert (await reach(client, "good", "completed"))["attempt"] == 1
        assert one.running


async def test_a_disk_without_space(voters: Cluster, tmp_path: Path) -> None:
    """A job that meets a full disk fails by the machine's fault, and is done when there is space again."""
    assert os.geteuid() == 0, "This test mounts a small file system, which needs root."
    data = tmp_path / "w"
    data.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], check=True)
    try:
        one = worker(voters, tmp_path)
        (tmp_path / "worker.yaml").write_text("disk_mb: 40\nfloor_mb: 1\nid: w\njoin: [x]\ntoken_file: x\nca: x\n")
        one._command += ["--config", str(tmp_path / "worker.yaml")]
        async with workers_ended(one), voters.client() as client:
            await one.start()
            await enqueue(client, "first", {})
            await reach(client, "first", "completed")
            await enqueue(client, "j", {"steps": 40, "step_ms": 50, "publish_every": 20, "bytes_each": 3_000_000})
            await reach(client, "j", "running")
            (data / "filler").write_bytes(b"x" * (_free(data) - 1_000_000))
            async with asyncio.timeout(20):
                while not (job := await client.query("job", job="j"))["causes"]:
                    await asyncio.sleep(0.1)
            assert {(told["cause"], told["fault"]) for told in job["causes"]} == {("disk.full", "node")}
            assert (await client.query("job", job="first"))["state"] == "completed"
            (data / "filler").unlink()
            job = await reach(client, "j", "completed")
            assert job["payload_faults"] == 0
            assert len(job["result"]["files"]) == 2
    finally:
        subprocess.run(["umount", "-l", str(data)], check=True)


def _free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


async def test_a_voter_whose_clock_is_an_hour_ahead_leads(voters: Cluster, tmp_path: Path) -> None:
    """Leadership goes to it and back while a job runs: the job's one attempt counts, and new jobs are done."""
    shift = tmp_path / "clock"
    shift.mkdir()
    (shift / "sitecustomize.py").write_text(
        f"open({str(shift / 'shifted')!r}, 'a').close()\n"
        "import time\n_real, _ns = time.time, time.time_ns\n"
        "time.time = lambda: _real() + 3600\ntime.time_ns = lambda: _ns() + 3600 * 10**9\n"
    )
    leader = await voters.wait_ready()
    ahead = next(voter.id for voter in voters.voters if voter.id != leader)
    await voters.kill(ahead)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shift), prepend=os.pathsep)
        await voters.start(ahead)
    assert (shift / "shifted").exists()
    one = worker(voters, tmp_path)
    async with workers_ended(one), voters.client() as client:
        await one.start()
        await enqueue(client, "j", {"steps": 200, "step_ms": 50}, lease_ms=4_000)
        await reach(client, "j", "running")
        for target in (ahead, leader):
            await client.cluster("transfer", target)
            async with asyncio.timeout(10):
                while (await client.status())["consensus"]["leader"] != target:
                    await asyncio.sleep(0.1)
            await asyncio.sleep(2)
        job = await reach(client, "j", "completed")
        assert (job["attempt"], job["payload_faults"], job["other_faults"]) == (1, 0, 0)
        await enqueue(client, "k", {})
        await reach(client, "k", "completed")
