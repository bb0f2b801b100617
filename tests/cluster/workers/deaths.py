"""How long the jobs of a worker that dies wait for another: by gossip, by heartbeats, by the lease alone."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import secrets
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec

from tests.cluster.service.cluster import Cluster, cluster
from tests.cluster.workers.harness import ROOT, Worker, workers_ended
from tests.ports import reserve_ports
from workqueue.machine.commands import (
    Cancel,
    Capability,
    Claim,
    Enqueue,
    Free,
    JobSpec,
    RegisterKind,
    RegisterWorker,
    Requirements,
)
from workqueue.machine.outcomes import Granted, Registered
from workqueue.peering import PATH, Peering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from workqueue.client import Client

LEASE_MS = 60_000


class Group:
    """Voters, some real workers that gossip, and members that do nothing else but gossip."""

    def __init__(self, made: Cluster, client: Client, folder: Path) -> None:
        self.made = made
        self.client = client
        self.folder = folder
        self.workers: list[Worker] = []
        self._roads: dict[str, str] = {}  # how each worker is to be known
        self._jobs = 0

    def worker(self, name: str, *flags: str) -> Worker:
        """Describe a worker that gossips unless other flags are given."""
        created = self.made.created
        self._roads[name] = "lease" if flags else "gossip"
        if not flags:
            [port] = reserve_ports(1)
            key = created.folder / "secrets/gossip.key"
            flags = ("--gossip", f"127.0.0.1:{port}", "--gossip-key", str(key))
        urls = [voter.http for voter in self.made.voters]
        made = Worker(self.folder, name, urls, created.worker_token, created.ca, ("--slots", "1", *flags))
        self.workers.append(made)
        return made

    async def members(self) -> dict[str, tuple[str, str]]:
        """State and road of each worker, as the leader sees them."""
        leader = (await self.client.status())["consensus"]["leader"]
        async with self.made.client(only=leader) as client:
            document = await client.status()
        return {
            member["id"]: (member["state"], member["via"])
            for member in document["membership"]
            if member["role"] == "worker"
        }

    async def until_members(self, count: int, timeout_s: float = 60.0) -> None:
        """Wait until the leader sees so many workers alive."""
        async with asyncio.timeout(timeout_s):
            while sum(state == "alive" for state, _ in (await self.members()).values()) < count:
                await asyncio.sleep(0.2)

    async def start_job(self) -> tuple[str, str]:
        """Enqueue a job that goes on for long; returns its id and the worker that runs it."""
        self._jobs += 1
        name = f"long-{self._jobs}"
        raw = msgspec.Raw(msgspec.msgpack.encode({"steps": 100_000, "step_ms": 50}))
        await self.client.submit(Enqueue((JobSpec(name, "fake", raw, lease_ms=LEASE_MS),)))
        job = await self.attempt_of(name, 1)
        return name, str(job["worker"])

    async def attempt_of(self, name: str, attempt: int, timeout_s: float = 120.0) -> dict[str, Any]:
        """Wait until an attempt of a job runs."""
        async with asyncio.timeout(timeout_s):
            while True:
                job: dict[str, Any] = await self.client.query("job", job=name)
                if job["state"] == "running" and job["attempt"] >= attempt:
                    return job
                await asyncio.sleep(0.02)

    def by_name(self, name: str) -> Worker:
        """The worker of a name."""
        return next(worker for worker in self.workers if worker.name == name)

    async def trial(self, how: str) -> float:
        """Kill the worker that runs a new job, its "machine" or its "agent", or have the agent "hang".

        Returns the seconds until another worker runs it. All is as before then.
        """
        name, holder = await self.start_job()
        worker = self.by_name(holder)
        await asyncio.sleep(random.uniform(0.2, 1.2))
        killed_s = time.monotonic()
        match how:
            case "machine":
                await worker.lose_machine()
            case "hang":
                await worker.signal(signal.SIGSTOP)
            case _:
                await worker.kill()
        job = await self.attempt_of(name, 2)
        took_s = time.monotonic() - killed_s
        assert (job["attempt"], job["payload_faults"]) == (2, 0), job
        assert job["worker"] != holder
        await self.client.submit(Cancel((name,), "seen enough"))
        await (worker.signal(signal.SIGCONT) if how == "hang" else worker.start())
        await self.until_registered(worker.name)
        return took_s

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Two workers without an inbound port in place of those that gossip."""
        for worker in self.workers:
            await worker.kill()
        quiet = [self.worker(f"quiet{index}", "--kinds", "fake") for index in range(2)]
        async with workers_ended(*quiet):
            for worker in quiet:
                await worker.start()
            await self.until_registered(*(worker.name for worker in quiet))
            yield

    async def until_registered(self, *names: str, timeout_s: float = 60.0) -> None:
        """Wait until workers are registered, alive, and known by the road that they are to be known by."""
        async with asyncio.timeout(timeout_s):
            while True:
                live = {row["id"] for row in await self.client.query("workers") if row["live"]}
                members = await self.members()
                seen = {name for name in names if members.get(name) == ("alive", self._roads[name])}
                if set(names) <= live & seen:
                    return
                await asyncio.sleep(0.1)

    async def lease_trial(self) -> float:
        """Seconds until a job is free again whose worker neither gossips nor beats: only the lease tells of its end."""
        need = Requirements(labels=("mute",))
        async with self.made.client("worker") as client:
            name, boot = f"mute-{secrets.token_hex(4)}", secrets.token_hex(4)
            capability = Capability(cpus=1, ram_mb=1000, disk_mb=1000, kinds=("fake",), labels=("mute",))
            [outcome] = await client.submit(RegisterWorker(name, boot, capability))
            assert isinstance(outcome, Registered), outcome
            raw = msgspec.Raw(msgspec.msgpack.encode({"steps": 1}))
            await self.client.submit(Enqueue((JobSpec(name, "fake", raw, lease_ms=LEASE_MS, requires=need),)))
            granted = await client.claim(Claim(name, boot, Free(cpus=1, ram_mb=1000, disk_mb=1000), 1), 5_000)
            assert isinstance(granted, Granted), granted
            claimed_s = time.monotonic()
        async with asyncio.timeout(2 * LEASE_MS / 1000):
            while (await self.client.query("job", job=name))["state"] == "running":
                await asyncio.sleep(0.1)
        return time.monotonic() - claimed_s


@contextlib.asynccontextmanager
async def gossipers(group: Group, count: int) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Members that do nothing but gossip, as many processes."""
    folder = group.folder / "gossipers"
    folder.mkdir()
    peering = msgspec.json.decode(await group.client.get(PATH), type=Peering)
    key = str(group.made.created.folder / "secrets/gossip.key")
    running = []
    try:
        for index, port in enumerate(reserve_ports(count)):
            told = {
                "node_id": f"g{index}", "boot_id": f"b{index}", "role": "worker", "bind": f"127.0.0.1:{port}",
                "seeds": peering.seeds, "key_files": [key], "period_ms": peering.period_ms,
                "suspicion_mult": peering.suspicion_mult, "cluster": peering.cluster,
            }  # fmt: skip
            file = folder / f"{index}.json"
            file.write_text(json.dumps(told))
            command = [sys.executable, "-m", "membership.process", "--settings", str(file)]
            command += ["--socket", str(folder / f"{index}.sock")]
            running.append(await asyncio.create_subprocess_exec(*command, cwd=ROOT))
        yield running
    finally:
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def group(folder: Path, *, voters: int, workers: int, members: int) -> AsyncIterator[Group]:
    """Voters and real workers, and as many members that only gossip as make `members` in all."""
    folder.mkdir(parents=True, exist_ok=True)
    async with cluster(folder / "voters", voters) as made, made.client() as client:
        await client.submit(RegisterKind("fake"))
        whole = Group(made, client, folder)
        fleet = [whole.worker(f"w{index}") for index in range(workers)]
        async with gossipers(whole, members - voters - workers), workers_ended(*fleet):
            for worker in fleet:
                await worker.start()
            await whole.until_registered(*(worker.name for worker in fleet))
            await whole.until_members(members - voters)
            yield whole
