"""The replicated state: plain values that a snapshot writes and reads back exactly; indexes are derived."""

from __future__ import annotations

import msgspec
from msgspec import field

from workqueue.machine.commands import (
    ArtifactRef,
    Capability,
    Evidence,
    JobSpec,
)
from workqueue.machine.transitions import State as JobState

NIL = msgspec.Raw(b"\xc0")
VERSION = 1


class Record(msgspec.Struct, omit_defaults=True, gc=False):
    """A part of the state; changed by apply alone. Without cycles, as the parts of commands."""


class Cause(Record):
    """Why an attempt ended without success."""

    attempt: int
    at_ms: int
    worker: str
    cause: str
    fault: str
    message: str = ""
    log_tail: str = ""


class Job(Record):
    """A job and where it is."""

    spec: JobSpec
    order: int  # place in the order of arrival, unique
    state: JobState
    enqueued_ms: int
    available_ms: int = 0
    attempt: int = 0
    worker: str = ""
    boot: str = ""
    device: int = -1
    started_ms: int = 0
    lease_until_ms: int = 0
    due_ms: int = 0  # scheduled, retryable: not before
    ended_ms: int = 0
    payload_faults: int = 0
    other_faults: int = 0
    causes: tuple[Cause, ...] = ()  # the newest
    cancelling: str = ""  # reason; the holder of the lease learns it at the next renewal
    reason: str = ""
    progress: msgspec.Raw = NIL
    cursor: msgspec.Raw = NIL
    result: msgspec.Raw = NIL
    artifacts: tuple[ArtifactRef, ...] = ()
    rules: str = ""  # rules version that its payload asks for
    actor: str = ""


class Worker(Record):
    """A worker by name; one boot of it at a time."""

    id: str
    boot: str
    capability: Capability
    address: str = ""
    registered_ms: int = 0
    seen_ms: int = 0
    live: bool = True
    beats: bool = False
    drain: bool = False
    quarantined: bool = False
    reason: str = ""
    node_faults: int = 0  # in a row
    completed: int = 0
    failed: int = 0


class Place(Record):
    """One holder of a lock."""

    token: int
    holder: str
    expires_ms: int
    ttl_ms: int = 0  # as last asked for


class Lock(Record):
    """A named lock with `limit` places."""

    name: str
    limit: int
    places: list[Place] = []


class Model(Record):
    """An immutable model."""

    sha256: str
    config: str
    manifest: msgspec.Raw
    size_bytes: int = 0
    parents: tuple[str, ...] = ()
    job: str = ""
    worker: str = ""
    created_ms: int = 0
    status: str = "candidate"  # "candidate", "champion", "retired", "rejected", "revoked"
    evidence: Evidence | None = None
    reason: str = ""


class AliasStep(Record):
    """One move of an alias."""

    sha256: str
    at_ms: int
    actor: str
    evidence: Evidence
    reason: str = ""


class Artifact(Record):
    """Bytes that somebody keeps, and who needs them."""

    sha256: str
    size_bytes: int
    kind: str
    config: str = ""
    holders: tuple[str, ...] = ()
    refs: tuple[str, ...] = ()  # "model:…", "data:…", "match:…", "manual"
    worker: str = ""
    model: str = ""  # whose play a shard holds
    at_ms: int = 0
    games: int = 0
    positions: int = 0
    order: int = 0
    revoked: str = ""


class Match(Record):
    """A finished game of the match log."""

    id: str
    config: str
    seats: tuple[str, ...]
    ranks: tuple[int, ...]
    plies: int
    reason: str
    opening: str
    purpose: str
    job: str
    worker: str
    at_ms: int
    record: str = ""
    index: int = 0
    revoked: bool = False


class Rating(Record):
    """Elo of a player within a config, in thousandths; rank counts are wins, ties, losses against single opponents."""

    elo_milli: int
    games: int = 0
    wins: int = 0
    draws: int = 0
    losses: int = 0


class ConfigTotals(Record):
    """What a config has seen, in numbers that never shrink by archiving."""

    games: int = 0
    positions: int = 0
    games_at_training: int = 0  # games there were when the last training began
    trainings: int = 0
    last_selfplay_ms: int = 0
    last_training_ms: int = 0
    loss_milli: int = 0
    matches: int = 0


class Token(Record):
    """A token by its hash."""

    id: str
    role: str
    hash: str
    label: str = ""
    created_ms: int = 0
    expires_ms: int = 0
    revoked_ms: int = 0


class OpenKind(Record):
    """A kind that was registered by name."""

    name: str
    payload_schema: str = "{}"
    result_schema: str = "{}"
    share: int = 0


class HaltRecord(Record):
    """Why claims of a scope are stopped."""

    scope: str
    reason: str
    actor: str
    at_ms: int


class Alert(Record):
    """A condition that somebody should look at."""

    name: str
    key: str
    detail: str
    since_ms: int
    sent: bool = False  # the webhooks have it


class AuditEntry(Record):
    """A change by a person or a duty."""

    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str
    reason: str = ""


class Event(Record):
    """Something that happened, for those who follow along."""

    seq: int
    at_ms: int
    name: str
    subject: str
    actor: str = ""
    detail: dict[str, str | int] = {}


class Answer(Record, array_like=True):
    """The first outcome of a request, as msgpack."""

    client: str
    request_id: int
    outcome: msgspec.Raw


class State(Record):
    """Everything; jobs, matches and answers are written apart from the rest because there are many of them."""

    version: int = VERSION
    now_ms: int = 0
    term: int = 0
    order: int = 0
    tokens_given: int = 0  # of locks
    entries: int = 0
    chain: bytes = b""  # digest of every outcome so far
    virtual: dict[str, int] = field(default_factory=dict)  # fair-share clocks by class and class/config
    virtual_now: dict[str, int] = field(default_factory=dict)
    reservations: dict[str, str] = field(default_factory=dict)  # worker -> the job that it is kept free for
    reservations_ms: int = 0  # when they were looked at last
    workers: dict[str, Worker] = field(default_factory=dict)
    locks: dict[str, Lock] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    aliases: dict[str, list[AliasStep]] = field(default_factory=dict)
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    ratings: dict[str, dict[str, Rating]] = field(default_factory=dict)
    totals: dict[str, ConfigTotals] = field(default_factory=dict)
    settings: dict[str, msgspec.Raw] = field(default_factory=dict)
    settings_version: int = 0
    halts: dict[str, HaltRecord] = field(default_factory=dict)
    kinds: dict[str, OpenKind] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    alerts: dict[str, Alert] = field(default_factory=dict)
    silences: dict[str, int] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    audit_seq: int = 0
    events: list[Event] = field(default_factory=list)
    event_seq: int = 0
