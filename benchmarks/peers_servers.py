"""What the peers of the benchmark have in common: processes that are started and stopped, and a client's session."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

NODES = 5
START_S = 120.0


class Session(Protocol):
    """One client connection to a peer, used by one coroutine at a time unless it says otherwise."""

    async def commit(self, count: int) -> None:
        """Return when so many values of the task's size are acknowledged, sent as one batch."""
        ...

    async def enqueue(self, count: int) -> None:
        """Return when so many jobs are acknowledged, sent as one batch."""
        ...

    async def claim(self, limit: int) -> Sequence[Any]:
        """Wait for jobs that no other session gets; up to `limit` of them, or none after half a second."""
        ...

    async def complete(self, claimed: Sequence[Any]) -> None:
        """Finish claimed jobs; returns when the peer acknowledges it, if it does at all."""
        ...

    async def close(self) -> None:
        """Close the connection."""
        ...


class Servers:
    """The processes of one peer; a subclass says how a node is started and where its leader is."""

    name = ""
    program = ""
    durable = ""  # what its acknowledgement promises

    def __init__(self, folder: Path, base_port: int) -> None:
        self.folder = folder
        self.base_port = base_port
        self._processes: list[asyncio.subprocess.Process] = []
        folder.mkdir(parents=True, exist_ok=True)

    def port(self, node: int) -> int:
        """Return a node's client port."""
        return self.base_port + node

    def command(self, node: int) -> tuple[list[str], dict[str, str]]:
        """Return the command line and the environment of a node."""
        raise NotImplementedError

    async def leader(self) -> int:
        """Wait for the node that leads; returns its number."""
        raise NotImplementedError

    async def empty(self) -> None:
        """Remove all jobs, so that one load finds nothing of the last."""
        raise NotImplementedError

    async def launch(self, command: list[str], environment: dict[str, str], name: str) -> None:
        """Start a process whose output goes to a file."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, **environment}, stdin=asyncio.subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)

    async def start(self) -> None:
        """Start every node and wait until its port is open."""
        for node in range(NODES):
            command, environment = self.command(node)
            await self.launch(command, environment, f"{node}")
        for node in range(NODES):
            await self.opened(self.port(node))

    async def opened(self, port: int) -> None:
        """Wait until something listens on a port."""
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
                return
            if any(process.returncode is not None for process in self._processes):
                break
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{self.name} did not open port {port}; read {self.folder}/*.log")

    def cpu_s(self) -> float:
        """Return the CPU seconds used by all processes so far."""
        total = 0.0
        for process in self._tree():
            with contextlib.suppress(psutil.Error):
                total += sum(process.cpu_times()[:2])
        return total

    def _tree(self) -> list[psutil.Process]:
        found = []
        for process in self._processes:
            with contextlib.suppress(psutil.Error):
                root = psutil.Process(process.pid)
                found += [root, *root.children(recursive=True)]
        return found

    async def stop(self) -> None:
        """Kill what was started: the processes and their children, nothing else."""
        tree = self._tree()
        for process in tree:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(psutil.wait_procs, tree, 10)
        for started in self._processes:
            await started.wait()
        self._processes.clear()


def installed(program: str) -> str | None:
    """Return where a program is; Debian's wrappers of RabbitMQ would change the user and are passed over."""
    places = ["/usr/lib/rabbitmq/bin", os.environ.get("PATH", ""), "/usr/sbin"]
    return shutil.which(program, path=os.pathsep.join(places))
