"""What an agent does, as a pure function: an event in, instructions out; no clock, no I/O, no event loop.

The agent claims while a slot is idle and nothing forbids it, keeps every lease renewed until the end of its attempt is
delivered, and kills what it may no longer run. When voters do not answer, running jobs go on: a lease that has not been
renewed for 0.75 of its length is fenced, which ends claims; its result is spooled and delivered when voters are back,
and they decide by the attempt whether it still counts.
"""

from __future__ import annotations

import random
from typing import assert_never

import msgspec

from workers import events as ev
from workers.events import NIL
from workqueue.machine.commands import (
    Capability,
    Claim,
    Complete,
    Completion,
    Fail,
    Fault,
    Free,
    LeaseRenewal,
    Release,
)
from workqueue.machine.outcomes import Lease, LeaseState

_JOIN_PAUSE_MS_MAX = 5_000
_GATE = msgspec.msgpack.Decoder(dict[str, object])


class SlotSpec(msgspec.Struct, frozen=True):
    """A place for one job: a device of its own (`device` >= 0) or a share of the CPU."""

    device: int = -1
    vram_mb: int = 0


class Options(msgspec.Struct, frozen=True):
    """Who this agent is and how it keeps time."""

    worker: str
    boot: str
    capability: Capability
    slots: tuple[SlotSpec, ...]
    heartbeat_ms_max: int = 5_000
    idle_heartbeat_ms: int = 5_000
    fence_milli: int = 750
    hang_ms: int = 300_000
    cancel_ms: int = 2_000  # a cancelled job that does not stop by then is killed
    grace_ms: int = 20_000  # after an order to stop
    claim_wait_ms: int = 20_000
    claim_wait_busy_ms: int = 2_000  # while some slots work: what is free may change
    backoff_ms: int = 500
    backoff_ms_max: int = 30_000
    join_ms_max: int = 90_000  # how long another live boot of this name is waited for
    node_faults_max: int = 5
    seed: int = 0


class Running(msgspec.Struct):
    """An attempt of ours, in a slot or on its way to the voters."""

    lease: Lease
    slot: int  # -1 when it has ended and is being delivered
    started_ms: int
    renewed_ms: int
    progressed_ms: int
    progress: msgspec.Raw = NIL
    cursor: msgspec.Raw = NIL  # safe to tell: all it names is stored
    next_cursor: msgspec.Raw = NIL
    awaited: set[str] = msgspec.field(default_factory=set)  # files that next_cursor names and voters do not hold yet
    unsaid: set[str] = msgspec.field(default_factory=set)  # published since next_cursor
    stopping: str = ""  # why it was asked to stop
    stop_by_ms: int = 0
    fenced: bool = False

    @property
    def key(self) -> tuple[str, int]:
        """(job, attempt)."""
        return self.lease.job, self.lease.attempt


class Slot(msgspec.Struct):
    """A runner: "starting", "idle", "busy", "dying" (killed, not gone yet), "down" (until restart_ms) or "unfit"."""

    spec: SlotSpec
    state: str = "down"
    task: Running | None = None
    restart_ms: int = 0
    crashes: int = 0


class Decisions:
    """The agent's state; `handle` is the only door to it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.slots = [Slot(spec) for spec in options.slots]
        self.delivering: dict[tuple[str, int], Running] = {}
        self.joined = self.draining = self.drain_ordered = self.quarantined = self.paused = False
        self.leaving = ""  # the order to leave
        self.left = False
        self._leave_by_ms = 0
        self._leave_reason = ""
        self._joining = self._claiming = self._renewing = False
        self._join_after_ms = self._claim_after_ms = self._renew_after_ms = 0
        self._first_join_ms = -1
        self._unreached = 0
        self._failures = 0
        self._node_faults = 0
        self._disk_free_mb = options.capability.disk_mb
        self._chance = random.Random(options.seed)  # noqa: S311  spreads retries, guards nothing
        self._out: list[ev.AnyInstruction] = []

    def handle(self, event: ev.AnyEvent) -> list[ev.AnyInstruction]:
        """Take one event in; return what to do, in order."""
        self._out = []
        if not self.left:
            self._take(event)
            self._supervise(event.now_ms)
            self._talk(event.now_ms)
        return self._out

    @property
    def running(self) -> list[Running]:
        """Attempts in slots."""
        return [slot.task for slot in self.slots if slot.task]

    # ---- events

    def _take(self, event: ev.AnyEvent) -> None:  # noqa: C901  one case an event
        now = event.now_ms
        match event:
            case ev.Tick():
                pass
            case ev.Joined() | ev.JoinRefused() | ev.Granted() | ev.ClaimEmpty() | ev.ClaimRefused() | ev.Unreached():
                self._take_answer(event)
            case ev.RenewAnswered():
                self._take_renewal(event)
            case ev.RunnerReady(slot=index):
                self._runner_ready(self.slots[index])
            case ev.RunnerExited(slot=index, code=code):
                self._runner_exited(now, self.slots[index], code)
            case ev.SlotUnfit(slot=index, reason=reason):
                self._slot_unfit(index, reason)
            case ev.Progressed() | ev.Checkpointed() | ev.Published() | ev.Uploaded():
                self._take_progress(event)
            case ev.JobDone() | ev.JobFailed() | ev.JobStopped() | ev.OverMemory():
                self._take_end(event)
            case ev.Reported(job=job, attempt=attempt):
                self.delivering.pop((job, attempt), None)
            case ev.DiskMeasured(free_mb=free_mb):
                self._disk_free_mb = free_mb
            case ev.Ordered(order=order, reason=reason):
                self._take_order(now, order, reason)
            case _:
                assert_never(event)

    def _take_answer(
        self, event: ev.Joined | ev.JoinRefused | ev.Granted | ev.ClaimEmpty | ev.ClaimRefused | ev.Unreached
    ) -> None:
        now = event.now_ms
        match event:
            case ev.Joined(drain=drain, quarantined=quarantined):
                self.joined, self._joining, self._unreached = True, False, 0
                self.draining, self.quarantined = drain, quarantined
                self._note("worker.joined", drain=int(drain), quarantined=int(quarantined))
            case ev.JoinRefused(code=code, message=message):
                self._join_refused(now, code, message)
            case ev.Granted(leases=leases):
                self._claiming, self._unreached = False, 0
                for lease in sorted(leases, key=lambda lease: -lease.device):  # those for a device find theirs idle
                    self._accept(now, lease)
            case ev.ClaimEmpty(retry_ms=retry_ms):
                self._claiming, self._unreached = False, 0
                self._claim_after_ms = max(self._claim_after_ms, now + retry_ms)
            case ev.ClaimRefused(code=code, message=message, retry_ms=retry_ms):
                self._claim_refused(now, code, message, retry_ms)
            case ev.Unreached(what=what, reason=reason):
                self._unreached += 1
                pause = self._backoff(self._unreached)
                if what == "claim":
                    self._claiming, self._claim_after_ms = False, now + pause
                else:
                    self._renewing, self._renew_after_ms = False, now + min(pause, self._heartbeat_ms() // 2)
                self._note("voters.unreached", what=what, reason=reason, pause_ms=pause)

    def _join_refused(self, now: int, code: str, message: str) -> None:
        self._joining = False
        if code in {"", "exists"} and (not code or now - self._first_join_ms < self.options.join_ms_max):
            self._unreached += 1
            self._join_after_ms = now + min(self._backoff(self._unreached), _JOIN_PAUSE_MS_MAX)
            self._note("worker.join_waits", code=code, message=message)
        else:
            self._leave(message, 1)

    def _claim_refused(self, now: int, code: str, message: str, retry_ms: int) -> None:
        self._claiming, self._unreached = False, 0
        self._failures += 1
        self._claim_after_ms = now + max(retry_ms, self._backoff(self._failures))
        if code == "not_found":  # voters forgot this boot, or ended it
            self.joined = False
        if code == "quarantined":
            self.quarantined = True
        self._note("claim.refused", code=code, message=message)

    def _take_renewal(self, event: ev.RenewAnswered) -> None:
        renewed, now = event.renewed, event.now_ms
        self._renewing, self._unreached = False, 0
        self._renew_after_ms = event.sent_ms + self._heartbeat_ms()
        self.joined = self.joined and renewed.known
        self.draining, self.quarantined = renewed.drain, renewed.quarantined
        for state in renewed.leases:
            task = self._find(state.job, state.attempt)
            if task:
                self._take_state(now, event.sent_ms, task, state)

    def _take_state(self, now: int, sent_ms: int, task: Running, state: LeaseState) -> None:
        match state.state:
            case "ok":
                task.renewed_ms = max(task.renewed_ms, sent_ms)
                task.fenced = False
            case "cancel" if task.slot >= 0 and task.stopping != "cancelled":
                task.renewed_ms = max(task.renewed_ms, sent_ms)
                self._stop(task, "cancelled", now + self.options.cancel_ms)
            case "lost":
                self._lose(task, state.reason)
            case _:
                pass

    def _lose(self, task: Running, reason: str) -> None:
        self._note("lease.lost", job=task.lease.job, attempt=task.lease.attempt, reason=reason)
        if task.slot >= 0:
            self._kill(self.slots[task.slot], "lease lost")
            self._out.append(ev.Discard(*task.key))
        self.delivering.pop(task.key, None)  # its delivery goes on: the voters decide by the attempt

    def _take_progress(self, event: ev.Progressed | ev.Checkpointed | ev.Published | ev.Uploaded) -> None:
        if isinstance(event, ev.Uploaded):
            task = self._find(event.job, event.attempt)
        else:
            task = self.slots[event.slot].task
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

    def _take_end(self, event: ev.JobDone | ev.JobFailed | ev.JobStopped | ev.OverMemory) -> None:
        slot = self.slots[event.slot]
        task = slot.task
        if task is None:
            return
        job, attempt = task.key
        match event:
            case ev.JobDone(result=result):
                self._failures = self._node_faults = 0
                completion = Completion(job, attempt, result)
                self._end(slot, Complete(self.options.worker, (completion,)), "idle")
            case ev.JobStopped():
                self._end(slot, self._release(task), "idle")
            case ev.JobFailed(cause=cause, fault=fault, message=message):
                self._fail(event.now_ms, slot, cause, Fault(fault), message, "idle")
            case ev.OverMemory(used_mb=used_mb, limit_mb=limit_mb):
                message = f"the job used {used_mb} MB of the {limit_mb} MB that it may use"
                self._kill_and_fail(event.now_ms, slot, "runner.out_of_memory", message)

    def _take_order(self, now: int, order: ev.Order, reason: str) -> None:
        self._note("worker.ordered", order=order.value, reason=reason)
        match order:
            case ev.Order.PAUSE | ev.Order.RESUME:
                self.paused = order is ev.Order.PAUSE
                self._out.append(ev.Freeze(self.paused))
                for task in self.running:
                    task.progressed_ms = now
            case ev.Order.DRAIN | ev.Order.UNDRAIN:
                self.drain_ordered = order is ev.Order.DRAIN
            case ev.Order.STOP_AFTER_JOB | ev.Order.STOP_AFTER_GAME | ev.Order.STOP:
                self._prepare_to_leave(now, order, reason)
            case _:
                assert_never(order)

    def _prepare_to_leave(self, now: int, order: ev.Order, reason: str) -> None:
        self.leaving, self._leave_reason = order.value, reason or order.value
        if self.paused:
            self.paused = False
            self._out.append(ev.Freeze(on=False))
        if order is ev.Order.STOP_AFTER_JOB:
            return
        by_ms = now + self.options.grace_ms if order is ev.Order.STOP else 0
        self._leave_by_ms = by_ms
        for task in self.running:
            if task.stopping != "cancelled":
                self._stop(task, order.value, by_ms)

    # ---- runners and attempts

    def _runner_ready(self, slot: Slot) -> None:
        if slot.state == "starting":
            slot.state = "idle"

    def _runner_exited(self, now: int, slot: Slot, code: int) -> None:
        if slot.state == "unfit":
            return
        if slot.task:  # it died under a job
            cause, fault, message = _judge_exit(code)
            self._fail(now, slot, cause, fault, message, "down")
        if slot.state == "dying":
            slot.restart_ms = now
        else:
            slot.crashes += 1
            slot.restart_ms = now + (self._backoff(slot.crashes) if slot.crashes > 1 else 0)
        slot.state = "down"

    def _slot_unfit(self, index: int, reason: str) -> None:
        slot = self.slots[index]
        slot.state = "unfit"
        self._note("canary.failed", slot=index, device=slot.spec.device, reason=reason)
        self._out.append(ev.KillRunner(index, "canary failed"))
        if all(each.state == "unfit" for each in self.slots):
            self._quarantine(f"the start canary failed: {reason}")

    def _accept(self, now: int, lease: Lease) -> None:
        refusal, closed = self._gate(lease), self._closed()
        slot = self._slot_for(lease)
        task = Running(lease, -1, now, now, now, cursor=lease.cursor)
        if refusal:
            self._deliver(task, self._failure(task, "version.mismatch", Fault.NODE, refusal))
            self._count_fault(now, Fault.NODE)
        elif slot is None or closed:
            reason = closed or "no slot is idle"
            self._deliver(task, Release(self.options.worker, *task.key, reason=reason, cursor=lease.cursor))
        else:
            task.slot = self.slots.index(slot)
            slot.state, slot.task = "busy", task
            self._out.append(ev.StartJob(task.slot, lease))
            self._renew_after_ms = min(self._renew_after_ms, now + self._heartbeat_ms())

    def _gate(self, lease: Lease) -> str:
        """Why this worker must not run a job, or nothing."""
        capability = self.options.capability
        if capability.kinds and lease.kind not in capability.kinds:
            return f"this worker does not run jobs of kind {lease.kind}"
        try:
            payload = _GATE.decode(lease.payload)
        except msgspec.DecodeError:
            return ""  # the runner says what is wrong with it
        wanted = payload.get("rules_version")
        if wanted and capability.rules_version and wanted != capability.rules_version:
            return (
                f"the job is for rules {wanted}, this worker has {capability.rules_version}; "
                "install the build that the cluster runs"
            )
        return ""

    def _slot_for(self, lease: Lease) -> Slot | None:
        idle = [slot for slot in self.slots if slot.state == "idle"]
        if lease.device >= 0:
            return next((slot for slot in idle if slot.spec.device == lease.device), None)
        return min(idle, key=lambda slot: slot.spec.device, default=None)

    def _stop(self, task: Running, why: str, by_ms: int) -> None:
        task.stopping, task.stop_by_ms = why, by_ms
        self._out.append(ev.StopJob(task.slot))

    def _kill(self, slot: Slot, reason: str) -> None:
        self._out.append(ev.KillRunner(self.slots.index(slot), reason))
        slot.state, slot.task = "dying", None

    def _kill_and_fail(self, now: int, slot: Slot, cause: str, message: str) -> None:
        self._fail(now, slot, cause, Fault.PAYLOAD, message, "dying")
        self._out.append(ev.KillRunner(self.slots.index(slot), cause))

    def _fail(self, now: int, slot: Slot, cause: str, fault: Fault, message: str, state: str) -> None:
        assert slot.task
        if slot.task.stopping:  # it was told to end; how it ended matters to nobody
            self._end(slot, self._release(slot.task), state)
            return
        self._count_fault(now, fault)
        self._end(slot, self._failure(slot.task, cause, fault, message), state)

    def _failure(self, task: Running, cause: str, fault: Fault, message: str) -> Fail:
        return Fail(self.options.worker, *task.key, cause, fault, message[:1000], cursor=_latest(task))

    def _release(self, task: Running) -> Release:
        return Release(self.options.worker, *task.key, reason=task.stopping or "stopped", cursor=_latest(task))

    def _count_fault(self, now: int, fault: Fault) -> None:
        self._failures += 1
        self._claim_after_ms = now + (self._backoff(self._failures) if self._failures > 1 else 0)
        self._node_faults += fault is Fault.NODE
        if self._node_faults >= self.options.node_faults_max:
            self._node_faults = 0
            self._quarantine(f"{self.options.node_faults_max} failures of this machine in a row")

    def _end(self, slot: Slot, command: Complete | Fail | Release, state: str) -> None:
        assert slot.task
        self._deliver(slot.task, command)
        slot.task.slot = -1
        slot.state, slot.task = state, None
        if state == "idle":
            slot.crashes = 0

    def _deliver(self, task: Running, command: Complete | Fail | Release) -> None:
        self.delivering[task.key] = task
        self._out.append(ev.Settle(command, *task.key))

    def _quarantine(self, reason: str) -> None:
        self.quarantined = True
        self._out.append(ev.Quarantine(reason))
        self._note("worker.quarantined", reason=reason)

    # ---- what follows from time

    def _supervise(self, now: int) -> None:
        for index, slot in enumerate(self.slots):
            if slot.state == "down" and now >= slot.restart_ms and not self.leaving:
                slot.state = "starting"
                self._out.append(ev.StartRunner(index))
            if slot.task:
                self._watch(now, slot, slot.task)
        self._fence(now)
        if self.leaving and not self.running:
            late = self._leave_by_ms and now >= self._leave_by_ms + self.options.grace_ms // 4
            if not self.delivering or late:
                self._leave(self._leave_reason, 0)

    def _watch(self, now: int, slot: Slot, task: Running) -> None:
        total_ms, silent_ms = task.lease.total_ms_max, now - task.progressed_ms
        if task.stop_by_ms and now >= task.stop_by_ms:
            self._end(slot, self._release(task), "dying")
            self._out.append(ev.KillRunner(self.slots.index(slot), task.stopping))
        elif self.paused:
            return
        elif silent_ms > self.options.hang_ms:
            self._kill_and_fail(now, slot, "runner.hung", f"the job has said nothing for {silent_ms // 1000} s")
        elif total_ms and now - task.started_ms > total_ms:
            self._kill_and_fail(now, slot, "job.timed_out", f"the job has run longer than its {total_ms // 1000} s")

    def _fence(self, now: int) -> None:
        for task in [*self.running, *self.delivering.values()]:
            fence_ms = task.lease.lease_ms * self.options.fence_milli // 1000
            if not task.fenced and now - task.renewed_ms > fence_ms:
                task.fenced = True
                self._note("lease.fenced", job=task.lease.job, attempt=task.lease.attempt)

    def _talk(self, now: int) -> None:
        if self.left:
            return
        if not self.joined:
            if not self._joining and now >= self._join_after_ms and any(slot.state != "unfit" for slot in self.slots):
                self._joining = True
                self._first_join_ms = now if self._first_join_ms < 0 else self._first_join_ms
                self._out.append(ev.Join())
            return
        if not self._renewing and now >= self._renew_after_ms:
            self._renewing = True
            tasks = [*self.running, *self.delivering.values()]
            self._out.append(ev.SendRenew(tuple(LeaseRenewal(*task.key, task.progress, task.cursor) for task in tasks)))
        if self._may_claim(now):
            self._claiming = True
            self._out.append(self._claim())

    def _may_claim(self, now: int) -> bool:
        forbidden = self._claiming or self._closed() or self.draining
        fenced = any(task.fenced for task in [*self.running, *self.delivering.values()])
        idle = any(slot.state == "idle" for slot in self.slots)
        return idle and now >= self._claim_after_ms and not (forbidden or self.quarantined or fenced)

    def _closed(self) -> str:
        """Why this worker takes no job now, also none from a claim that has been waiting; or nothing."""
        if self._disk_free_mb <= 0:
            return "the disk is full"
        if self.leaving or self.paused or self.drain_ordered:
            return "the worker was ordered to take no more"
        return ""

    def _claim(self) -> ev.SendClaim:
        capability = self.options.capability
        idle = [slot for slot in self.slots if slot.state == "idle"]
        busy = any(slot.task for slot in self.slots)
        devices = len(capability.devices)
        held = {slot.spec.device for slot in self.slots if slot.state != "idle"}
        taken = [task.lease.requires for task in self.running]
        free = Free(
            cpus=capability.cpus - sum(need.cpus for need in taken),
            ram_mb=capability.ram_mb - sum(need.ram_mb for need in taken),
            disk_mb=self._disk_free_mb - sum(need.disk_mb for need in taken),
            vram_mb=tuple(0 if index in held else capability.devices[index][1] for index in range(devices)),
            devices=tuple(slot.spec.device for slot in idle if slot.spec.device >= 0),
        )
        wait_ms = self.options.claim_wait_busy_ms if busy else self.options.claim_wait_ms
        return ev.SendClaim(Claim(self.options.worker, self.options.boot, free, len(idle)), wait_ms)

    def _heartbeat_ms(self) -> int:
        shortest = min((task.lease.lease_ms for task in [*self.running, *self.delivering.values()]), default=0)
        return min(shortest // 4, self.options.heartbeat_ms_max) if shortest else self.options.idle_heartbeat_ms

    def _backoff(self, times: int) -> int:
        """Exponential, between a half and the whole of its bound ("equal jitter")."""
        bound = min(self.options.backoff_ms << min(times - 1, 16), self.options.backoff_ms_max)
        return bound // 2 + self._chance.randrange(bound // 2 + 1)

    def _find(self, job: str, attempt: int) -> Running | None:
        for task in self.running:
            if task.key == (job, attempt):
                return task
        return self.delivering.get((job, attempt))

    def _leave(self, reason: str, code: int) -> None:
        self.left = True
        self._out.append(ev.Leave(reason, code))

    def _note(self, event: str, **values: str | int) -> None:
        self._out.append(ev.Note(event, values))


def _latest(task: Running) -> msgspec.Raw:
    """The newest cursor; whoever delivers it stores the files that it names first."""
    return task.next_cursor if task.next_cursor != NIL else task.cursor


def _judge_exit(code: int) -> tuple[str, Fault, str]:
    """Whose fault it is that a runner died: a signal 9 that was not ours is the machine's (or an operator's)."""
    if code == -9:
        return "runner.killed", Fault.NODE, "the runner was killed from outside, as by the kernel when memory runs out"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return "runner.crashed", Fault.PAYLOAD, f"the runner ended with {how}"
