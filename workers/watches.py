"""What goes on beside an agent: time passes, memory and disk are measured, and the voters hear that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from typing import TYPE_CHECKING

import structlog

from workers import events as ev
from workqueue.errors import ClientError, Rejected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from workers.courier import Voters
    from workers.decisions import Decisions
    from workers.limits import Limits
    from workers.runners import Runners
    from workers.spool import Spool

log = structlog.get_logger()


class Watches:
    """Each of `all` runs until it is cancelled; `post(event)` and `now()` are the agent's."""

    def __init__(
        self,
        decisions: Decisions,
        limits: Limits,
        data: Path,
        *,
        runners: Runners,
        spool: Spool,
        voters: Voters,
        post: Callable[[ev.AnyEvent], None],
        now: Callable[[], int],
    ) -> None:
        self._decisions = decisions
        self._limits = limits
        self._data = data
        self._runners, self._spool, self._voters = runners, spool, voters
        self._post, self._now = post, now

    def all(self) -> list[Coroutine[Any, Any, None]]:
        """What is to run beside the agent."""
        return [self._ticks(), self._memory(), self._disk(), self._beats()]

    async def _ticks(self) -> None:
        while True:
            self._post(ev.Tick(self._now()))
            await asyncio.sleep(self._limits.tick_s)

    async def _memory(self) -> None:
        limit = self._limits.memory_mb
        while limit:
            for slot, runner in list(self._runners.processes.items()):
                used = await asyncio.to_thread(runner.memory_mb)
                task = self._decisions.slots[slot].task
                may = max(limit, task.lease.requires.ram_mb if task else 0)
                if used > may:
                    self._post(ev.OverMemory(self._now(), slot, used, may))
            await asyncio.sleep(self._limits.watch_s)

    async def _disk(self) -> None:
        while True:
            free = await asyncio.to_thread(self._disk_free)
            self._post(ev.DiskMeasured(self._now(), free >> 20))
            await asyncio.sleep(10 * self._limits.watch_s)

    def _disk_free(self) -> int:
        """Half of the quota is the cache's, the rest for what jobs write and what waits for voters."""
        folders = (self._data / "work", self._data / "spool")
        mine = sum(path.stat().st_size for folder in folders for path in _files(folder))
        left = self._limits.disk_bytes // 2 - mine
        return min(left, shutil.disk_usage(self._data).free - self._limits.floor_bytes)

    async def _beats(self) -> None:
        options, seq = self._decisions.options, 0
        while True:
            seq += 1
            pause_s = self._limits.beat_s
            running = [task.lease.job for task in self._decisions.running]
            metadata: dict[str, object] = {"running": running, "spool_bytes": self._spool.size_bytes}
            try:
                async with asyncio.timeout(5 * self._limits.beat_s):
                    await self._voters.beat(options.worker, options.boot, seq, metadata)
            except Rejected as error:
                log.warning("beat.refused", code=error.code, reason=str(error))
            except (ClientError, TimeoutError):  # renewals say when voters cannot be reached
                pause_s /= 10
            await asyncio.sleep(pause_s)


def _files(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append(path)
    return found
