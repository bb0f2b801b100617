"""Workers as real processes, to be started, signalled and killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "tests" / "unit" / "workers" / "example"


class Worker:
    """One `rift worker`; its data folder outlives its process."""

    def __init__(
        self, folder: Path, name: str, join: Sequence[str], token: Path, ca: Path, flags: Sequence[str]
    ) -> None:
        self.name = name
        self.data = folder / name
        self.log = folder / f"{name}.log"
        urls = [part for url in join for part in ("--join", url)]
        self._command = [
            sys.executable, "-m", "workers.cli", *urls, "--token-file", str(token), "--ca", str(ca),
            "--data", str(self.data), "--id", name, "--no-canary", "--kinds", "fake", *flags,
        ]  # fmt: skip
        self.process: asyncio.subprocess.Process | None = None

    async def start(self, prefix: Sequence[str] = ()) -> None:
        """Start the agent."""
        environment = os.environ | {"PYTHONPATH": f"{EXAMPLE}:{ROOT}"}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *prefix, *self._command, stdout=log, stderr=log, env=environment, cwd=ROOT, start_new_session=True
            )

    @property
    def running(self) -> bool:
        """Whether the agent's process runs."""
        return self.process is not None and self.process.returncode is None

    def runners(self) -> list[psutil.Process]:
        """Its runners."""
        return self.children("workers.runner")

    def children(self, module: str) -> list[psutil.Process]:
        """Its child processes that run a module."""
        if not self.running or self.process is None:
            return []
        with contextlib.suppress(psutil.Error):
            return [
                child
                for child in psutil.Process(self.process.pid).children(recursive=True)
                if module in child.cmdline()
            ]
        return []

    async def signal(self, number: signal.Signals) -> None:
        """Send a signal to the agent alone."""
        if self.running and self.process:
            self.process.send_signal(number)

    async def kill(self) -> None:
        """kill -9 of the agent; its runners must follow by themselves."""
        await self.signal(signal.SIGKILL)
        if self.process:
            await self.process.wait()

    async def lose_machine(self) -> None:
        """kill -9 of everything of this worker at once, as when its machine goes: nobody is left to say farewell."""
        lost = self.children("membership.process") + self.runners()
        for process in lost:
            with contextlib.suppress(psutil.Error):
                process.suspend()  # so that it cannot notice that the agent is gone
        await self.kill()
        for process in lost:
            with contextlib.suppress(psutil.Error):
                process.kill()

    async def wait(self, timeout_s: float = 30.0) -> int:
        """Wait until the agent ends by itself; returns its exit code."""
        assert self.process
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    def text(self) -> str:
        """What it wrote."""
        return self.log.read_text() if self.log.exists() else ""


@contextlib.asynccontextmanager
async def workers_ended(*workers: Worker) -> AsyncIterator[None]:
    """Kill the workers at the end, whatever happened, and their runners with them."""
    try:
        yield
    finally:
        for worker in workers:
            left = worker.runners() + worker.children("membership.process")
            await worker.kill()
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
