"""Client processes that make a load: started side by side, let go together, each with one line of results."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks.facts import ROOT

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Iterable, Sequence


async def start(module: str, tasks: Iterable[dict[str, Any]]) -> list[Process]:
    """Start a process of `module` for each task and wait until all are connected."""
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, json.dumps(task),
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 28,
        )
        for task in tasks
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"READY\n", f"{module}: a client could not connect"
    return started


async def results(started: Sequence[Process], timeout_s: float | None = None) -> list[dict[str, Any]]:
    """Let the processes go and return what each found; raises TimeoutError."""
    for process in started:
        assert process.stdin is not None
        process.stdin.write(b"\n")
    async with asyncio.timeout(timeout_s):
        return [json.loads((await process.communicate())[0]) for process in started]
