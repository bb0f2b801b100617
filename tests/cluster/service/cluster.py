"""Starts and kills voters of a cluster on loopback: real processes, TLS, disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import psutil

from config.cluster import RaftSettings
from tests.ports import reserve_ports
from workqueue.client import Client
from workqueue.errors import ClientError
from workqueue.init import Created, create, loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Cluster:
    """Voters by id, each a process group of its own so that `kill` reaches all of its processes."""

    def __init__(self, folder: Path, count: int, raft: RaftSettings) -> None:
        self.voters = loopback(count, reserve_ports(10 * count)[0])
        self.created: Created = create(folder, self.voters, raft=raft)
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._logs: dict[str, Any] = {}

    async def start(self, voter: str) -> None:
        """Start a voter and wait until it says that it serves."""
        config = self.created.folder / f"{voter}.yaml"
        log = (self.created.folder / f"{voter}.log").open("ab")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workqueue.voter", "--config", str(config),
            stdout=asyncio.subprocess.PIPE, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self._processes[voter] = process
        assert process.stdout
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line == b"ready\n", f"{voter} did not start: {self.log(voter)[-2000:]}"

    async def start_all(self) -> None:
        """Start every voter."""
        await asyncio.gather(*(self.start(voter.id) for voter in self.voters))

    async def kill(self, voter: str) -> None:
        """kill -9 of all processes of a voter."""
        process = self._processes.pop(voter)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def stop(self, voter: str) -> int:
        """SIGTERM, as an operator would; returns the exit code."""
        process = self._processes.pop(voter)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        async with asyncio.timeout(30):
            return await process.wait()

    async def stop_all(self) -> None:
        """Stop every voter that still runs, whatever it takes."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        self._processes.clear()

    def running(self) -> list[str]:
        """Ids of voters that were started and not stopped."""
        return sorted(self._processes)

    def processes(self, voter: str) -> list[psutil.Process]:
        """The supervisor of a voter and what it started."""
        supervisor = psutil.Process(self._processes[voter].pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def log(self, voter: str) -> str:
        """What a voter's processes wrote."""
        path = self.created.folder / f"{voter}.log"
        return path.read_text() if path.exists() else ""

    def token(self, role: str = "admin") -> str:
        """One of the first tokens."""
        path = self.created.admin_token if role == "admin" else self.created.worker_token
        return path.read_text().strip()

    def client(self, role: str = "admin", *, only: str = "", deadline_s: float = 30.0) -> Client:
        """A client of all voters, or of one."""
        urls = [voter.http for voter in self.voters if only in {"", voter.id}]
        return Client(urls, token=self.token(role), ca=self.created.ca, deadline_s=deadline_s)

    async def wait_ready(self, seconds: float = 30.0) -> str:
        """Wait until a client's request is answered; returns the leader."""
        async with asyncio.timeout(seconds):
            while True:
                with contextlib.suppress(ClientError):
                    async with self.client(deadline_s=5) as client:
                        await client.query("settings")
                        leader = str((await client.status())["consensus"]["leader"])
                        if leader:
                            return leader
                await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def cluster(folder: Path, count: int, raft: RaftSettings | None = None) -> AsyncIterator[Cluster]:
    """A cluster that runs while open."""
    voters = Cluster(folder, count, raft or RaftSettings())
    try:
        await voters.start_all()
        await voters.wait_ready()
        yield voters
    finally:
        await voters.stop_all()
