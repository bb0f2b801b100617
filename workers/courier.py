"""Delivers what the spool holds: files first, then the end of the attempt, for as long as it takes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from workqueue.errors import ClientError, CorruptArtifact, Rejected
from workqueue.machine.commands import Complete, Fail, Fault, Release
from workqueue.machine.outcomes import Code, Completed, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from workers.spool import Entry, Spool
    from workqueue.machine.commands import AnyCommand, ArtifactRef, Claim
    from workqueue.machine.outcomes import AnyOutcome, Empty, Granted

log = structlog.get_logger()
UPLOADS_MAX = 3
_HARD = frozenset({"400", "403", "413", "422"})  # asking again changes nothing
_OTHERS = frozenset({Code.STALE_ATTEMPT, Code.NOT_FOUND, Code.TRANSITION})


class Voters(Protocol):
    """What a worker uses of `workqueue.client.Client`."""

    async def submit(self, *commands: AnyCommand) -> list[AnyOutcome]:
        """Propose commands."""

    async def claim(self, command: Claim, wait_ms: int) -> Granted | Empty | Refused:
        """Ask for jobs and wait for them."""

    async def beat(self, worker: str, boot: str, seq: int, metadata: dict[str, object]) -> None:
        """Give a sign of life."""

    async def put_artifact(
        self, path: Path, *, kind: str, config: str = "", job: str = "", sha256: str = ""
    ) -> ArtifactRef:
        """Store a file whose digest is known, on behalf of a job."""

    async def get_artifact(self, sha256: str, path: Path, *, job: str = "") -> None:
        """Fetch a file on behalf of a job."""


class Courier:
    """One task an entry; `on_stored(entry, sha256)` and `on_settled(entry)` tell the agent."""

    def __init__(
        self,
        voters: Voters,
        spool: Spool,
        *,
        on_stored: Callable[[Entry, str], None],
        on_settled: Callable[[Entry], None],
        pause_s: float = 0.5,
        pause_s_max: float = 60.0,
    ) -> None:
        self._voters = voters
        self._spool = spool
        self._on_stored = on_stored
        self._on_settled = on_settled
        self._pause_s = pause_s
        self._pause_s_max = pause_s_max
        self._slots = asyncio.Semaphore(UPLOADS_MAX)
        self._busy: dict[str, asyncio.Lock] = {}
        self._tasks: dict[tuple[str, int, str], asyncio.Task[None]] = {}
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Voters answer again: end all pauses."""
        event, self._awake = self._awake, asyncio.Event()
        event.set()

    def upload(self, entry: Entry, ref: ArtifactRef) -> None:
        """Store a published file, ahead of the end of its attempt."""
        self._start((entry.job, entry.attempt, ref.sha256), self._upload_early(entry, ref))

    def deliver(self, entry: Entry, end: Complete | Fail | Release | None = None) -> None:
        """Put the end of an attempt on disk (None: it is there) and deliver it."""
        self._start((entry.job, entry.attempt, "end"), self._deliver(entry, end))

    def discard(self, entry: Entry) -> None:
        """Stop all work for an entry and forget it."""
        for key, task in list(self._tasks.items()):
            if key[:2] == (entry.job, entry.attempt):
                task.cancel()
        self._spool.drop(entry)

    async def idle(self, timeout_s: float) -> bool:
        """Wait until nothing is left to deliver, or until the time is over."""
        if self._tasks:
            await asyncio.wait(list(self._tasks.values()), timeout=timeout_s)
        return not self._tasks

    async def stop(self) -> None:
        """Leave the rest to the next run of the agent."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, key: tuple[str, int, str], work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    async def _upload_early(self, entry: Entry, ref: ArtifactRef) -> None:
        tries = 0
        while entry.end is None:
            with contextlib.suppress(ClientError, OSError):
                await self._store(entry, ref)
                return
            tries += 1
            await self._pause(tries)

    async def _deliver(self, entry: Entry, end: Complete | Fail | Release | None) -> None:
        if end is not None:
            entry.end = end
            await self._persist(entry, end)
        tries = 0
        while True:
            try:
                for ref in list(entry.refs):
                    await self._store(entry, ref)
                if await self._report(entry):
                    break
            except (CorruptArtifact, FileNotFoundError) as error:
                await self._give_up(entry, "artifact.lost", Fault.INFRASTRUCTURE, str(error))
            except Rejected as error:
                log.warning("spool.refused", job=entry.job, attempt=entry.attempt, code=error.code, reason=str(error))
                if error.code in _HARD:
                    await self._give_up(entry, "artifact.refused", Fault.PAYLOAD, str(error))
            except (ClientError, OSError) as error:
                log.info("spool.waits", job=entry.job, attempt=entry.attempt, reason=str(error))
            tries += 1
            await self._pause(tries)
        self._spool.drop(entry)
        self._on_settled(entry)

    async def _persist(self, entry: Entry, end: Complete | Fail | Release) -> None:
        """On a full disk the end lives in memory alone: it is delivered all the same while the agent lives."""
        try:
            await asyncio.to_thread(entry.finish, end)
        except OSError as error:
            log.warning("spool.unwritable", job=entry.job, attempt=entry.attempt, reason=str(error))

    async def _store(self, entry: Entry, ref: ArtifactRef) -> None:
        async with self._busy.setdefault(ref.sha256, asyncio.Lock()), self._slots:
            if ref.sha256 in entry.stored:
                return
            stored = await self._voters.put_artifact(
                entry.path(ref), kind=ref.kind, config=entry.config, job=entry.job, sha256=ref.sha256
            )
            if stored.sha256 != ref.sha256:
                raise CorruptArtifact(ref.sha256)
            entry.stored.add(ref.sha256)
            self._on_stored(entry, ref.sha256)
        self._busy.pop(ref.sha256, None)

    async def _report(self, entry: Entry) -> bool:
        assert entry.end
        [outcome] = await self._voters.submit(entry.end)
        if isinstance(outcome, Completed):
            outcome = outcome.settled[0]
        if not isinstance(outcome, Refused):
            log.info("job.settled", job=entry.job, attempt=entry.attempt, how=type(entry.end).__name__)
            return True
        log.warning(
            "job.refused", job=entry.job, attempt=entry.attempt, code=outcome.code.value, reason=outcome.message
        )
        if outcome.code in _OTHERS or not isinstance(entry.end, Complete):
            return outcome.retry_ms == 0
        if outcome.code is Code.ARTIFACT_MISSING:
            entry.stored.clear()  # sent again, which also copies them to more voters
        elif not outcome.retry_ms:
            await self._give_up(entry, "result.refused", Fault.PAYLOAD, outcome.message)
        return False

    async def _give_up(self, entry: Entry, cause: str, fault: Fault, message: str) -> None:
        """Turn a completion that can never be accepted into a failure."""
        assert entry.end
        if isinstance(entry.end, Fail):
            entry.refs = []
            return
        end = Fail(entry.end.worker, entry.job, entry.attempt, cause, fault, message[:1000])
        entry.refs = []
        entry.end = end
        await self._persist(entry, end)

    async def _pause(self, tries: int) -> None:
        bound = min(self._pause_s * 2 ** min(tries - 1, 10), self._pause_s_max)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(random.uniform(0.5, 1.0) * bound):  # noqa: S311  spreads retries
                await self._awake.wait()
