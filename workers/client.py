"""The worker's client: it leaves a voter that does not pass its heartbeats on, and its transfers keep to its rates."""

from __future__ import annotations

import asyncio
import contextlib
import random
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from workers.network import DOWN, UP, Network
from workqueue.blocks import BLOCK_BYTES, Shares, Throttle
from workqueue.client import Client
from workqueue.errors import Unavailable
from workqueue.transfer import PROVIDER, ForJob, get_artifact, put_artifact

if TYPE_CHECKING:
    from config.cluster import WorkerSettings
    from workqueue.machine.commands import ArtifactRef
    from workqueue.transfer import Progress

log = structlog.get_logger()
_DEADLINE_S = 10.0
BEAT_S = 2.0  # half of the time to live of a heartbeat, so that another voter is reached in time
_STAY_S = 2.0  # at a voter before the next is tried; doubles while none is better
_STAY_S_MAX = 60.0


class _Moved:
    """Counts the bytes that pass in a transfer: what was there before it began is not sent again.

    Blocks are told one by one, so a step of several is what an earlier connection had left.
    """

    def __init__(self, told: Progress | None) -> None:
        self.size_bytes = 0
        self._told = told
        self._done = 0

    def __call__(self, done: int, size: int) -> None:
        """Take note of a block, and pass on how far the transfer is."""
        block = done - self._done if done > self._done else done  # less after a break: it goes on where the voter is
        if block < 2 * BLOCK_BYTES:
            self.size_bytes += block
        self._done = done
        if self._told:
            self._told(done, size)


class WorkerClient(Client):
    """A client that moves on when heartbeats fail, and whose transfers keep to its rates."""

    def __init__(self, settings: WorkerSettings, token: str, network: Network | None = None) -> None:
        super().__init__(
            settings.join, token=token, ca=Path(settings.ca), actor=f"worker:{settings.id}", deadline_s=_DEADLINE_S
        )
        self._provider = settings.provider
        self._network = network or Network(Path(settings.data) / "network.json")
        self._up = Throttle(settings.upload_kbps_max)
        self._down = Throttle(settings.download_kbps_max)
        self._jobs = Shares(settings.job_kbps_max)
        self._moves = 0
        self._move_after_s = 0.0
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request, and who rents this machine out."""
        return super().headers | ({PROVIDER: self._provider} if self._provider else {})

    async def beat(self, worker: str, boot: str, seq: int, metadata: dict[str, object]) -> None:
        """Say that a worker is alive; raises TimeoutError or Unavailable and turns to another voter when it cannot."""
        try:
            async with asyncio.timeout(BEAT_S):
                await super().beat(worker, boot, seq, metadata | self._network.rates)
        except (TimeoutError, Unavailable):
            self._move_on()
            raise
        self._moves = 0

    def _move_on(self) -> None:
        """Leave a voter that is connected but of no use, as one whose machine is gone or that is cut off itself."""
        link, now_s = self._link, asyncio.get_running_loop().time()
        if link is None or link.closed.is_set() or now_s < self._move_after_s:
            return
        stay_s = min(_STAY_S * 2**self._moves, _STAY_S_MAX)
        self._moves += 1
        self._move_after_s = now_s + stay_s * random.uniform(0.5, 1.0)  # noqa: S311  spreads workers
        log.info("voter.left", url=self._servers[self._at], reason="it does not pass heartbeats on")
        self._link = None
        self._at = (self._at + 1) % len(self._servers)
        closing = asyncio.create_task(link.close())  # which may wait for a voter that is gone
        self._leaving.add(closing)
        closing.add_done_callback(self._leaving.discard)

    async def put_artifact(
        self,
        path: Path,
        *,
        kind: str,
        config: str = "",
        progress: Progress | None = None,
        job: str = "",
        sha256: str = "",
    ) -> ArtifactRef:
        """Store a file's bytes on the voters; raises CorruptArtifact when they are not what `sha256` says."""
        http, moved = ForJob(self, job), _Moved(progress)
        start_s = asyncio.get_running_loop().time()
        ref = await put_artifact(
            http, path, kind=kind, config=config, sha256=sha256, progress=moved,
            throttles=self._throttles(self._up, job),
        )  # fmt: skip
        await self._note(UP, moved, start_s)
        return ref

    async def get_artifact(self, sha256: str, path: Path, progress: Progress | None = None, *, job: str = "") -> None:
        """Fetch bytes by their name."""
        moved, start_s = _Moved(progress), asyncio.get_running_loop().time()
        await get_artifact(ForJob(self, job), sha256, path, moved, throttles=self._throttles(self._down, job))
        await self._note(DOWN, moved, start_s)

    async def _note(self, way: str, moved: _Moved, start_s: float) -> None:
        """Measure the network by a transfer that has ended; what cannot be written down is known all the same."""
        self._network.note(way, moved.size_bytes, asyncio.get_running_loop().time() - start_s)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(self._network.save)

    def _throttles(self, way: Throttle, job: str) -> list[Throttle]:
        """What a transfer waits for: the worker's rate this way and its job's, those that are limited."""
        of_job = [self._jobs.of(job)] if job else []
        return [throttle for throttle in (way, *of_job) if throttle.limited]
