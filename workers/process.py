"""A runner as its agent sees it: a child process with its own group, its frames as events, its memory watched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from workers import frames

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_EXIT_S = 2.0
_TAIL_BYTES = 4000


class RunnerProcess:
    """Starts, talks to and kills one runner. `on_frame(parts)` and `on_exit(code)` are called from the loop."""

    def __init__(
        self,
        *,
        device: int,
        threads: int,
        log: Path,
        on_frame: Callable[[list[Any]], None],
        on_exit: Callable[[int], None],
        command: tuple[str, ...] = ("-m", "workers.runner"),
    ) -> None:
        self._device = device
        self._threads = threads
        self._log = log
        self._on_frame = on_frame
        self._on_exit = on_exit
        self._command = command
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._reading: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id and process group, 0 while it is not running."""
        return self._process.pid if self._process and self._process.returncode is None else 0

    async def start(self) -> None:
        """Start the process; the frame `ready` follows."""
        ours, theirs = socket.socketpair()
        name = "cpu" if self._device < 0 else "cuda:0"
        environment = os.environ | {
            "CUDA_VISIBLE_DEVICES": "" if self._device < 0 else str(self._device),
            "OMP_NUM_THREADS": str(self._threads),
            "NUMBA_NUM_THREADS": str(self._threads),
            "PYTHONUNBUFFERED": "1",
        }
        with self._log.open("ab") as log, theirs:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, *self._command, str(theirs.fileno()), name,
                pass_fds=[theirs.fileno()], stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=environment,
            )  # fmt: skip
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._reading = asyncio.create_task(self._read(reader, self._process))

    def send(self, *parts: object) -> None:
        """Send a frame; one to a dead runner goes nowhere, its exit is told by `on_exit`."""
        if self._writer and not self._writer.is_closing():
            self._writer.write(frames.pack(*parts))

    def kill(self) -> None:
        """Kill the whole group."""
        self._signal(signal.SIGKILL)

    def freeze(self, *, on: bool) -> None:
        """Stop the group where it is, or let it go on."""
        self._signal(signal.SIGSTOP if on else signal.SIGCONT)

    def memory_mb(self) -> int:
        """Resident memory of the group; blocks for a moment."""
        if not self.pid:
            return 0
        total = 0
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            for each in [process, *process.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += each.memory_info().rss
        return total >> 20

    async def stop(self) -> None:
        """End the process and wait for it; safe to repeat."""
        if self._process is None:
            return
        self.send("exit")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_S if self.pid else 0):
                await self._process.wait()
        self.kill()
        await self._process.wait()
        if self._reading:
            await asyncio.gather(self._reading, return_exceptions=True)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    async def _read(self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process) -> None:
        try:
            while True:
                self._on_frame(await frames.read(reader))
        except (asyncio.IncompleteReadError, ConnectionError, EOFError, msgspec.DecodeError):
            pass
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)  # also what the runner has left behind
            if self._writer:
                self._writer.close()
        self._on_exit(await process.wait())


def tail(path: Path) -> str:
    """The end of a log."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
