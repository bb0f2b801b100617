"""The state with its derived indexes, and the few moves that keep both in step. Handlers change the state through it.

Every index is a pure function of the state (a restored replica must go on exactly as one that never stopped), so what
comes out of a dict or heap in an order that history made is sorted before anybody can see it.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable

import msgspec

from config.loop import LoopSettings
from workqueue.machine.commands import JobSpec
from workqueue.machine.outcomes import Code, Refused
from workqueue.machine.payloads import artifacts_of, named_in, read_payload
from workqueue.machine.scheduling import Ready, workers_named
from workqueue.machine.sharing import Sharing
from workqueue.machine.state import NIL, AuditEntry, Event, Job, Match, State, Worker
from workqueue.machine.transitions import AVAILABLE, ENDED, RETRYABLE, RUNNING, SCHEDULED, TABLE, Trigger
from workqueue.machine.transitions import State as JobState
from workqueue.schema import Schema

EVENTS_MAX = 5_000
AUDIT_MAX = 10_000


class Ledger:
    """State and indexes."""

    def __init__(self) -> None:
        self.state = State()
        self.jobs: dict[str, Job] = {}
        self.matches: list[Match] = []
        self.match_ids: dict[str, int] = {}
        self.settings = LoopSettings()
        self.actor = ""
        self.claimable_version = 0
        self.sharing = Sharing()
        self._clear()

    def _clear(self) -> None:
        self.ready = Ready()
        self.due: list[tuple[int, int, str]] = []  # (moment, order, job or lock) that Tick must look at
        self.dependents: dict[str, set[str]] = defaultdict(set)  # job -> all jobs that name it
        self.conditional: set[str] = set()
        self.unique: dict[str, str] = {}
        self.running: dict[str, set[str]] = defaultdict(set)  # worker -> jobs
        self.counts: dict[tuple[JobState, str, str], int] = defaultdict(int)  # (state, kind, config)
        self.named: dict[str, int] = defaultdict(int)  # worker -> live jobs that are for it, or not for it, by name
        self.needed: dict[str, int] = defaultdict(int)  # artifact -> how often live jobs' payloads and cursors name it
        self.artifact_counts: dict[tuple[str, str], int] = defaultdict(int)  # (kind, config)
        self.live = 0  # jobs that have not ended
        self.payload_bytes = 0  # of these jobs

    # ---- time

    @property
    def now_ms(self) -> int:
        """The machine's time: the largest stamp seen."""
        return self.state.now_ms

    def wake_at(self, moment_ms: int, order: int, name: str) -> None:
        """Have Tick look at a job (by its order) or a lock (order 0) then."""
        heapq.heappush(self.due, (moment_ms, order, name))

    def watch(self, job: Job) -> None:
        """Have Tick look at a running job when its lease or its whole time is over, whichever comes first."""
        limit = job.spec.total_ms_max
        until = min(job.lease_until_ms, job.started_ms + limit) if limit else job.lease_until_ms
        self.wake_at(until, job.order, job.spec.id)

    # ---- words about what happens

    def emit(self, name: str, subject: str, **detail: str | int) -> None:
        """Append an event; the oldest are forgotten."""
        state = self.state
        state.event_seq += 1
        state.events.append(Event(state.event_seq, state.now_ms, name, subject, self.actor, detail))
        if len(state.events) > EVENTS_MAX * 2:
            del state.events[:-EVENTS_MAX]

    def record(self, action: str, subject: str, reason: str = "") -> None:
        """Append to the audit."""
        state = self.state
        state.audit_seq += 1
        state.audit.append(AuditEntry(state.audit_seq, state.now_ms, self.actor, action, subject, reason))
        if len(state.audit) > AUDIT_MAX * 2:
            del state.audit[:-AUDIT_MAX]
        self.emit(f"audit.{action}", subject, reason=reason)

    # ---- jobs

    def move(self, job: Job, trigger: Trigger) -> None:
        """Take the one step that the table allows; the caller has checked that it does."""
        source = job.state
        target = TABLE[source, trigger]
        self._leave(job)
        job.state = target
        self._enter(job)
        if target in ENDED:
            self._end_life(job)
        elif source in ENDED:
            self._begin_life(job)

    def can(self, job: Job, trigger: Trigger) -> bool:
        """Whether the table allows it."""
        return (job.state, trigger) in TABLE

    def insert(self, job: Job) -> None:
        """Take a new job in."""
        self._share(job)
        self.jobs[job.spec.id] = job
        self._depend(job)
        self._enter(job)
        self._begin_life(job)

    def _share(self, job: Job) -> None:
        self.sharing.spec(job.spec)
        job.actor = self.sharing.same(job.actor)
        if job.rules:
            job.rules = self.sharing.same(job.rules)

    def _depend(self, job: Job) -> None:
        for name in job.spec.depends_on:
            self.dependents[name].add(job.spec.id)

    def forget(self, job: Job) -> None:
        """Drop an ended job."""
        self._leave(job)
        del self.jobs[job.spec.id]
        for name in set(job.spec.depends_on):
            self.dependents[name].discard(job.spec.id)
            if not self.dependents[name]:
                del self.dependents[name]

    def _leave(self, job: Job) -> None:
        spec, state, counts = job.spec, job.state, self.counts
        key = state, spec.kind, spec.config
        counts[key] = left = counts[key] - 1
        if not left:
            del counts[key]
        if state is AVAILABLE:
            self.ready.remove(job)
        elif state is RUNNING:
            self.running[job.worker].discard(spec.id)
            if spec.group:
                self.ready.group_running[spec.group] -= 1
                self.claimable_version += 1
        elif state is SCHEDULED:
            self.conditional.discard(spec.id)

    def _enter(self, job: Job) -> None:
        spec, state = job.spec, job.state
        self.counts[state, spec.kind, spec.config] += 1
        if state is AVAILABLE:
            self.ready.add(job)
            self.claimable_version += 1
        elif state is RUNNING:
            self.running[job.worker].add(spec.id)
            if spec.group:
                self.ready.group_running[spec.group] += 1
            self.watch(job)
        elif state is SCHEDULED:
            self.wake_at(max(job.due_ms, self.now_ms), job.order, spec.id)
            if spec.conditions:
                self.conditional.add(spec.id)
        elif state is RETRYABLE:
            self.wake_at(job.due_ms, job.order, spec.id)
        if spec.wait_ms_max and (state is AVAILABLE or state is SCHEDULED):
            self.wake_at(job.enqueued_ms + spec.wait_ms_max, job.order, spec.id)

    def _begin_life(self, job: Job) -> None:
        spec = job.spec
        self.live += 1
        self.payload_bytes += len(spec.payload)
        self._name(spec, 1)
        if spec.unique:
            self.unique[spec.unique] = spec.id

    def _end_life(self, job: Job) -> None:
        spec = job.spec
        self.live -= 1
        self.payload_bytes -= len(spec.payload)
        self._name(spec, -1)
        if spec.unique and self.unique.get(spec.unique) == spec.id:
            del self.unique[spec.unique]

    def _name(self, spec: JobSpec, change: int) -> None:
        need = spec.requires
        if not need.labels and not need.avoid:
            return
        for name in workers_named(need):
            self.named[name] += change
            if not self.named[name]:
                del self.named[name]

    def need(self, job: Job, payload: Schema | Refused | None, change: int = 1) -> None:
        """Say that a live job needs what its payload and its cursor name, or (change -1) that it needs it no more."""
        if isinstance(payload, Schema):
            self._count_needs(artifacts_of(payload), change)
        if job.cursor is not NIL:
            self._count_needs(named_in(job.cursor), change)

    def tell_cursor(self, job: Job, cursor: msgspec.Raw) -> None:
        """Note where a live job stands (nil: as before); what its cursor names stays while it names it."""
        if is_nil(cursor) or cursor == job.cursor:
            return
        self._count_needs(named_in(cursor), 1)
        self._count_needs(named_in(job.cursor), -1)
        job.cursor = self.sharing.raw(cursor)

    def _count_needs(self, names: Iterable[str], change: int) -> None:
        for sha in names:
            self.needed[sha] += change
            if not self.needed[sha]:
                del self.needed[sha]

    def count(self, state: JobState, *, kind: str = "", config: str = "") -> int:
        """Return how many jobs are in a state."""
        return sum(
            n
            for (s, k, c), n in self.counts.items()
            if s is state and (not kind or k == kind) and (not config or c == config)
        )

    # ---- lookups that refuse

    def job(self, name: str) -> Job | Refused:
        """Return a job, or the refusal that says it is not there."""
        job = self.jobs.get(name)
        return job if job is not None else Refused(Code.NOT_FOUND, f"there is no job {name}")

    def worker(self, name: str, boot: str) -> Worker | Refused:
        """Return a live worker of this boot, or why not."""
        worker = self.state.workers.get(name)
        if worker is None or worker.boot != boot or not worker.live:
            return Refused(Code.NOT_FOUND, f"worker {name} is not registered with this boot; register first")
        return worker

    # ---- snapshots

    def rebuild(self) -> None:
        """Derive every index from the state."""
        self._clear()
        for match in self.matches:
            self.sharing.match(match)
        self.match_ids = {match.id: k for k, match in enumerate(self.matches)}
        for job in sorted(self.jobs.values(), key=lambda job: job.order):
            self._share(job)
            self._depend(job)
            self._enter(job)
            if job.state not in ENDED:
                self._begin_life(job)
                self.need(job, read_payload(job.spec))
        for lock in self.state.locks.values():
            for place in lock.places:
                self.wake_at(place.expires_ms, 0, lock.name)
        for artifact in self.state.artifacts.values():
            artifact.refs = tuple(ref for ref in artifact.refs if not ref.startswith("job:"))  # in older snapshots
            if not artifact.revoked:
                self.artifact_counts[artifact.kind, artifact.config] += 1
        self.claimable_version += 1


def is_nil(raw: msgspec.Raw) -> bool:
    """Whether nothing was said."""
    return bytes(raw) == bytes(NIL)
