"""The agent of a worker: carries out what `workers.decisions` says, and tells it what happens.

It holds no state that matters: leases are the voters', ends of attempts are in the spool, and a job's cursor says where
another worker goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, assert_never
from urllib.parse import quote

import msgspec
import structlog

from workers import events as ev
from workers.cache import Cache
from workers.courier import Courier
from workers.decisions import Decisions
from workers.process import RunnerProcess, tail
from workers.runner_task import Task
from workers.spool import Spool
from workqueue.errors import ClientError, Rejected
from workqueue.machine.commands import ArtifactRef, DeregisterWorker, Fail, QuarantineWorker, RegisterWorker, Renew
from workqueue.machine.outcomes import Empty, Granted, Refused, Registered, Renewed

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from workers.attempts import Options
    from workers.courier import Voters
    from workers.spool import Entry

log = structlog.get_logger()
_encode = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True)
class Limits:
    """What the agent's own files and the jobs' processes may use, and its rhythms."""

    cpus: int  # threads that a runner may use at most
    threads: int  # of one job; 0 = as many CPUs as it requires
    memory_mb: int  # of one runner with its children; 0 = not watched
    disk_bytes: int
    floor_bytes: int
    canary: str = ""  # "module:function" that a runner calls before its first job
    tick_s: float = 0.1
    watch_s: float = 0.5
    beat_s: float = 1.0
    answer_s: float = 10.0  # a renewal that takes longer counts as unanswered
    farewell_s: float = 15.0  # for what an earlier run left in the spool


class Agent:
    """Runs until it is ordered to leave; `run` returns the exit code."""

    def __init__(self, options: Options, limits: Limits, data: Path, voters: Voters) -> None:
        self._options = options
        self._limits = limits
        self._data = data
        self._voters = voters
        self._decisions = Decisions(options)
        self._events: asyncio.Queue[ev.AnyEvent] = asyncio.Queue()
        self._spool = Spool(data / "spool")
        self._cache = Cache(data / "cache", limits.disk_bytes // 2, voters)
        self._courier = Courier(voters, self._spool, on_stored=self._stored, on_settled=self._settled)
        self._runners: dict[int, RunnerProcess] = {}
        self._entries: dict[int, Entry] = {}  # by slot
        self._pinned: dict[tuple[str, int], list[str]] = {}
        self._checked: set[int] = set()  # slots whose canary has passed
        self._tasks: set[asyncio.Task[None]] = set()
        self._exit: ev.Leave | None = None
        self._away = False  # whether the last renewal got no answer
        self._work = data / "work"

    def order(self, order: ev.Order, reason: str = "") -> None:
        """Take an order of an operator, a signal or a spot notice."""
        self._events.put_nowait(ev.Ordered(self._now(), order, reason))

    async def run(self) -> int:
        """Work until told to leave."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)
        await self._recover()
        background = [
            asyncio.create_task(work)
            for work in (self._ticks(), self._watch_memory(), self._watch_disk(), self._beats())
        ]
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
                self._spawn(self._start_runner(slot))
            case ev.KillRunner(slot=slot, reason=reason):
                log.info("runner.killed", slot=slot, reason=reason)
                self._runners[slot].kill()
            case ev.StartJob():
                self._start_job(instruction)
            case ev.StopJob(slot=slot):
                self._runners[slot].send("stop")
            case ev.Freeze(on=on):
                for runner in self._runners.values():
                    runner.freeze(on=on)
            case ev.Settle():
                self._settle(instruction)
            case ev.Discard(job=job, attempt=attempt):
                self._discard(job, attempt)
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
            [outcome] = await self._voters.submit(RegisterWorker(options.worker, options.boot, options.capability))
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

    def _settle(self, instruction: ev.Settle) -> None:
        lease_entry = self._spool.entries.get((instruction.job, instruction.attempt))
        entry = lease_entry or self._spool.open(instruction.job, instruction.attempt, "")
        command = instruction.command
        if isinstance(command, Fail):
            log_tail = tail(self._folder(instruction.job, instruction.attempt) / "log.txt")
            command = msgspec.structs.replace(command, log_tail=log_tail)
        self._courier.deliver(entry, command)
        self._clean(instruction.job, instruction.attempt)

    def _discard(self, job: str, attempt: int) -> None:
        if entry := self._spool.entries.get((job, attempt)):
            self._courier.discard(entry)
        self._clean(job, attempt)

    def _clean(self, job: str, attempt: int) -> None:
        for sha256 in self._pinned.pop((job, attempt), []):
            self._cache.unpin(sha256)
        folder = self._folder(job, attempt)
        self._spawn(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _folder(self, job: str, attempt: int) -> Path:
        return self._work / f"{quote(job, safe='')}@{attempt}"

    # ---- runners

    async def _start_runner(self, slot: int) -> None:
        spec = self._options.slots[slot]
        runner = RunnerProcess(
            device=spec.device,
            threads=self._limits.cpus,
            log=self._data / f"runner{slot}.log",
            on_frame=lambda parts: self._on_frame(slot, runner, parts),
            on_exit=lambda code: self._on_exit(slot, runner, code),
        )
        self._runners[slot] = runner
        try:
            await runner.start()
        except OSError as error:
            log.warning("runner.unstartable", slot=slot, reason=str(error))
            self._post(ev.RunnerExited(self._now(), slot, 1))

    def _on_exit(self, slot: int, runner: RunnerProcess, code: int) -> None:
        if self._runners.get(slot) is runner:
            self._entries.pop(slot, None)
            self._post(ev.RunnerExited(self._now(), slot, code))

    def _start_job(self, instruction: ev.StartJob) -> None:
        lease, slot = instruction.lease, instruction.slot
        folder = self._folder(lease.job, lease.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        entry = self._entries[slot] = self._spool.open(lease.job, lease.attempt, lease.config)
        task = Task(
            lease.job, lease.attempt, lease.kind, lease.config, bytes(lease.payload), bytes(lease.cursor),
            str(folder), str(entry.folder), self._limits.threads or lease.requires.cpus,
        )  # fmt: skip
        self._runners[slot].send("run", task)

    def _on_frame(self, slot: int, runner: RunnerProcess, parts: list[Any]) -> None:  # noqa: C901  one case a frame
        if self._runners.get(slot) is not runner:
            return
        now, name, rest = self._now(), str(parts[0]), parts[1:]
        match name:
            case "ready" if self._limits.canary and slot not in self._checked:
                runner.send("check", self._limits.canary)
            case "ready":
                self._post(ev.RunnerReady(now, slot))
            case "checked":
                self._canary_told(slot, rest)
            case "progress":
                self._post(ev.Progressed(now, slot, msgspec.Raw(_encode(rest[0]))))
            case "cursor":
                self._post(ev.Checkpointed(now, slot, msgspec.Raw(_encode(rest[0]))))
            case "fetch":
                self._spawn(self._fetch(slot, runner, str(rest[0])))
            case "artifact":
                self._published(slot, msgspec.convert(rest[0], ArtifactRef))
            case "include":
                self._include(slot, msgspec.convert(rest[0], ArtifactRef))
            case "done":
                self._post(ev.JobDone(now, slot, msgspec.Raw(_encode(rest[0]))))
            case "failed":
                cause, fault, message = map(str, rest)
                self._post(ev.JobFailed(now, slot, cause, fault, message))
            case "stopped":
                self._post(ev.JobStopped(now, slot))
            case _:
                log.warning("runner.strange", slot=slot, frame=name)

    def _canary_told(self, slot: int, rest: list[Any]) -> None:
        if rest[0] == "ok":
            self._checked.add(slot)
            self._post(ev.RunnerReady(self._now(), slot))
        else:
            self._post(ev.SlotUnfit(self._now(), slot, str(rest[-1])))

    async def _fetch(self, slot: int, runner: RunnerProcess, sha256: str) -> None:
        entry = self._entries.get(slot)
        if entry:
            self._cache.pin(sha256)
            self._pinned.setdefault((entry.job, entry.attempt), []).append(sha256)
        try:
            path = await self._cache.get(sha256, entry.job if entry else "")
        except (ClientError, OSError, ValueError) as error:
            runner.send("fetched", "", str(error))
        else:
            runner.send("fetched", str(path), "")

    def _published(self, slot: int, ref: ArtifactRef) -> None:
        entry = self._entries[slot]
        if entry.add(ref):
            self._post(ev.Published(self._now(), slot, ref.sha256))
            self._courier.upload(entry, ref)

    def _include(self, slot: int, ref: ArtifactRef) -> None:
        entry = self._entries[slot]
        entry.stored.add(ref.sha256)
        entry.add(ref)

    # ---- what goes on beside

    def _stored(self, entry: Entry, sha256: str) -> None:
        self._post(ev.Uploaded(self._now(), entry.job, entry.attempt, sha256))

    def _settled(self, entry: Entry) -> None:
        self._post(ev.Reported(self._now(), entry.job, entry.attempt))

    async def _ticks(self) -> None:
        while True:
            self._post(ev.Tick(self._now()))
            await asyncio.sleep(self._limits.tick_s)

    async def _watch_memory(self) -> None:
        limit = self._limits.memory_mb
        while limit:
            for slot, runner in list(self._runners.items()):
                used = await asyncio.to_thread(runner.memory_mb)
                task = self._decisions.slots[slot].task
                may = max(limit, task.lease.requires.ram_mb if task else 0)
                if used > may:
                    self._post(ev.OverMemory(self._now(), slot, used, may))
            await asyncio.sleep(self._limits.watch_s)

    async def _watch_disk(self) -> None:
        while True:
            free = await asyncio.to_thread(self._disk_free)
            self._post(ev.DiskMeasured(self._now(), free >> 20))
            await asyncio.sleep(10 * self._limits.watch_s)

    def _disk_free(self) -> int:
        """Half of the quota is the cache's, the rest for what jobs write and what waits for voters."""
        mine = sum(path.stat().st_size for folder in (self._work, self._data / "spool") for path in _files(folder))
        left = self._limits.disk_bytes // 2 - mine
        return min(left, shutil.disk_usage(self._data).free - self._limits.floor_bytes)

    async def _beats(self) -> None:
        seq = 0
        while True:
            seq += 1
            running = [task.lease.job for task in self._decisions.running]
            metadata: dict[str, object] = {"running": running, "spool_bytes": self._spool.size_bytes}
            try:
                async with asyncio.timeout(5 * self._limits.beat_s):
                    await self._voters.beat(self._options.worker, self._options.boot, seq, metadata)
            except Rejected as error:
                log.warning("beat.refused", code=error.code, reason=str(error))
            except (ClientError, TimeoutError):
                pass  # renewals say when voters cannot be reached
            await asyncio.sleep(self._limits.beat_s)

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
        for runner in self._runners.values():
            runner.freeze(on=False)
        await asyncio.gather(*(runner.stop() for runner in self._runners.values()))
        await self._courier.stop()
        with contextlib.suppress(ClientError, TimeoutError):
            async with asyncio.timeout(5):
                reason = self._exit.reason if self._exit else "cancelled"
                await self._voters.submit(DeregisterWorker(self._options.worker, self._options.boot, reason))
        (self._data / "boot").unlink(missing_ok=True)


def _files(folder: Path) -> list[Path]:
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            if path.is_file():
                found.append(path)
    return found


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    temporary.rename(path)
