"""Keeps the replicated state small: ended jobs move to files, artifacts that nothing references are forgotten.

So are workers that have been gone for long. That begins an hour after this voter did: by then an upgrade, one voter
after the other, is over, and all know the command.

A job is written and synced to `archive/jobs-<day>.jsonl` in the leader's data folder before it is archived; after a
failure in between it is written twice, and never lost.
"""

from __future__ import annotations

import asyncio
import datetime
import os
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from workqueue.machine.commands import Archive, CollectArtifacts, ForgetWorkers

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.duties.context import DutyContext

log = structlog.get_logger()
ENDED = ("completed", "failed", "cancelled")
DAY_MS = 86_400_000
KEEP_MS = 24 * 3_600_000  # an ended job is at hand for a day
KEEP_MAX = 20_000  # or for less when there are more than this many
MIN_AGE_MS = 600_000  # but never less than this
PAGE = 500
WORKERS_MS = 3_600_000  # between two looks at the workers
ORPHAN_MS = 3_600_000  # an upload may wait this long for the job that names it


def due(rows: list[dict[str, Any]], total: int, now_ms: int) -> list[str]:
    """Return the ids to archive out of the oldest ended jobs of a state."""
    surplus = max(0, total - KEEP_MAX)
    chosen = []
    for place, row in enumerate(sorted(rows, key=lambda row: row["ended_ms"])):
        age_ms = now_ms - row["ended_ms"]
        if age_ms >= KEEP_MS or (place < surplus and age_ms >= MIN_AGE_MS):
            chosen.append(str(row["id"]))
    return chosen


def append(path: Path, jobs: list[dict[str, Any]]) -> None:
    """Append jobs as JSON lines and sync them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(msgspec.json.encode(job) + b"\n" for job in jobs)
        file.flush()
        os.fsync(file.fileno())


class Retain:
    """Looks at the oldest ended jobs and at artifacts without references."""

    name = "retain"
    period_s = 30.0

    def __init__(self) -> None:
        self._workers_ms = 0  # when to look at them next

    async def run(self, context: DutyContext) -> None:
        """Archive, collect and forget what is due."""
        for state in ENDED:
            await self._archive(context, state)
        await self._collect(context)
        now_ms = context.now_ms()
        if self._workers_ms <= now_ms:
            looked, self._workers_ms = self._workers_ms, now_ms + WORKERS_MS
            if looked:
                await self._forget(context)

    async def _forget(self, context: DutyContext) -> None:
        days = (await context.query("settings"))["effective"]["workers_kept_days"]
        before_ms = context.now_ms() - days * DAY_MS
        rows = await context.query("workers")
        names = [str(row["id"]) for row in rows if row["seen_ms"] < before_ms and not row["quarantined"]]
        if names:  # the state machine keeps those that something refers to
            await context.propose(ForgetWorkers(tuple(names)))

    async def _archive(self, context: DutyContext, state: str) -> None:
        page = await context.query("queue", state=state, limit=PAGE, offset=0)
        ids = due(page["jobs"], page["total"], context.now_ms())
        if not ids:
            return
        jobs = [await context.query("job", job=job) for job in ids]
        day = datetime.datetime.fromtimestamp(context.now_ms() / 1000, datetime.UTC).strftime("%Y%m%d")
        await asyncio.to_thread(append, context.data_dir / f"archive/jobs-{day}.jsonl", jobs)
        await context.propose(Archive(tuple(ids)))

    async def _collect(self, context: DutyContext) -> None:
        old_ms = context.now_ms() - ORPHAN_MS
        names: list[str] = []
        for offset in count(0, PAGE):
            rows = await context.query("artifacts", limit=PAGE, offset=offset)
            names += (str(row["sha256"]) for row in rows if not row["refs"] and row["at_ms"] < old_ms)
            if len(rows) < PAGE:
                break
        if names:
            await context.propose(CollectArtifacts(tuple(names[:PAGE])))


DUTY = Retain()
