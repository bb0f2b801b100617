"""Outcomes: what the state machine answers, alike on every replica. Refusals are outcomes, never exceptions."""

from __future__ import annotations

import enum

import msgspec

from workqueue.machine.commands import Requirements


class Outcome(msgspec.Struct, frozen=True, omit_defaults=True, tag=True, tag_field="type"):
    """The answer to one request."""


class Code(enum.StrEnum):
    """Why a request was refused."""

    MALFORMED = "malformed"  # not a request that this version understands
    INVALID = "invalid"  # a field's value makes no sense
    NOT_FOUND = "not_found"
    QUEUE_FULL = "queue_full"  # try again after retry_ms
    DUPLICATE = "duplicate"  # a live job has this unique key
    UNKNOWN_KIND = "unknown_kind"  # no such kind, or no registered worker can ever run it
    STALE_ATTEMPT = "stale_attempt"  # the lease is another's now
    STALE_TOKEN = "stale_token"  # noqa: S105  the lock is another's now
    BUSY = "busy"  # all places of the lock are taken
    CONFLICT = "conflict"  # compare-and-set: it is not what was expected
    ARTIFACT_MISSING = "artifact_missing"  # not stored on enough holders
    INVALID_RESULT = "invalid_result"  # no games, other hashes than asked for, …
    QUARANTINED = "quarantined"
    VERSION = "version"  # another build or rules version than allowed
    EXISTS = "exists"  # another live boot has this name
    TRANSITION = "transition"  # the job's state does not allow it


class Refused(Outcome, frozen=True):
    """Nothing was changed."""

    code: Code
    message: str  # a sentence that says what to do
    retry_ms: int = 0
    current: str = ""  # what it is instead of what was expected


class Enqueued(Outcome, frozen=True):
    """All jobs are in the queue; `existing` had been before."""

    ids: tuple[str, ...]
    existing: tuple[str, ...] = ()


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """The right to run one attempt of a job; the attempt is the fencing number."""

    job: str
    attempt: int
    kind: str
    payload: msgspec.Raw
    config: str = ""
    lease_ms: int = 30_000
    total_ms_max: int = 0
    cursor: msgspec.Raw = msgspec.Raw(b"\xc0")
    device: int = -1  # index of the worker's device that it runs on; -1 = CPU
    requires: Requirements = Requirements()


class Granted(Outcome, frozen=True):
    """Jobs for the worker, at least one."""

    leases: tuple[Lease, ...]


class Empty(Outcome, frozen=True):
    """Nothing fits now."""

    retry_ms: int = 1_000


class LeaseState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the worker must do with a lease: go on, cancel it, or drop it as lost."""

    job: str
    attempt: int
    state: str  # "ok", "cancel", "lost"
    lease_ms: int = 0
    reason: str = ""


class Renewed(Outcome, frozen=True):
    """One state a lease, and what the worker as a whole must do."""

    leases: tuple[LeaseState, ...]
    drain: bool = False
    quarantined: bool = False
    known: bool = True  # False: register again


class Settled(Outcome, frozen=True):
    """An attempt ended and the job is now in `state`."""

    job: str
    state: str


class Completed(Outcome, frozen=True):
    """One answer a completion, in order."""

    settled: tuple[Settled | Refused, ...]


class Changed(Outcome, frozen=True):
    """Done; the ids of what changed."""

    ids: tuple[str, ...] = ()


class Registered(Outcome, frozen=True):
    """The worker may claim."""

    worker: str
    boot: str
    drain: bool = False
    quarantined: bool = False


class Locked(Outcome, frozen=True):
    """The place is held until `expires_ms` unless renewed."""

    name: str
    token: int
    expires_ms: int


class AliasSet(Outcome, frozen=True):
    """The alias moved."""

    alias: str
    sha256: str
    previous: str


class SettingsSet(Outcome, frozen=True):
    """The settings have this version now."""

    version: int


AnyOutcome = (
    Refused | Enqueued | Granted | Empty | Renewed | Settled | Completed | Changed
    | Registered | Locked | AliasSet | SettingsSet
)  # fmt: skip
