"""What an agent does, as a pure function: an event in, instructions out; no clock, no I/O, no event loop.

The agent claims while a slot is idle and nothing forbids it, keeps every lease renewed until the end of its attempt is
delivered, and kills what it may no longer run. When voters do not answer, running jobs go on: a lease that has not been
renewed for 0.75 of its length is fenced, which ends claims; its result is spooled and delivered when voters are back,
and they decide by the attempt whether it still counts.

`workers.slots` decides about runners and attempts, `workers.calls` about what is asked of the voters, `workers.pace`
about pauses after failures; here are orders, what closes the worker, and the way of each event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

import msgspec

from workers import events as ev
from workers.attempts import Options, Running, Slot
from workers.calls import Calls
from workers.pace import Pace, Steps
from workers.slots import Slots

if TYPE_CHECKING:
    from workqueue.machine.outcomes import Lease

_GATE = msgspec.msgpack.Decoder(dict[str, object])


class Decisions:
    """The agent's state; `handle` is the only door to it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._steps = Steps()
        self._pace = Pace(options, self._steps)
        self._slots = Slots(options, self._steps, self._pace)
        self._calls = Calls(options, self._steps, self._pace, self._slots)
        self._drain_ordered = self._paused = False
        self._leaving = ""  # the order to leave
        self._left = False
        self._leave_by_ms = 0
        self._leave_reason = ""
        self._disk_free_mb = options.capability.disk_mb

    def handle(self, event: ev.AnyEvent) -> list[ev.AnyInstruction]:
        """Take one event in; return what to do, in order."""
        self._steps.taken = []
        if not self._left:
            self._take(event)
            self._slots.supervise(event.now_ms, paused=self._paused, leaving=bool(self._leaving))
            self._leave_when_done(event.now_ms)
        if not self._left:
            self._calls.make(event.now_ms, self._closed(), self._disk_free_mb)
        return self._steps.taken

    @property
    def running(self) -> list[Running]:
        """Attempts in slots."""
        return self._slots.running

    @property
    def slots(self) -> list[Slot]:
        """All slots, by index."""
        return self._slots.all

    @property
    def claim_after_ms(self) -> int:
        """When the next claim may go out."""
        return self._pace.claim_after_ms

    # ---- events

    def _take(self, event: ev.AnyEvent) -> None:  # noqa: C901  one case an event
        now = event.now_ms
        match event:
            case ev.Tick():
                pass
            case ev.Joined() | ev.JoinRefused() | ev.Granted() | ev.ClaimEmpty() | ev.ClaimRefused() | ev.Unreached():
                self._take_answer(event)
            case ev.RenewAnswered():
                self._calls.renewed(event)
            case ev.RunnerReady(slot=index):
                self._slots.ready(index)
            case ev.RunnerExited(slot=index, code=code):
                self._slots.exited(now, index, code)
            case ev.SlotUnfit(slot=index, reason=reason):
                self._slots.take_out(index, reason)
            case ev.Progressed() | ev.Checkpointed() | ev.Published() | ev.Uploaded():
                self._slots.take_progress(event)
            case ev.JobDone() | ev.JobFailed() | ev.JobStopped() | ev.OverMemory():
                self._slots.take_end(event)
            case ev.Reported(job=job, attempt=attempt):
                self._slots.delivering.pop((job, attempt), None)
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
                self._calls.took_in(drain=drain, quarantined=quarantined)
            case ev.JoinRefused(code=code, message=message):
                if self._calls.join_refused(now, code, message):
                    self._leave(message, 1)
            case ev.Granted(leases=leases):
                self._calls.claim_answered()
                for lease in sorted(leases, key=lambda lease: -lease.device):  # those for a device find theirs idle
                    if self._slots.accept(now, lease, self._gate(lease), self._closed()):
                        self._calls.renew_soon(now)
            case ev.ClaimEmpty(retry_ms=retry_ms):
                self._calls.claim_empty(now, retry_ms)
            case ev.ClaimRefused(code=code, message=message, retry_ms=retry_ms):
                self._calls.claim_refused(now, code, message, retry_ms)
            case ev.Unreached(what=what, reason=reason):
                self._calls.unreached(now, what, reason)

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

    # ---- orders

    def _take_order(self, now: int, order: ev.Order, reason: str) -> None:
        self._steps.note("worker.ordered", order=order.value, reason=reason)
        match order:
            case ev.Order.PAUSE | ev.Order.RESUME:
                self._paused = order is ev.Order.PAUSE
                self._steps.add(ev.Freeze(self._paused))
                for task in self.running:
                    task.progressed_ms = now
            case ev.Order.DRAIN | ev.Order.UNDRAIN:
                self._drain_ordered = order is ev.Order.DRAIN
            case ev.Order.STOP_AFTER_JOB | ev.Order.STOP_AFTER_GAME | ev.Order.STOP:
                self._prepare_to_leave(now, order, reason)
            case _:
                assert_never(order)

    def _prepare_to_leave(self, now: int, order: ev.Order, reason: str) -> None:
        self._leaving, self._leave_reason = order.value, reason or order.value
        if self._paused:
            self._paused = False
            self._steps.add(ev.Freeze(on=False))
        if order is ev.Order.STOP_AFTER_JOB:
            return
        by_ms = now + self.options.grace_ms if order is ev.Order.STOP else 0
        self._leave_by_ms = by_ms
        for task in self.running:
            if task.stopping != "cancelled":
                self._slots.stop(task, order.value, by_ms)

    def _leave_when_done(self, now: int) -> None:
        if self._leaving and not self.running:
            late = self._leave_by_ms and now >= self._leave_by_ms + self.options.grace_ms // 4
            if not self._slots.delivering or late:
                self._leave(self._leave_reason, 0)

    def _closed(self) -> str:
        """Why this worker takes no job now, also none from a claim that has been waiting; or nothing."""
        if self._disk_free_mb <= 0:
            return "the disk is full"
        if self._leaving or self._paused or self._drain_ordered:
            return "the worker was ordered to take no more"
        return ""

    def _leave(self, reason: str, code: int) -> None:
        self._left = True
        self._steps.add(ev.Leave(reason, code))
