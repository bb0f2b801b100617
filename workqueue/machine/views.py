"""What queries answer. Field names are the API: added to, never renamed."""

from __future__ import annotations

import msgspec

from workqueue.machine.commands import Capability, Evidence
from workqueue.machine.state import Alert, AliasStep, Cause, Event, HaltRecord, Match, OpenKind, Place

__all__ = ["Alert", "AliasStep", "Cause", "Event", "Evidence", "HaltRecord", "Match", "OpenKind", "Place"]


class View(msgspec.Struct, frozen=True):
    """A read-only picture of a part of the state."""


class JobRow(View, frozen=True):
    """A job in a list."""

    id: str
    kind: str
    config: str
    state: str
    priority: int
    attempt: int
    worker: str
    enqueued_ms: int
    started_ms: int
    ended_ms: int
    reason: str
    progress: object


class JobView(View, frozen=True):
    """A job with everything that is known of it."""

    id: str
    kind: str
    config: str
    state: str
    priority: int
    attempt: int
    worker: str
    boot: str
    device: int
    enqueued_ms: int
    available_ms: int
    started_ms: int
    ended_ms: int
    lease_until_ms: int
    reason: str
    cancelling: str
    progress: object
    cursor: object
    payload: object
    result: object
    artifacts: tuple[str, ...]
    causes: tuple[Cause, ...]
    depends_on: tuple[str, ...]
    unique: str
    group: str
    actor: str
    payload_faults: int
    other_faults: int


class QueueView(View, frozen=True):
    """A page of jobs and the number of those that match."""

    total: int
    jobs: tuple[JobRow, ...]


class WorkerView(View, frozen=True):
    """A worker."""

    id: str
    boot: str
    live: bool
    drain: bool
    quarantined: bool
    reason: str
    address: str
    registered_ms: int
    seen_ms: int
    running: tuple[str, ...]
    completed: int
    failed: int
    node_faults: int
    capability: Capability
    beats: bool = False


class LockView(View, frozen=True):
    """A lock."""

    name: str
    limit: int
    places: tuple[Place, ...]


class ModelRow(View, frozen=True):
    """A model in a list."""

    sha256: str
    config: str
    status: str
    size_bytes: int
    parents: tuple[str, ...]
    job: str
    worker: str
    created_ms: int
    reason: str
    elo_milli: int  # best rating of a player that uses it, 0 = none
    games: int


class ModelView(View, frozen=True):
    """A model with its manifest, its evidence, its ancestors and the moves of aliases that named it."""

    model: ModelRow
    manifest: object
    evidence: Evidence | None
    lineage: tuple[str, ...]
    history: dict[str, tuple[AliasStep, ...]]


class EloRow(View, frozen=True):
    """A player's rating."""

    player: str
    elo_milli: int
    games: int
    wins: int
    draws: int
    losses: int


class ArtifactView(View, frozen=True):
    """An artifact of the index."""

    sha256: str
    size_bytes: int
    kind: str
    config: str
    holders: tuple[str, ...]
    refs: tuple[str, ...]
    worker: str
    model: str
    at_ms: int
    games: int
    positions: int
    revoked: str


class SettingsView(View, frozen=True):
    """The replicated settings: `values` by dotted key as set, `effective` with every default."""

    version: int
    values: dict[str, object]
    effective: dict[str, object]


class WaitingView(View, frozen=True):
    """Available jobs that are alike, and why a worker does not take them."""

    kind: str
    config: str
    needs: str
    jobs: int
    reason: str


class Explanation(View, frozen=True):
    """Why a job does not run, or a worker does not work: the reasons for each counterpart, and how often each holds."""

    subject: str
    verdict: str
    reasons: dict[str, str]
    counts: dict[str, int] = {}  # reason -> workers, or sorts of jobs, that it keeps away; "fits" for the others
    waiting: tuple[WaitingView, ...] = ()  # of a worker: the jobs that wait, by what they need


class Shard(View, frozen=True):
    """A shard that training may use."""

    sha256: str
    games: int
    positions: int
    model: str
    worker: str


class CandidateView(View, frozen=True):
    """A model that is neither champion nor rejected, newest last."""

    sha256: str
    created_ms: int
    parents: tuple[str, ...]


class ConfigView(View, frozen=True):
    """The improvement loop of one config."""

    config: str
    games: int
    games_new: int  # since the last training was enqueued
    positions: int
    trainings: int
    last_selfplay_ms: int
    last_training_ms: int
    loss_milli: int
    matches: int
    champion: str
    champion_since_ms: int
    promotions: int
    rollbacks_day: int
    candidates: tuple[CandidateView, ...]
    live: dict[str, int]  # jobs not ended, by kind
    running: dict[str, int]
    elo_milli: int  # of the champion's best rated player
    halted: str
    elo_games: int = 0  # that the champion's rating rests on
    on_devices: dict[str, int] = {}  # of the live jobs those that need or have a device, by kind


class LoopView(View, frozen=True):
    """The improvement loop of every config, and how many jobs the workers can run at once."""

    configs: tuple[ConfigView, ...]
    slots: int
    workers: int
    halts: tuple[HaltRecord, ...]


class StatusView(View, frozen=True):
    """Everything for one look."""

    now_ms: int
    entries: int
    jobs: dict[str, dict[str, int]]  # state -> kind -> count
    running: tuple[JobRow, ...]
    workers: tuple[WorkerView, ...]
    configs: tuple[ConfigView, ...]
    elo: dict[str, tuple[EloRow, ...]]  # the ten best of each config
    aliases: dict[str, str]
    alerts: tuple[Alert, ...]
    halts: tuple[HaltRecord, ...]
    settings_version: int
    artifacts: int
    artifact_bytes: int
    oldest_available_ms: int
    last_seq: int
