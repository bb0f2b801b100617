"""What an agent is told, and what it is to do: the two vocabularies of `workers.decisions`.

Every event carries the agent's monotonic clock in milliseconds. Instructions are carried out in order.
"""

from __future__ import annotations

import enum

import msgspec

from workqueue.machine.commands import Claim, Complete, Fail, LeaseRenewal, Release
from workqueue.machine.outcomes import Lease, Renewed

NIL = msgspec.Raw(b"\xc0")


class Event(msgspec.Struct, frozen=True, tag=True):
    """Something happened at `now_ms`."""

    now_ms: int


class Tick(Event, frozen=True):
    """Time passed."""


class Joined(Event, frozen=True):
    """The voters know this boot."""

    drain: bool = False
    quarantined: bool = False


class JoinRefused(Event, frozen=True):
    """The voters do not take this boot, or none answered (empty code)."""

    code: str
    message: str


class Granted(Event, frozen=True):
    """A claim was answered with leases, `sent_ms` is when it had been sent last at the latest."""

    leases: tuple[Lease, ...]


class ClaimEmpty(Event, frozen=True):
    """A claim was answered: nothing fits."""

    retry_ms: int = 0


class ClaimRefused(Event, frozen=True):
    """A claim was refused."""

    code: str
    message: str
    retry_ms: int = 0


class Unreached(Event, frozen=True):
    """No voter answered a claim or a renewal."""

    what: str  # "claim", "renew"
    reason: str = ""


class RenewAnswered(Event, frozen=True):
    """A renewal sent at `sent_ms` was answered."""

    sent_ms: int
    renewed: Renewed


class RunnerReady(Event, frozen=True):
    """The runner of a slot takes jobs."""

    slot: int


class RunnerExited(Event, frozen=True):
    """The runner of a slot is gone; `code` as in `Popen.returncode` (negative = signal)."""

    slot: int
    code: int


class SlotUnfit(Event, frozen=True):
    """The canary of a slot failed: it must run nothing."""

    slot: int
    reason: str


class Progressed(Event, frozen=True):
    """The job of a slot said how far it is."""

    slot: int
    progress: msgspec.Raw


class Checkpointed(Event, frozen=True):
    """The job of a slot said where another attempt could go on."""

    slot: int
    cursor: msgspec.Raw


class Published(Event, frozen=True):
    """The job of a slot handed a file over."""

    slot: int
    sha256: str


class Uploaded(Event, frozen=True):
    """Voters hold a file of an attempt."""

    job: str
    attempt: int
    sha256: str


class JobDone(Event, frozen=True):
    """The job of a slot returned its result."""

    slot: int
    result: msgspec.Raw


class JobFailed(Event, frozen=True):
    """The job of a slot raised."""

    slot: int
    cause: str
    fault: str
    message: str


class JobStopped(Event, frozen=True):
    """The job of a slot ended because it was asked to."""

    slot: int


class OverMemory(Event, frozen=True):
    """The runner of a slot and its children use more memory than they may."""

    slot: int
    used_mb: int
    limit_mb: int


class Reported(Event, frozen=True):
    """The end of an attempt was delivered, or is worthless by now."""

    job: str
    attempt: int


class DiskMeasured(Event, frozen=True):
    """What the quota and the disk leave for new jobs; below zero when the floor is reached."""

    free_mb: int


class Order(enum.StrEnum):
    """What an operator, a signal or a spot notice may ask of a worker."""

    PAUSE = "pause"
    RESUME = "resume"
    DRAIN = "drain"
    UNDRAIN = "undrain"
    STOP_AFTER_JOB = "stop-after-job"
    STOP_AFTER_GAME = "stop-after-game"
    STOP = "stop"  # as soon as jobs have checkpointed, within the grace


class Ordered(Event, frozen=True):
    """An order came."""

    order: Order
    reason: str = ""


AnyEvent = (
    Tick | Joined | JoinRefused | Granted | ClaimEmpty | ClaimRefused | Unreached | RenewAnswered | RunnerReady
    | RunnerExited | SlotUnfit | Progressed | Checkpointed | Published | Uploaded | JobDone | JobFailed | JobStopped
    | OverMemory | Reported | DiskMeasured | Ordered
)  # fmt: skip


class Instruction(msgspec.Struct, frozen=True, tag=True):
    """Something to do."""


class Join(Instruction, frozen=True):
    """Register this boot."""


class SendClaim(Instruction, frozen=True):
    """Ask for jobs and wait for them."""

    command: Claim
    wait_ms: int


class SendRenew(Instruction, frozen=True):
    """Renew these leases; none = a sign of life."""

    leases: tuple[LeaseRenewal, ...]


class StartRunner(Instruction, frozen=True):
    """Start the process of a slot."""

    slot: int


class KillRunner(Instruction, frozen=True):
    """Kill the process group of a slot."""

    slot: int
    reason: str


class StartJob(Instruction, frozen=True):
    """Hand a lease to the runner of a slot."""

    slot: int
    lease: Lease


class StopJob(Instruction, frozen=True):
    """Ask the job of a slot to end at its next safe place."""

    slot: int


class Freeze(Instruction, frozen=True):
    """Stop all runners where they are, or let them go on."""

    on: bool


class Settle(Instruction, frozen=True):
    """Put the end of an attempt into the spool and deliver it."""

    command: Complete | Fail | Release
    job: str
    attempt: int


class Discard(Instruction, frozen=True):
    """Drop what an attempt left: it is another's now."""

    job: str
    attempt: int


class Quarantine(Instruction, frozen=True):
    """Ask the voters to keep this worker from claiming."""

    reason: str


class Note(Instruction, frozen=True):
    """Write a line to the log."""

    event: str
    values: dict[str, str | int]


class Leave(Instruction, frozen=True):
    """Deregister and end with this exit code."""

    reason: str
    code: int = 0


AnyInstruction = (
    Join | SendClaim | SendRenew | StartRunner | KillRunner | StartJob | StopJob | Freeze | Settle | Discard
    | Quarantine | Note | Leave
)  # fmt: skip
