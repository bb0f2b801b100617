"""The runners of an agent and what they hand over: frames become events, files go to the spool and on to the voters.

Whatever a runner says counts only while it is the runner of its slot.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import structlog

from workers import events as ev
from workers.process import RunnerProcess, tail
from workers.runner_task import Task
from workqueue.errors import ClientError
from workqueue.machine.commands import ArtifactRef, Fail

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from workers.attempts import Options
    from workers.cache import Cache
    from workers.courier import Courier
    from workers.limits import Limits
    from workers.spool import Entry, Spool

log = structlog.get_logger()
_encode = msgspec.msgpack.Encoder().encode


class Runners:
    """One process a slot. `post(event)` and `now()` are the agent's; `spawn(work)` runs something beside it."""

    def __init__(
        self,
        options: Options,
        limits: Limits,
        data: Path,
        *,
        spool: Spool,
        cache: Cache,
        courier: Courier,
        post: Callable[[ev.AnyEvent], None],
        now: Callable[[], int],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._options = options
        self._limits = limits
        self._data = data
        self._work = data / "work"
        self._spool, self._cache, self._courier = spool, cache, courier
        self._post, self._now, self._spawn = post, now, spawn
        self.processes: dict[int, RunnerProcess] = {}
        self._entries: dict[int, Entry] = {}  # by slot
        self._pinned: dict[tuple[str, int], list[str]] = {}
        self._checked: set[int] = set()  # slots whose canary has passed

    def prepare(self) -> None:
        """Empty the working folder: what is in it belongs to attempts of an earlier run."""
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir(parents=True)

    async def stop(self) -> None:
        """End all processes."""
        self.freeze(on=False)
        await asyncio.gather(*(process.stop() for process in self.processes.values()))

    # ---- instructions

    async def start(self, slot: int) -> None:
        """Start the process of a slot."""
        runner = RunnerProcess(
            device=self._options.slots[slot].device,
            threads=self._limits.cpus,
            log=self._data / f"runner{slot}.log",
            on_frame=lambda parts: self._on_frame(slot, runner, parts),
            on_exit=lambda code: self._on_exit(slot, runner, code),
        )
        self.processes[slot] = runner
        try:
            await runner.start()
        except OSError as error:
            log.warning("runner.unstartable", slot=slot, reason=str(error))
            self._post(ev.RunnerExited(self._now(), slot, 1))

    def kill(self, slot: int, reason: str) -> None:
        """Kill the process group of a slot."""
        log.info("runner.killed", slot=slot, reason=reason)
        self.processes[slot].kill()

    def freeze(self, *, on: bool) -> None:
        """Stop all runners where they are, or let them go on."""
        for process in self.processes.values():
            process.freeze(on=on)

    def start_job(self, instruction: ev.StartJob) -> None:
        """Hand a lease to the runner of a slot."""
        lease, slot = instruction.lease, instruction.slot
        folder = self._folder(lease.job, lease.attempt)
        folder.mkdir(parents=True, exist_ok=True)
        entry = self._entries[slot] = self._spool.open(lease.job, lease.attempt, lease.config)
        task = Task(
            lease.job, lease.attempt, lease.kind, lease.config, bytes(lease.payload), bytes(lease.cursor),
            str(folder), str(entry.folder), self._limits.threads or lease.requires.cpus,
            self._limits.backend, str(self._data / "batches.json"),
        )  # fmt: skip
        self.processes[slot].send("run", task)

    def stop_job(self, slot: int) -> None:
        """Ask the job of a slot to end at its next safe place."""
        self.processes[slot].send("stop")

    def settle(self, instruction: ev.Settle) -> None:
        """Put the end of an attempt into the spool and have it delivered."""
        job, attempt, command = instruction.job, instruction.attempt, instruction.command
        entry = self._spool.entries.get((job, attempt)) or self._spool.open(job, attempt, "")
        if isinstance(command, Fail):
            command = msgspec.structs.replace(command, log_tail=tail(self._folder(job, attempt) / "log.txt"))
        self._courier.deliver(entry, command)
        self._clean(job, attempt)

    def discard(self, job: str, attempt: int) -> None:
        """Drop what an attempt left: it is another's now."""
        if entry := self._spool.entries.get((job, attempt)):
            self._courier.discard(entry)
        self._clean(job, attempt)

    # ---- what runners say

    def _on_exit(self, slot: int, runner: RunnerProcess, code: int) -> None:
        if self.processes.get(slot) is runner:
            self._entries.pop(slot, None)
            self._post(ev.RunnerExited(self._now(), slot, code))

    def _on_frame(self, slot: int, runner: RunnerProcess, parts: list[Any]) -> None:  # noqa: C901  one case a frame
        if self.processes.get(slot) is not runner:
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

    # ---- files

    def _clean(self, job: str, attempt: int) -> None:
        for sha256 in self._pinned.pop((job, attempt), []):
            self._cache.unpin(sha256)
        folder = self._folder(job, attempt)
        self._spawn(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))

    def _folder(self, job: str, attempt: int) -> Path:
        return self._work / f"{quote(job, safe='')}@{attempt}"
