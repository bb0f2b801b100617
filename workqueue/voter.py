"""`rift voter`: the supervisor that starts a voter's processes, watches them, and stops them together."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import structlog

from config.errors import AppError
from workqueue.errors import EXIT_CONFIG, EXIT_FAILED, ProcessFailure
from workqueue.process import READY, check_files, configure_logs, read_config

PROCESSES = ("workqueue.core", "workqueue.gossip", "workqueue.front")  # in the order of their start
START_S = 120.0  # a core may have a long log to read
STOP_S = 8.0
log = structlog.get_logger()


class Child:
    """One process of the voter."""

    def __init__(self, module: str, config: Path) -> None:
        self.module = module
        self._config = config
        self._sentence = ""
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves; raises ProcessFailure with its own sentence when it cannot."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", self.module, "--config", str(self._config), stdout=asyncio.subprocess.PIPE,
            start_new_session=False, preexec_fn=_ignore_interrupt,
        )  # fmt: skip
        try:
            async with asyncio.timeout(START_S):
                ready = await self._read_until_ready()
        except TimeoutError:
            raise ProcessFailure(
                f"{self.module} was not ready within {START_S:.0f} s; see its log", EXIT_FAILED
            ) from None
        if not ready:
            raise await self._failure()
        log.info("voter.process_started", module=self.module, pid=self._process.pid)

    async def watch(self) -> None:
        """Wait for its end, which is a failure."""
        await self._read_until_ready()
        raise await self._failure()

    async def stop(self) -> None:
        """Ask it to end, and insist after a while."""
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await self._process.wait()
            except TimeoutError:
                self._process.kill()
                await self._process.wait()

    async def _read_until_ready(self) -> bool:
        assert self._process
        assert self._process.stdout
        async for line in self._process.stdout:
            text = line.decode(errors="replace").strip()
            if text == READY:
                return True
            if text.startswith("failed "):
                self._sentence = text.split(" ", 2)[2]
        return False

    async def _failure(self) -> ProcessFailure:
        assert self._process
        code = await self._process.wait()
        what = self._sentence or f"{self.module} ended without a word (exit code {code}); see its log"
        return ProcessFailure(what, code if code > 0 else EXIT_FAILED)


def _ignore_interrupt() -> None:
    """Ctrl-C reaches the whole group; the supervisor alone decides the order of the end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


async def supervise(config: Path) -> None:
    """Run a voter until SIGTERM or SIGINT, or until one of its processes ends; then stop the others."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    children: list[Child] = []
    ends: list[asyncio.Task[Any]] = [asyncio.create_task(stop.wait())]
    try:
        for module in PROCESSES:
            child = Child(module, config)
            children.append(child)
            starting = asyncio.create_task(child.start())
            ends.append(starting)
            if await _first(starting, *ends[:-1]):
                return
            ends[-1] = asyncio.create_task(child.watch())
        log.info("voter.ready")
        sys.stdout.write(READY + "\n")
        sys.stdout.flush()
        await _first(*ends)
    finally:
        await _cancel(*ends)
        for child in reversed(children):
            await child.stop()


async def _first(*tasks: asyncio.Task[Any]) -> bool:
    """Wait for one of the tasks and raise what it raised; returns whether it was another than the first."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task in done:
            task.result()
    return tasks[0] not in done


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main(config: str | Path) -> int:
    """Run the voter described by `config` (a voter.yaml) in the foreground; returns the exit code."""
    configure_logs()
    path = Path(config)
    try:
        settings = read_config(path)
        check_files(settings)
        structlog.contextvars.bind_contextvars(process="voter", voter=settings.voter.id)
        asyncio.run(supervise(path))
    except AppError as error:
        sys.stderr.write(f"rift voter: {error}\n")
        return error.exit_code if isinstance(error, ProcessFailure) else EXIT_CONFIG
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--config":
        sys.stderr.write("rift voter: start it with `--config voter.yaml`\n")
        sys.exit(EXIT_CONFIG)
    sys.exit(main(sys.argv[2]))
