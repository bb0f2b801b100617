"""Handlers of commands about jobs: how they come in, what operators do to them, and how they end."""

from __future__ import annotations

from config.errors import AppError
from workqueue.machine.artifacts import release_scheduled
from workqueue.machine.commands import Archive, Cancel, Enqueue, Hold, JobSpec, Retry, Unhold
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import Changed, Code, Enqueued, Outcome, Refused
from workqueue.machine.payloads import read_payload, rules_of
from workqueue.machine.state import Job
from workqueue.machine.transitions import AVAILABLE, ENDED, SCHEDULED, Trigger
from workqueue.machine.transitions import State as JobState
from workqueue.schema import KINDS, Schema

QUEUE_MAX = 1_000_000
QUEUE_BYTES_MAX = 512 << 20  # of payloads: every voter keeps them in memory
FULL_RETRY_MS = 5_000
ID_MAX = 200
PAYLOAD_MAX = 1 << 20
_ENDED_EVENTS = {state: f"job.{state.value}" for state in ENDED}


class _BadJobError(AppError):
    def __init__(self, refused: Refused) -> None:
        super().__init__(refused.message)
        self.refused = refused


def enqueue(ledger: Ledger, command: Enqueue) -> Outcome:
    """Handle Enqueue: all jobs or none."""
    if ledger.live + len(command.jobs) > QUEUE_MAX:
        return Refused(Code.QUEUE_FULL, f"the queue holds {ledger.live} jobs; try again later", FULL_RETRY_MS)
    if ledger.payload_bytes + sum(len(spec.payload) for spec in command.jobs) > QUEUE_BYTES_MAX:
        full = f"the payloads of waiting jobs have {ledger.payload_bytes} bytes; store large data as artifacts, or wait"
        return Refused(Code.QUEUE_FULL, full, FULL_RETRY_MS)
    existing = tuple(spec.id for spec in command.jobs if spec.id in ledger.jobs)
    try:
        fresh = _checked(ledger, command, set(existing))
    except _BadJobError as bad:
        return bad.refused
    for spec, payload in fresh:
        _insert(ledger, spec, payload)
    return Enqueued(tuple(spec.id for spec in command.jobs), existing)


def _checked(ledger: Ledger, command: Enqueue, existing: set[str]) -> list[tuple[JobSpec, Schema | None]]:
    fresh: list[tuple[JobSpec, Schema | None]] = []
    seen: set[str] = set()
    uniques: set[str] = set()
    for spec in command.jobs:
        if spec.id in existing or spec.id in seen:
            continue
        seen.add(spec.id)
        problem = _problem(ledger, spec, uniques, seen)
        if problem:
            raise _BadJobError(problem)
        if spec.unique:
            uniques.add(spec.unique)
        payload = read_payload(spec)
        if isinstance(payload, Refused):
            raise _BadJobError(payload)
        fresh.append((spec, payload))
    return fresh


def _problem(ledger: Ledger, spec: JobSpec, uniques: set[str], seen: set[str]) -> Refused | None:
    if spec.kind not in KINDS and spec.kind not in ledger.state.kinds:
        known = ", ".join(sorted({*KINDS, *ledger.state.kinds}))
        return Refused(Code.UNKNOWN_KIND, f"there is no kind {spec.kind!r}; known: {known}; register it first")
    if spec.unique and (spec.unique in ledger.unique or spec.unique in uniques):
        holder = ledger.unique.get(spec.unique, "")
        return Refused(Code.DUPLICATE, f"a live job has the unique key {spec.unique!r}", current=holder)
    wrong = _invalid(spec)
    if wrong:
        return Refused(Code.INVALID, f"job {spec.id!r}: {wrong}")
    if spec.id in ledger.dependents:
        return Refused(Code.INVALID, f"job {spec.id!r} was archived and others still name it; choose another id")
    if not spec.depends_on:
        return None
    missing = [name for name in spec.depends_on if name not in ledger.jobs and name not in seen]
    if missing or spec.id in spec.depends_on:
        return Refused(Code.INVALID, f"job {spec.id!r} depends on {(missing or [spec.id])[0]!r}, which it cannot")
    return None


def _invalid(spec: JobSpec) -> str:
    need, retry = spec.requires, spec.retry
    if not 0 < len(spec.id) <= ID_MAX:
        return f"an id has 1 to {ID_MAX} characters"
    if not 0 <= spec.priority <= 100:
        return "a priority is 0 to 100"
    if spec.lease_ms < 1_000:
        return "a lease lasts 1,000 ms or more"
    if len(spec.payload) > PAYLOAD_MAX:
        return f"a payload has {PAYLOAD_MAX} bytes at most; store data as an artifact"
    if need.cpus < 0 or need.ram_mb < 0 or need.vram_mb < 0 or need.disk_mb < 0:
        return "requirements are not negative"
    if retry.max_attempts < 1 or not 0 <= retry.backoff_ms <= retry.backoff_ms_max:
        return "the retry policy is not one"
    if spec.run_at_ms < 0 or spec.wait_ms_max < 0 or spec.total_ms_max < 0:
        return "times are not negative"
    return "a group limit is 1 or more" if spec.group_limit < 1 else ""


def _insert(ledger: Ledger, spec: JobSpec, payload: Schema | None) -> None:
    state = ledger.state
    state.order += 1
    waits = spec.run_at_ms > state.now_ms or spec.depends_on or spec.conditions
    job = Job(
        spec, state.order, SCHEDULED if waits else AVAILABLE, state.now_ms,
        available_ms=state.now_ms, due_ms=spec.run_at_ms, rules=rules_of(payload), actor=ledger.actor,
    )  # fmt: skip
    ledger.need(job, payload)
    ledger.insert(job)
    if waits:
        release(ledger, job)
    if spec.kind == "train":
        totals = state.totals.get(spec.config)
        if totals is not None:
            totals.games_at_training = totals.games


def ended(ledger: Ledger, job: Job, payload: Schema | None = None) -> None:
    """Do what the end of a job asks for: references go, dependents are looked at. The job's state is an ended one.

    `payload` is the job's, if it has been read. A dependent may end in turn; chains are as long as producers make them,
    so this does not recurse.
    """
    _end(ledger, job, payload or read_payload(job.spec))
    if job.spec.id in ledger.dependents:
        _look_at_dependents(ledger, job)


def _look_at_dependents(ledger: Ledger, job: Job) -> None:
    ends = [job]
    for each in ends:
        if each is not job:
            _end(ledger, each, read_payload(each.spec))
        for name in sorted(ledger.dependents.get(each.spec.id, ())):
            waiting = ledger.jobs.get(name)
            if waiting is not None and release_scheduled(ledger, name) and waiting.state in ENDED:
                ends.append(waiting)


def _end(ledger: Ledger, job: Job, payload: Schema | Refused | None) -> None:
    spec = job.spec
    job.ended_ms = ledger.now_ms
    ledger.need(job, payload, -1)
    ledger.emit(_ENDED_EVENTS[job.state], spec.id, kind=spec.kind, config=spec.config, reason=job.reason)


def release(ledger: Ledger, job: Job) -> bool:
    """Let a scheduled job go on, or end with what it depends on; returns whether it moved."""
    moved = release_scheduled(ledger, job.spec.id)
    if moved and job.state in ENDED:
        ended(ledger, job)
    return moved


def _each(ledger: Ledger, names: tuple[str, ...], trigger: Trigger) -> list[Job] | Refused:
    jobs = []
    for name in dict.fromkeys(names):
        job = ledger.job(name)
        if isinstance(job, Refused):
            return job
        if not ledger.can(job, trigger):
            return Refused(Code.TRANSITION, f"job {name} is {job.state.value}: it cannot {trigger.value}")
        jobs.append(job)
    return jobs


def cancel(ledger: Ledger, command: Cancel) -> Outcome:
    """Handle Cancel; a running job ends when its worker has heard, or when its lease ends."""
    jobs = _each(ledger, command.jobs, Trigger.CANCEL)
    if isinstance(jobs, Refused):
        return jobs
    stopped = [job for job in jobs if job.state is not JobState.RUNNING]
    for job in jobs:
        if job.state is JobState.RUNNING:
            job.cancelling = command.reason or "cancelled"
        else:
            job.reason = command.reason
            ledger.move(job, Trigger.CANCEL)
        ledger.record("cancel", job.spec.id, command.reason)
    for job in stopped:  # when all are cancelled: the end of one must not make another of them fail
        ended(ledger, job)
    return Changed(tuple(job.spec.id for job in jobs))


def retry(ledger: Ledger, command: Retry) -> Outcome:
    """Handle Retry: fresh attempts, the attempt number goes on."""
    jobs = _each(ledger, command.jobs, Trigger.RETRY)
    if isinstance(jobs, Refused):
        return jobs
    uniques = [job.spec.unique for job in jobs if job.spec.unique]
    taken = [key for key in uniques if key in ledger.unique or uniques.count(key) > 1]
    if taken:
        return Refused(Code.DUPLICATE, f"a live job has the unique key {taken[0]!r}")
    for job in jobs:
        job.payload_faults = job.other_faults = 0
        job.cancelling = job.reason = ""
        job.due_ms = job.ended_ms = 0
        _wait_anew(ledger, job)
        payload = read_payload(job.spec)
        ledger.need(job, payload)
        ledger.move(job, Trigger.RETRY)
        release(ledger, job)
        ledger.record("retry", job.spec.id, command.reason)
    return Changed(tuple(job.spec.id for job in jobs))


def _wait_anew(ledger: Ledger, job: Job) -> None:
    if job.spec.wait_ms_max:  # else it would expire at once for what was an operator's doing
        job.enqueued_ms = ledger.now_ms


def hold(ledger: Ledger, command: Hold) -> Outcome:
    """Handle Hold; the lease of a running job ends, its worker learns it as lost."""
    jobs = _each(ledger, command.jobs, Trigger.HOLD)
    if isinstance(jobs, Refused):
        return jobs
    for job in jobs:
        job.reason = command.reason
        ledger.move(job, Trigger.HOLD)
        job.worker = job.boot = ""
        ledger.record("hold", job.spec.id, command.reason)
    return Changed(tuple(job.spec.id for job in jobs))


def unhold(ledger: Ledger, command: Unhold) -> Outcome:
    """Handle Unhold."""
    jobs = _each(ledger, command.jobs, Trigger.UNHOLD)
    if isinstance(jobs, Refused):
        return jobs
    for job in jobs:
        job.reason = ""
        _wait_anew(ledger, job)
        ledger.move(job, Trigger.UNHOLD)
        release(ledger, job)
        ledger.record("unhold", job.spec.id, command.reason)
    return Changed(tuple(job.spec.id for job in jobs))


def _is_needed(ledger: Ledger, name: str) -> bool:
    return any(ledger.jobs[each].state not in ENDED for each in ledger.dependents.get(name, ()))


def archive(ledger: Ledger, command: Archive) -> Outcome:
    """Handle Archive: only ended jobs that no live job depends on."""
    gone = []
    for name in dict.fromkeys(command.jobs):
        job = ledger.jobs.get(name)
        if job is not None and job.state in ENDED and not _is_needed(ledger, name):
            ledger.forget(job)
            gone.append(name)
    return Changed(tuple(gone))
