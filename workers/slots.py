"""Runners and the attempts in them: what happens to each, from its lease to the delivery of its end.

Every granted attempt ends in exactly one `Settle` or, when its lease is lost, in one `Discard`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers import events as ev
from workers.attempts import Running, Slot, judge_exit, latest
from workers.events import NIL
from workqueue.machine.commands import Complete, Completion, Fail, Fault, Free, Release

if TYPE_CHECKING:
    from workers.attempts import Options
    from workers.pace import Pace, Steps
    from workqueue.machine.outcomes import Lease, LeaseState


class Slots:
    """All slots of a worker, and the attempts whose ends are being delivered."""

    def __init__(self, options: Options, steps: Steps, pace: Pace) -> None:
        self._options = options
        self._steps = steps
        self._pace = pace
        self.all = [Slot(spec) for spec in options.slots]
        self.delivering: dict[tuple[str, int], Running] = {}

    # ---- what there is

    @property
    def running(self) -> list[Running]:
        """Attempts in slots."""
        return [slot.task for slot in self.all if slot.task]

    @property
    def held(self) -> list[Running]:
        """Attempts whose leases are kept: those in slots, and those whose ends are not delivered yet."""
        return [*self.running, *self.delivering.values()]

    @property
    def idle(self) -> list[Slot]:
        """Slots that take a job at once."""
        return [slot for slot in self.all if slot.state == "idle"]

    @property
    def unfit(self) -> bool:
        """Whether no slot passed its canary."""
        return all(slot.state == "unfit" for slot in self.all)

    @property
    def fenced(self) -> bool:
        """Whether a lease may have run out by now."""
        return any(task.fenced for task in self.held)

    def free(self, disk_mb: int) -> Free:
        """What the machine has left beside the jobs that run."""
        capability = self._options.capability
        held = {slot.spec.device for slot in self.all if slot.state != "idle"}
        taken = [task.lease.requires for task in self.running]
        return Free(
            cpus=capability.cpus - sum(need.cpus for need in taken),
            ram_mb=capability.ram_mb - sum(need.ram_mb for need in taken),
            disk_mb=disk_mb - sum(need.disk_mb for need in taken),
            vram_mb=tuple(0 if index in held else vram for index, (_, vram) in enumerate(capability.devices)),
            devices=tuple(slot.spec.device for slot in self.idle if slot.spec.device >= 0),
        )

    # ---- runners

    def ready(self, index: int) -> None:
        """Take note that a runner takes jobs."""
        slot = self.all[index]
        if slot.state == "starting":
            slot.state = "idle"

    def exited(self, now: int, index: int, code: int) -> None:
        """Restart a runner that is gone, and fail what it ran."""
        slot = self.all[index]
        if slot.state == "unfit":
            return
        if slot.task:  # it died under a job
            cause, fault, message = judge_exit(code)
            self._fail(now, slot, cause, fault, message, "down")
        if slot.state == "dying":
            slot.restart_ms = now
        else:
            slot.crashes += 1
            slot.restart_ms = now + (self._pace.backoff(slot.crashes) if slot.crashes > 1 else 0)
        slot.state = "down"

    def take_out(self, index: int, reason: str) -> None:
        """Run nothing in a slot whose canary failed."""
        slot = self.all[index]
        slot.state = "unfit"
        self._steps.note("canary.failed", slot=index, device=slot.spec.device, reason=reason)
        self._steps.add(ev.KillRunner(index, "canary failed"))
        if self.unfit:
            self._pace.quarantine(f"the start canary failed: {reason}")

    # ---- attempts

    def accept(self, now: int, lease: Lease, refusal: str, closed: str) -> bool:
        """Start a lease in a slot; or give it back, as this machine's fault when there is a refusal."""
        task = Running(lease, -1, now, now, now, cursor=lease.cursor)
        slot = self._slot_for(lease)
        if refusal:
            self._deliver(task, self._failure(task, "version.mismatch", Fault.NODE, refusal))
            self._pace.failed(now, Fault.NODE)
        elif slot is None or closed:
            reason = closed or "no slot is idle"
            self._deliver(task, Release(self._options.worker, *task.key, reason=reason, cursor=lease.cursor))
        else:
            task.slot = self.all.index(slot)
            slot.state, slot.task = "busy", task
            self._steps.add(ev.StartJob(task.slot, lease))
            return True
        return False

    def take_progress(self, event: ev.Progressed | ev.Checkpointed | ev.Published | ev.Uploaded) -> None:
        """Note how far an attempt is; a cursor is told once the files that it names are stored."""
        if isinstance(event, ev.Uploaded):
            task = self._find(event.job, event.attempt)
        else:
            task = self.all[event.slot].task
        if task is None:
            return
        match event:
            case ev.Progressed(progress=progress):
                task.progress, task.progressed_ms = progress, event.now_ms
            case ev.Published(sha256=sha256):
                task.unsaid.add(sha256)
                task.progressed_ms = event.now_ms
            case ev.Checkpointed(cursor=cursor):
                task.next_cursor, task.progressed_ms = cursor, event.now_ms
                task.awaited |= task.unsaid
                task.unsaid = set()
            case ev.Uploaded(sha256=sha256):
                task.awaited.discard(sha256)
                task.unsaid.discard(sha256)
        if not task.awaited and task.next_cursor != NIL:
            task.cursor, task.next_cursor = task.next_cursor, NIL

    def take_end(self, event: ev.JobDone | ev.JobFailed | ev.JobStopped | ev.OverMemory) -> None:
        """Deliver the end of an attempt."""
        slot = self.all[event.slot]
        task = slot.task
        if task is None:
            return
        match event:
            case ev.JobDone(result=result):
                self._pace.succeeded()
                completion = Completion(*task.key, result)
                self._end(slot, Complete(self._options.worker, (completion,)), "idle")
            case ev.JobStopped():
                self._end(slot, self._release(task), "idle")
            case ev.JobFailed(cause=cause, fault=fault, message=message):
                self._fail(event.now_ms, slot, cause, Fault(fault), message, "idle")
            case ev.OverMemory(used_mb=used_mb, limit_mb=limit_mb):
                message = f"the job used {used_mb} MB of the {limit_mb} MB that it may use"
                self._kill_and_fail(event.now_ms, slot, "runner.out_of_memory", message)

    def take_state(self, now: int, sent_ms: int, state: LeaseState) -> None:
        """Do what the voters say of a lease."""
        task = self._find(state.job, state.attempt)
        if task is None:
            return
        match state.state:
            case "ok":
                task.renewed_ms = max(task.renewed_ms, sent_ms)
                task.fenced = False
            case "cancel" if task.slot >= 0 and task.stopping != "cancelled":
                task.renewed_ms = max(task.renewed_ms, sent_ms)
                self.stop(task, "cancelled", now + self._options.cancel_ms)
            case "lost":
                self._lose(task, state.reason)
            case _:
                pass

    def stop(self, task: Running, why: str, by_ms: int) -> None:
        """Ask a job to end; it is killed at `by_ms` (0 = never)."""
        task.stopping, task.stop_by_ms = why, by_ms
        self._steps.add(ev.StopJob(task.slot))

    # ---- what follows from time

    def supervise(self, now: int, *, paused: bool, leaving: bool) -> None:
        """Start runners that are due, and end jobs that hang, take too long or were asked to stop."""
        for index, slot in enumerate(self.all):
            if slot.state == "down" and now >= slot.restart_ms and not leaving:
                slot.state = "starting"
                self._steps.add(ev.StartRunner(index))
            if slot.task:
                self._watch(now, slot, slot.task, paused=paused)
        for task in self.held:
            fence_ms = task.lease.lease_ms * self._options.fence_milli // 1000
            if not task.fenced and now - task.renewed_ms > fence_ms:
                task.fenced = True
                self._steps.note("lease.fenced", job=task.lease.job, attempt=task.lease.attempt)

    def _watch(self, now: int, slot: Slot, task: Running, *, paused: bool) -> None:
        total_ms, silent_ms = task.lease.total_ms_max, now - task.progressed_ms
        if task.stop_by_ms and now >= task.stop_by_ms:
            self._end(slot, self._release(task), "dying")
            self._steps.add(ev.KillRunner(self.all.index(slot), task.stopping))
        elif paused:
            return
        elif silent_ms > self._options.hang_ms:
            self._kill_and_fail(now, slot, "runner.hung", f"the job has said nothing for {silent_ms // 1000} s")
        elif total_ms and now - task.started_ms > total_ms:
            self._kill_and_fail(now, slot, "job.timed_out", f"the job has run longer than its {total_ms // 1000} s")

    # ---- parts

    def _find(self, job: str, attempt: int) -> Running | None:
        for task in self.running:
            if task.key == (job, attempt):
                return task
        return self.delivering.get((job, attempt))

    def _slot_for(self, lease: Lease) -> Slot | None:
        if lease.device >= 0:
            return next((slot for slot in self.idle if slot.spec.device == lease.device), None)
        return min(self.idle, key=lambda slot: slot.spec.device, default=None)

    def _lose(self, task: Running, reason: str) -> None:
        self._steps.note("lease.lost", job=task.lease.job, attempt=task.lease.attempt, reason=reason)
        if task.slot >= 0:
            slot = self.all[task.slot]
            self._steps.add(ev.KillRunner(task.slot, "lease lost"))
            slot.state, slot.task = "dying", None
            self._steps.add(ev.Discard(*task.key))
        self.delivering.pop(task.key, None)  # its delivery goes on: the voters decide by the attempt

    def _kill_and_fail(self, now: int, slot: Slot, cause: str, message: str) -> None:
        self._fail(now, slot, cause, Fault.PAYLOAD, message, "dying")
        self._steps.add(ev.KillRunner(self.all.index(slot), cause))

    def _fail(self, now: int, slot: Slot, cause: str, fault: Fault, message: str, state: str) -> None:
        assert slot.task
        if slot.task.stopping:  # it was told to end; how it ended matters to nobody
            self._end(slot, self._release(slot.task), state)
            return
        self._pace.failed(now, fault)
        self._end(slot, self._failure(slot.task, cause, fault, message), state)

    def _failure(self, task: Running, cause: str, fault: Fault, message: str) -> Fail:
        return Fail(self._options.worker, *task.key, cause, fault, message[:1000], cursor=latest(task))

    def _release(self, task: Running) -> Release:
        return Release(self._options.worker, *task.key, reason=task.stopping or "stopped", cursor=latest(task))

    def _end(self, slot: Slot, command: Complete | Fail | Release, state: str) -> None:
        assert slot.task
        self._deliver(slot.task, command)
        slot.task.slot = -1
        slot.state, slot.task = state, None
        if state == "idle":
            slot.crashes = 0

    def _deliver(self, task: Running, command: Complete | Fail | Release) -> None:
        self.delivering[task.key] = task
        self._steps.add(ev.Settle(command, *task.key))
