"""Real voters on loopback: nothing acknowledged is lost, nothing is completed twice, whoever dies."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.service.cluster import Cluster, cluster
from workqueue.errors import ClientError
from workqueue.machine.commands import (
    Capability,
    Claim,
    Complete,
    Completion,
    Enqueue,
    Free,
    JobSpec,
    RegisterKind,
    RegisterWorker,
)
from workqueue.machine.outcomes import Completed, Enqueued, Granted, Registered, Settled

if TYPE_CHECKING:
    from workqueue.client import Client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
FREE = Free(64, 64_000, 64_000)


async def open_kind(client: Client) -> None:
    await client.submit(RegisterKind("test"))


async def register(client: Client, worker: str) -> None:
    capability = Capability(64, 64_000, 64_000, kinds=("test",))
    [outcome] = await client.submit(RegisterWorker(worker, f"boot-{worker}", capability))
    assert isinstance(outcome, Registered), outcome


async def complete_one(client: Client, worker: str, wait_ms: int, limit: int = 1) -> list[str]:
    """Claim once and complete what was granted; returns the ids whose completion was acknowledged."""
    granted = await client.claim(Claim(worker, f"boot-{worker}", FREE, limit), wait_ms)
    if not isinstance(granted, Granted):
        return []
    completions = tuple(Completion(lease.job, lease.attempt) for lease in granted.leases)
    [outcome] = await client.submit(Complete(worker, completions))
    assert isinstance(outcome, Completed), outcome
    return [each.job for each in outcome.settled if isinstance(each, Settled) and each.state == "completed"]


@pytest.mark.parametrize("count", [1, 5])
async def test_a_job_lives_through_any_voter(tmp_path: Path, count: int) -> None:
    """Enqueue, claim and complete work through each voter, leader or follower."""
    async with cluster(tmp_path, count) as voters:
        for voter in voters.voters:
            async with voters.client(only=voter.id) as client:
                await open_kind(client)
                await register(client, voter.id)
                assert await client.submit(Enqueue((JobSpec(f"job-{voter.id}", "test"),))) == [
                    Enqueued((f"job-{voter.id}",))
                ]
                assert await complete_one(client, voter.id, 5_000) == [f"job-{voter.id}"]
                job = await client.query("job", job=f"job-{voter.id}")
                assert job["state"] == "completed"
                assert (await client.status())["latency"]["claim"]["count"] > 0, "the leader's, whoever answers"


async def test_the_leader_dies_under_load(tmp_path: Path) -> None:
    """kill -9 of the leader while clients enqueue and workers complete: every acknowledged job is completed once."""
    async with cluster(tmp_path, 5) as voters:
        leader = await voters.wait_ready()
        async with voters.client() as client:
            await open_kind(client)
        acknowledged: list[str] = []
        completed: list[str] = []
        stop = asyncio.Event()
        producers = [asyncio.create_task(_produce(voters, n, acknowledged, stop)) for n in range(4)]
        workers = [asyncio.create_task(_work(voters, f"w{n}", completed, stop, acknowledged)) for n in range(4)]
        await asyncio.sleep(3)
        before = len(acknowledged)
        await voters.kill(leader)
        await asyncio.sleep(6)
        stop.set()
        await asyncio.gather(*producers)
        async with asyncio.timeout(60):
            await asyncio.gather(*workers)
        assert before > 0
        assert len(acknowledged) > before
        assert len(completed) == len(set(completed)), "a job was acknowledged as completed twice"
        assert set(acknowledged) <= set(completed)
        await voters.start(leader)
        async with voters.client(only=leader) as client:
            job = await client.query("job", job=acknowledged[0])
            assert job["state"] == "completed"


async def _produce(voters: Cluster, number: int, acknowledged: list[str], stop: asyncio.Event) -> None:
    async with voters.client() as client:
        count = 0
        while not stop.is_set():
            count += 1
            name = f"p{number}-{count}"
            with contextlib.suppress(ClientError):
                [outcome] = await client.submit(Enqueue((JobSpec(name, "test"),)))
                assert isinstance(outcome, Enqueued), outcome
                acknowledged.append(name)
            await asyncio.sleep(0.005)


async def _work(
    voters: Cluster, worker: str, completed: list[str], stop: asyncio.Event, acknowledged: list[str]
) -> None:
    async with voters.client("worker") as client:
        await register(client, worker)
        beats = asyncio.create_task(beat(client, worker))
        while not stop.is_set() or not set(acknowledged) <= set(completed):
            with contextlib.suppress(ClientError):
                completed.extend(await complete_one(client, worker, 500))
        beats.cancel()


async def beat(client: Client, worker: str) -> None:
    """Say that a worker is alive, as a new leader expects of all that are registered."""
    for number in itertools.count(1):
        with contextlib.suppress(ClientError):
            await client.beat(worker, f"boot-{worker}", number, {})
        await asyncio.sleep(0.5)


async def test_all_voters_restart(tmp_path: Path) -> None:
    """kill -9 of all five at once: what was acknowledged is there when they come back."""
    async with cluster(tmp_path, 5) as voters:
        async with voters.client() as client:
            await open_kind(client)
            names = [f"job-{n}" for n in range(50)]
            for name in names:
                await client.submit(Enqueue((JobSpec(name, "test"),)))
        await asyncio.gather(*(voters.kill(voter.id) for voter in voters.voters))
        await voters.start_all()
        await voters.wait_ready()
        async with voters.client() as client:
            for name in names:
                assert (await client.query("job", job=name))["state"] == "available"


async def test_a_voter_process_holds_no_engine(tmp_path: Path) -> None:
    """No process of a live voter has loaded torch, numpy or numba."""
    async with cluster(tmp_path, 1) as voters:
        pid = voters._processes["voter-1"].pid
        pids = [pid, *(int(child) for child in _children(pid))]
        assert len(pids) >= 4
        for each in pids:
            maps = Path(f"/proc/{each}/maps").read_text()
            assert not any(name in maps for name in ("/torch/", "/numpy/", "/numba/"))


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


async def test_the_processes_end_together(tmp_path: Path) -> None:
    """When one process of a voter dies, the others stop and the voter says which it was."""
    async with cluster(tmp_path, 1) as voters:
        process = voters._processes["voter-1"]
        victim = int(_children(process.pid)[0])
        os.kill(victim, 9)
        async with asyncio.timeout(20):
            code = await process.wait()
        assert code != 0
        assert "rift voter:" in voters.log("voter-1")
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", voters.voters[0].http_port)) != 0


async def test_a_voter_stops_on_sigterm(tmp_path: Path) -> None:
    """SIGTERM ends a voter within seconds, with exit code 0."""
    async with cluster(tmp_path, 1) as voters:
        assert await voters.stop("voter-1") == 0
