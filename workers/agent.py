"""The agent of a worker: carries out what `workers.decisions` says, and tells it what happens.

It holds no state that matters: leases are the voters', ends of attempts are in the spool, and a job's cursor says where
another worker goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, assert_never

import msgspec
import structlog

from workers import events as ev
from workers.cache import Cache
from workers.courier import Courier
from workers.decisions import Decisions
from workers.runners import Runners
from workers.spool import Spool
from workers.watches import Watches
from workqueue.errors import ClientError
from workqueue.machine.commands import DeregisterWorker, QuarantineWorker, RegisterWorker, Renew
from workqueue.machine.outcomes import Empty, Granted, Refused, Registered, Renewed

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from workers.attempts import Options
    from workers.courier import Voters
    from workers.limits import Limits
    from workers.spool import Entry

log = structlog.get_logger()
_encode = msgspec.msgpack.Encoder().encode


class Agent:
    """Runs until it is ordered to leave; `run` returns the exit code."""

    def __init__(self, options: Options, limits: Limits, data: Path, voters: Voters) -> None:
        self._options = options
        self._limits = limits
        self._data = data
        self._voters = voters
        self._decisions = Decisions(options)
        self._events: asyncio.Queue[ev.AnyEvent] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._exit: ev.Leave | None = None
        self._away = False  # whether the last renewal got no answer
        self._spool = Spool(data / "spool")
        self._courier = Courier(voters, self._spool, on_stored=self._stored, on_settled=self._settled)
        self._runners = Runners(
            options,
            limits,
            data,
            spool=self._spool,
            cache=Cache(data / "cache", limits.disk_bytes // 2, voters),
            courier=self._courier,
            post=self._post,
            now=self._now,
            spawn=self._spawn,
        )

    def order(self, order: ev.Order, reason: str = "") -> None:
        """Take an order of an operator, a signal or a spot notice."""
        self._post(ev.Ordered(self._now(), order, reason))

    async def run(self) -> int:
        """Work until told to leave."""
        self._runners.prepare()
        await self._recover()
        watches = Watches(
            self._decisions,
            self._limits,
            self._data,
            runners=self._runners,
            spool=self._spool,
            voters=self._voters,
            post=self._post,
            now=self._now,
        )
        background = [asyncio.create_task(work) for work in watches.all()]
        try:
            while self._exit is None:
                event = await self._events.get()
                for instruction in self._decisions.handle(event):
                    self._carry_out(instruction)
            return self._exit.code
        finally:
            for task in [*background, *self._tasks]:
                task.cancel()
            await asyncio.gather(*background, *self._tasks, return_exceptions=True)
            await self._farewell()

    def _now(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def _post(self, event: ev.AnyEvent) -> None:
        self._events.put_nowait(event)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _stored(self, entry: Entry, sha256: str) -> None:
        self._post(ev.Uploaded(self._now(), entry.job, entry.attempt, sha256))

    def _settled(self, entry: Entry) -> None:
        self._post(ev.Reported(self._now(), entry.job, entry.attempt))

    # ---- instructions

    def _carry_out(self, instruction: ev.AnyInstruction) -> None:  # noqa: C901  one case an instruction
        match instruction:
            case ev.Join():
                self._spawn(self._join())
            case ev.SendClaim():
                self._spawn(self._claim(instruction))
            case ev.SendRenew():
                self._spawn(self._renew(instruction))
            case ev.StartRunner(slot=slot):
                self._spawn(self._runners.start(slot))
            case ev.KillRunner(slot=slot, reason=reason):
                self._runners.kill(slot, reason)
            case ev.StartJob():
                self._runners.start_job(instruction)
            case ev.StopJob(slot=slot):
                self._runners.stop_job(slot)
            case ev.Freeze(on=on):
                self._runners.freeze(on=on)
            case ev.Settle():
                self._runners.settle(instruction)
            case ev.Discard(job=job, attempt=attempt):
                self._runners.discard(job, attempt)
            case ev.Quarantine(reason=reason):
                self._spawn(self._quarantine(reason))
            case ev.Note(event=event, values=values):
                log.info(event, **values)
            case ev.Leave():
                log.info("worker.leaves", reason=instruction.reason)
                self._exit = instruction
            case _:
                assert_never(instruction)

    async def _join(self) -> None:
        options = self._options
        try:
            [outcome] = await self._voters.submit(
                RegisterWorker(options.worker, options.boot, options.capability, beats=True)
            )
        except ClientError as error:
            self._post(ev.JoinRefused(self._now(), "", str(error)))
            return
        if isinstance(outcome, Registered):
            _replace(self._data / "boot", _encode((options.worker, options.boot)))
            self._post(ev.Joined(self._now(), outcome.drain, outcome.quarantined))
        elif isinstance(outcome, Refused):
            self._post(ev.JoinRefused(self._now(), outcome.code.value, outcome.message))

    async def _claim(self, instruction: ev.SendClaim) -> None:
        try:
            answer = await self._voters.claim(instruction.command, instruction.wait_ms)
        except ClientError as error:
            self._post(ev.Unreached(self._now(), "claim", str(error)))
            return
        match answer:
            case Granted(leases=leases):
                self._post(ev.Granted(self._now(), leases))
            case Empty(retry_ms=retry_ms):
                self._post(ev.ClaimEmpty(self._now(), 0 if instruction.wait_ms else retry_ms))
            case Refused(code=code, message=message, retry_ms=retry_ms):
                self._post(ev.ClaimRefused(self._now(), code.value, message, retry_ms))

    async def _renew(self, instruction: ev.SendRenew) -> None:
        sent_ms = self._now()
        command = Renew(self._options.worker, self._options.boot, instruction.leases)
        try:
            async with asyncio.timeout(self._limits.answer_s):
                [outcome] = await self._voters.submit(command)
        except (ClientError, TimeoutError) as error:
            self._away = True
            self._post(ev.Unreached(self._now(), "renew", str(error) or "no answer in time"))
            return
        if self._away:
            self._away = False
            self._courier.wake()
        if isinstance(outcome, Renewed):
            self._post(ev.RenewAnswered(self._now(), sent_ms, outcome))
        elif isinstance(outcome, Refused):
            self._post(ev.RenewAnswered(self._now(), sent_ms, Renewed((), known=False)))

    async def _quarantine(self, reason: str) -> None:
        with contextlib.suppress(ClientError):
            await self._voters.submit(QuarantineWorker(self._options.worker, reason=reason))

    # ---- coming and going

    async def _recover(self) -> None:
        """Deliver what an earlier run left, then end its boot, so that its unfinished jobs are free at once."""
        for entry in self._spool.recover():
            log.info("spool.recovered", job=entry.job, attempt=entry.attempt)
            self._courier.deliver(entry)
        path = self._data / "boot"
        if path.exists():
            worker, boot = msgspec.msgpack.decode(path.read_bytes(), type=tuple[str, str])
            await self._courier.idle(self._limits.farewell_s)
            with contextlib.suppress(ClientError, TimeoutError):
                async with asyncio.timeout(self._limits.farewell_s):
                    await self._voters.submit(DeregisterWorker(worker, boot, "restarted"))

    async def _farewell(self) -> None:
        await self._runners.stop()
        await self._courier.stop()
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(5):
                reason = self._exit.reason if self._exit else "cancelled"
                await self._voters.submit(DeregisterWorker(self._options.worker, self._options.boot, reason))
        (self._data / "boot").unlink(missing_ok=True)


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.rename(path)
