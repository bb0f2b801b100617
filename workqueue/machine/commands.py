"""Commands: everything that may change the replicated state, as values.

A log entry is msgpack `[version, now_ms, [request, ...]]`; a request is `[client, request_id, actor, command]`. The
pair (client, request_id) is the key of exactly-once: a repeated request gets the first outcome again.
Fields may be added at the end with a default; none is renamed or given another meaning within a version. A field that
this version does not know is refused: replicas that leave it out would differ from those that know it.
"""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec

VERSION = 1
# Numbers are bounded, so that no sum of them outgrows what a snapshot can hold (64 bits); as milliseconds 8,900 years.
Int = Annotated[int, msgspec.Meta(ge=-(1 << 48), le=1 << 48)]


class Value(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """A part of a command; without cycles, so that a million of them cost the garbage collector nothing."""


class Requirements(Value, frozen=True, cache_hash=True):
    """What a job needs and reserves on a worker."""

    cpus: Int = 1
    ram_mb: Int = 0
    vram_mb: Int = 0
    disk_mb: Int = 0
    device: bool = False  # needs a device of its own: no second job of this sort runs on it
    labels: tuple[str, ...] = ()  # "worker:NAME" is a label of that worker alone
    build: str = ""  # the exact engine build, empty = any
    avoid: tuple[str, ...] = ()  # workers that must not run it: a check is not done by whom it checks


class RetryPolicy(Value, frozen=True):
    """When a failed attempt is tried again; only payload faults count towards `max_attempts`."""

    max_attempts: Int = 3
    backoff_ms: Int = 1_000
    backoff_ms_max: Int = 60_000


class Condition(Value, frozen=True):
    """Data that must exist before a job is available: at least `count` of `artifact_kind` registered for `config`."""

    artifact_kind: str
    config: str
    count: Int


class JobSpec(Value, frozen=True):
    """A job as its producer describes it. Enqueueing the same id again is a no-op that answers the same."""

    id: str
    kind: str
    payload: msgspec.Raw = msgspec.Raw(b"\x80")  # msgpack map, checked against the kind's schema
    config: str = ""  # "square8_2p"; empty for kinds that play nothing
    priority: Int = 50  # 0..100, higher first
    requires: Requirements = Requirements()
    retry: RetryPolicy = RetryPolicy()
    unique: str = ""  # at most one live job has this key
    depends_on: tuple[str, ...] = ()
    conditions: tuple[Condition, ...] = ()
    group: str = ""  # at most `group_limit` jobs of a group run at once
    group_limit: Int = 1
    run_at_ms: Int = 0  # scheduled until then; 0 = at once
    wait_ms_max: Int = 0  # fails as `expired` when not claimed within; 0 = waits for ever
    lease_ms: Int = 30_000  # an attempt lives this long after each renewal
    total_ms_max: Int = 0  # an attempt ends as timed out after this long; 0 = no limit
    reserved: bool = False  # evaluation of candidates: has its own share, so that it cannot starve


class Capability(Value, frozen=True):
    """What a worker measured about itself."""

    cpus: Int
    ram_mb: Int
    disk_mb: Int
    devices: tuple[tuple[str, Int], ...] = ()  # (name, vram_mb) of each accelerator
    labels: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    build: str = ""
    rules_version: str = ""
    rates: dict[str, Int] = {}  # "games_s/square8_2p": games a second in thousandths, "evals_s/…" likewise


class Free(Value, frozen=True):
    """What a worker has left for new jobs."""

    cpus: Int
    ram_mb: Int
    disk_mb: Int
    vram_mb: tuple[Int, ...] = ()  # of each device
    devices: tuple[Int, ...] = ()  # indices of devices that no job holds


class LeaseRenewal(Value, frozen=True):
    """Renews (job, attempt); progress is a msgpack map for people, cursor the place where a next attempt may resume."""

    job: str
    attempt: Int
    progress: msgspec.Raw = msgspec.Raw(b"\xc0")
    cursor: msgspec.Raw = msgspec.Raw(b"\xc0")


class ArtifactRef(Value, frozen=True):
    """Bytes that a job produced and that voters already hold."""

    sha256: str
    size_bytes: Int
    kind: str  # "shard", "weights", "checkpoint", "games", "log", "export"


class Completion(Value, frozen=True):
    """The end of an attempt that succeeded; `result` is the msgpack of the kind's result (`workqueue.schema`)."""

    job: str
    attempt: Int
    result: msgspec.Raw = msgspec.Raw(b"\x80")
    artifacts: tuple[ArtifactRef, ...] = ()


class Fault(enum.StrEnum):
    """Whose fault a failed attempt is: only `payload` counts against the job, `node` counts against the worker."""

    PAYLOAD = "payload"
    NODE = "node"
    INFRASTRUCTURE = "infrastructure"


class Command(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, tag=True, tag_field="type"):
    """A change of the state."""


# ---- jobs


class Enqueue(Command, frozen=True):
    """Add jobs, all or none. Outcome: Enqueued, or Refused (queue_full carries retry_ms)."""

    jobs: tuple[JobSpec, ...]


class Claim(Command, frozen=True):
    """Take up to `limit` jobs that fit. Outcome: Granted, Empty, or Refused (quarantined, version, unknown worker)."""

    worker: str
    boot: str
    free: Free
    limit: Int = 1
    kinds: tuple[str, ...] = ()  # a narrower set than registered; empty = all of the worker's


class Renew(Command, frozen=True):
    """Keep leases alive and report progress. Outcome: Renewed with one LeaseState a lease."""

    worker: str
    boot: str
    leases: tuple[LeaseRenewal, ...]


class Complete(Command, frozen=True):
    """End attempts with success. Outcome: Completed with one Settled a job."""

    worker: str
    completions: tuple[Completion, ...]


class Fail(Command, frozen=True):
    """End an attempt with a failure. Outcome: Settled."""

    worker: str
    job: str
    attempt: Int
    cause: str  # a dotted constant: "runner.crashed", "engine.out_of_memory", …
    fault: Fault = Fault.PAYLOAD
    message: str = ""
    log_tail: str = ""
    cursor: msgspec.Raw = msgspec.Raw(b"\xc0")


class Release(Command, frozen=True):
    """Give an attempt back unharmed (drain, spot notice): available at once, no attempt burned. Outcome: Settled."""

    worker: str
    job: str
    attempt: Int
    reason: str = ""
    cursor: msgspec.Raw = msgspec.Raw(b"\xc0")


class Cancel(Command, frozen=True):
    """Cancel jobs; a running one learns it at its next renewal. Outcome: Changed."""

    jobs: tuple[str, ...]
    reason: str = ""


class Retry(Command, frozen=True):
    """Make failed or cancelled jobs available again with fresh attempts. Outcome: Changed."""

    jobs: tuple[str, ...]
    reason: str = ""


class Hold(Command, frozen=True):
    """Keep jobs from being claimed until Unhold. Outcome: Changed."""

    jobs: tuple[str, ...]
    reason: str = ""


class Unhold(Command, frozen=True):
    """End a hold. Outcome: Changed."""

    jobs: tuple[str, ...]
    reason: str = ""


# ---- time, terms and the dead


class Tick(Command, frozen=True):
    """Let time pass: expire leases, locks and waits, make due jobs available. Outcome: Changed (jobs touched)."""


class BeginTerm(Command, frozen=True):
    """First command of a new leader: leases and locks get one more full term before they expire. Outcome: Changed."""

    term: Int


class EndBoot(Command, frozen=True):
    """End all leases of a worker's boot that is confirmed dead; attempts are not burned. Outcome: Changed."""

    worker: str
    boot: str
    reason: str


class Archive(Command, frozen=True):
    """Forget ended jobs that have been written to files. Outcome: Changed."""

    jobs: tuple[str, ...]


# ---- workers


class RegisterWorker(Command, frozen=True):
    """Introduce a boot of a worker; a second live boot of the name is refused. Outcome: Registered or Refused."""

    worker: str
    boot: str
    capability: Capability
    address: str = ""
    beats: bool = False  # it sends heartbeats, so that its silence is death; else only its leases tell


class DeregisterWorker(Command, frozen=True):
    """Leave; leases of that boot are released. Outcome: Changed."""

    worker: str
    boot: str
    reason: str = ""


class DrainWorker(Command, frozen=True):
    """Let a worker finish what it has and claim no more (`on`), or lift that. Outcome: Changed."""

    worker: str
    on: bool = True
    reason: str = ""


class QuarantineWorker(Command, frozen=True):
    """Keep a worker from claiming (`on`), or lift that. Outcome: Changed."""

    worker: str
    on: bool = True
    reason: str = ""


class ForgetWorkers(Command, frozen=True):
    """Drop the records of workers that are gone and that nothing refers to.

    Those that were silent for less than `settings.workers_kept_days` stay. Outcome: Changed with those forgotten. Or
    `at_once`, all or none: Refused with why one must stay.
    """

    workers: tuple[str, ...]
    at_once: bool = False


# ---- locks and semaphores


class Acquire(Command, frozen=True):
    """Take one of `limit` places of a named lock. Outcome: Locked (token) or Refused(busy)."""

    name: str
    holder: str
    ttl_ms: Int
    limit: Int = 1


class RenewLock(Command, frozen=True):
    """Extend a place. Outcome: Locked or Refused(stale_token)."""

    name: str
    token: Int
    ttl_ms: Int


class Unlock(Command, frozen=True):
    """Give a place back. Outcome: Changed or Refused(stale_token)."""

    name: str
    token: Int


class BreakLock(Command, frozen=True):
    """Take all places away from their holders. Outcome: Changed."""

    name: str
    reason: str


# ---- artifacts


class RegisterArtifact(Command, frozen=True):
    """Say that `holders` (voter ids, or "store") keep these bytes. Outcome: Changed."""

    artifact: ArtifactRef
    holders: tuple[str, ...]
    config: str = ""


class DropHolder(Command, frozen=True):
    """Say that a holder has these bytes no more. Outcome: Changed."""

    sha256: str
    holder: str


class CollectArtifacts(Command, frozen=True):
    """Forget artifacts that nothing references (checked again here). Outcome: Changed with those forgotten."""

    sha256: tuple[str, ...]


class Revoke(Command, frozen=True):
    """Exclude data of a worker, a model or named shards from windows and ratings. Outcome: Changed (what it was)."""

    worker: str = ""
    model: str = ""
    since_ms: Int = 0
    reason: str = ""
    shards: tuple[str, ...] = ()


# ---- models


class Evidence(Value, frozen=True):
    """Why an alias moves: computed by a duty from matches in the log, checked structurally here."""

    rule: str  # "bootstrap", "sprt", "manual", "rollback", "regression"
    champion: str = ""  # the sha that the test was played against
    match_ids: tuple[str, ...] = ()
    games: Int = 0
    wins: Int = 0
    draws: Int = 0
    losses: Int = 0
    llr_milli: Int = 0
    bound_milli: Int = 0
    floors: dict[str, tuple[Int, Int, Int]] = {}  # baseline -> (points in thousandths, games, threshold in thousandths)
    note: str = ""


class RegisterModel(Command, frozen=True):
    """Add an immutable model by hand; the completion of a train job adds its own.

    Outcome: Changed, or Refused(artifact_missing, invalid).
    """

    sha256: str
    config: str
    manifest: msgspec.Raw
    parents: tuple[str, ...] = ()
    job: str = ""


class SetAlias(Command, frozen=True):
    """Point an alias ("champion/square8_2p") at a model iff it now points at `expected`.

    Outcome: AliasSet or Refused(conflict).
    """

    alias: str
    sha256: str
    expected: str
    evidence: Evidence
    reason: str = ""


class Rollback(Command, frozen=True):
    """Point an alias at what it pointed at before. Outcome: AliasSet or Refused(conflict, not_found)."""

    alias: str
    expected: str
    evidence: Evidence
    reason: str


class RejectModel(Command, frozen=True):
    """Mark a candidate as rejected, with its evidence. Outcome: Changed."""

    sha256: str
    evidence: Evidence
    reason: str


# ---- settings, kinds, tokens, alerts


class PutSettings(Command, frozen=True):
    """Set keys iff the settings have version `expected` (-1 = any). Outcome: SettingsSet or Refused."""

    values: dict[str, msgspec.Raw]
    expected: Int = -1
    reason: str = ""


class Halt(Command, frozen=True):
    """Stop claims of a kind, a config or all ("*"). Outcome: Changed."""

    scope: str
    reason: str


class Resume(Command, frozen=True):
    """End a halt. Outcome: Changed."""

    scope: str
    reason: str = ""


class RegisterKind(Command, frozen=True):
    """Open the queue to a new kind of job with JSON schemas for payload and result. Outcome: Changed."""

    name: str
    payload_schema: str = "{}"
    result_schema: str = "{}"
    share: Int = 0  # weight in the fair shares; 0 = the default of other kinds


class PutToken(Command, frozen=True):
    """Add a token by its hash. Outcome: Changed."""

    id: str
    role: str  # "admin", "worker", "read"
    hash: str
    label: str = ""
    expires_ms: Int = 0


class RevokeToken(Command, frozen=True):
    """Make a token worthless. Outcome: Changed."""

    id: str
    reason: str = ""


class SetAlert(Command, frozen=True):
    """Raise or clear an alert. Outcome: Changed (empty when it already was so)."""

    name: str
    key: str  # what it is about: a worker, a config, a voter
    active: bool
    detail: str = ""
    sent: bool = False  # somebody outside has been told of it


class SilenceAlert(Command, frozen=True):
    """Keep an alert quiet until a time. Outcome: Changed."""

    name: str
    until_ms: Int
    reason: str = ""


AnyCommand = (
    Enqueue | Claim | Renew | Complete | Fail | Release | Cancel | Retry | Hold | Unhold
    | Tick | BeginTerm | EndBoot | Archive
    | RegisterWorker | DeregisterWorker | DrainWorker | QuarantineWorker | ForgetWorkers
    | Acquire | RenewLock | Unlock | BreakLock
    | RegisterArtifact | DropHolder | CollectArtifacts | Revoke
    | RegisterModel | SetAlias | Rollback | RejectModel
    | PutSettings | Halt | Resume | RegisterKind | PutToken | RevokeToken | SetAlert | SilenceAlert
)  # fmt: skip


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A command with the key of exactly-once and the person or program behind it."""

    client: str
    request_id: int
    actor: str
    command: AnyCommand
