"""Attempts and the slots that they run in, as values: what `workers.decisions` decides about."""

from __future__ import annotations

import msgspec

from workers.events import NIL
from workqueue.machine.commands import Capability, Fault
from workqueue.machine.outcomes import Lease


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


def latest(task: Running) -> msgspec.Raw:
    """The newest cursor; whoever delivers it stores the files that it names first."""
    return task.next_cursor if task.next_cursor != NIL else task.cursor


def judge_exit(code: int) -> tuple[str, Fault, str]:
    """Whose fault it is that a runner died: a signal 9 that was not ours is the machine's (or an operator's)."""
    if code == -9:
        return "runner.killed", Fault.NODE, "the runner was killed from outside, as by the kernel when memory runs out"
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return "runner.crashed", Fault.PAYLOAD, f"the runner ended with {how}"
