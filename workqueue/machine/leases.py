"""Handlers of commands about leases: claim, renew, complete, fail, release; and how leases end by time or by death.

A lease is (job, attempt). Whoever names another attempt than the job's current one, or a job that does not run, changes
nothing. Infrastructure and node faults never burn a job's own attempts; they have a limit of their own, so that a job
that takes every machine down with it ends too.
"""

from __future__ import annotations

import heapq

from workqueue.machine import reservations
from workqueue.machine.artifacts import release_scheduled
from workqueue.machine.commands import (
    BeginTerm,
    Claim,
    Complete,
    Completion,
    EndBoot,
    Fail,
    Fault,
    Release,
    Renew,
)
from workqueue.machine.effects import apply_result
from workqueue.machine.jobs import ended
from workqueue.machine.ledger import Ledger, is_nil
from workqueue.machine.outcomes import (
    Changed,
    Code,
    Completed,
    Empty,
    Granted,
    Lease,
    LeaseState,
    Outcome,
    Refused,
    Renewed,
    Settled,
)
from workqueue.machine.payloads import read_payload, read_result
from workqueue.machine.scheduling import (
    SHARES,
    BucketKey,
    Offer,
    ability,
    charge,
    choose,
    device_for,
    lack,
    offers_of,
    reserve,
    unable,
    unwanted,
    weight_of,
)
from workqueue.machine.state import NIL, Cause, Job, Worker
from workqueue.machine.transitions import COMPLETED, ENDED, RUNNING, Trigger
from workqueue.machine.transitions import State as JobState

OTHER_FAULTS_MAX = 20
NODE_FAULTS_MAX = 5
CAUSES_MAX = 10
CLAIM_MAX = 1000
_CLAIM, _COMPLETE, _COMPLETED = Trigger.CLAIM, Trigger.COMPLETE, COMPLETED.value


def halted(ledger: Ledger, key: BucketKey) -> bool:
    """Whether claims of a bucket are stopped."""
    halts = ledger.state.halts
    return bool(halts) and ("*" in halts or key.kind in halts or key.config in halts)


def claim(ledger: Ledger, command: Claim) -> Outcome:
    """Handle Claim."""
    worker = ledger.worker(command.worker, command.boot)
    if isinstance(worker, Refused):
        return worker
    worker.seen_ms = ledger.now_ms
    if worker.quarantined:
        return Refused(Code.QUARANTINED, f"worker {worker.id} is quarantined: {worker.reason}", 10_000)
    if worker.drain:
        return Empty(5_000)
    state, ready = ledger.state, ledger.ready
    free, leases = command.free, []
    weights: dict[str, int] = {}

    def open_now(key: BucketKey) -> bool:
        need = key.requires
        named = (need.avoid or need.labels) and unwanted(need, worker.id)
        return not (named or lack(need, free, 0) or ready.full(key) or halted(ledger, key))

    generation, offers = -1, list[Offer]()
    for _ in range(min(command.limit, CLAIM_MAX)):
        if generation != ready.generation or state.reservations:  # with its job begun a worker is kept free no more
            generation, offers = ready.generation, _offers(ledger, worker, command.kinds)
        choice = choose(state, ledger.jobs, offers, open_now)
        if choice is None:
            break
        offer, config, bucket, name = choice
        if offer.name not in weights:
            weights[offer.name] = weight_of(offer.name, ledger.settings, state.kinds)
        charge(state, SHARES, offer.clock, weights[offer.name])
        charge(state, offer.scope, config.clock, 1)
        need = bucket.key.requires
        device = device_for(need, free) if need.device or need.vram_mb else -1
        free = reserve(need, free, device)
        leases.append(_grant(ledger, ledger.jobs[name], worker, device))
    return Granted(tuple(leases)) if leases else Empty()


def _offers(ledger: Ledger, worker: Worker, kinds: tuple[str, ...]) -> list[Offer]:
    able = ability(worker.capability, kinds)
    kept = reservations.only(ledger, worker.id)
    return ledger.ready.offers(able) if kept is None else offers_of([] if unable(kept.key, able) else [kept])


def _grant(ledger: Ledger, job: Job, worker: Worker, device: int) -> Lease:
    spec, now_ms = job.spec, ledger.state.now_ms
    job.attempt = attempt = job.attempt + 1
    job.worker, job.boot, job.device = worker.id, worker.boot, device
    job.started_ms = now_ms
    job.lease_until_ms = now_ms + spec.lease_ms
    job.progress = NIL
    ledger.move(job, _CLAIM)
    ledger.emit("job.claimed", spec.id, kind=spec.kind, config=spec.config, worker=worker.id, attempt=attempt)
    return Lease(
        spec.id, attempt, spec.kind, spec.payload, spec.config, spec.lease_ms, spec.total_ms_max, job.cursor, device,
        spec.requires,
    )  # fmt: skip


def _held(ledger: Ledger, name: str, attempt: int, worker: str) -> Job | Refused:
    job = ledger.jobs.get(name)
    if job is None or job.state is not RUNNING or job.attempt != attempt:
        now = f"attempt {job.attempt}, {job.state.value}" if job else "forgotten"
        return Refused(Code.STALE_ATTEMPT, f"attempt {attempt} of job {name} has no lease any more", current=now)
    if job.worker != worker:
        return Refused(Code.STALE_ATTEMPT, f"job {name} is run by {job.worker}", current=job.worker)
    return job


def renew(ledger: Ledger, command: Renew) -> Outcome:
    """Handle Renew."""
    worker = ledger.state.workers.get(command.worker)
    known = worker is not None and worker.boot == command.boot and worker.live
    if worker is not None and known:
        worker.seen_ms = ledger.now_ms
    states = []
    for lease in command.leases:
        job = _held(ledger, lease.job, lease.attempt, command.worker)
        if isinstance(job, Refused):
            states.append(LeaseState(lease.job, lease.attempt, "lost"))
            continue
        if not is_nil(lease.progress):
            job.progress = ledger.sharing.raw(lease.progress)
        ledger.tell_cursor(job, lease.cursor)
        job.lease_until_ms = ledger.now_ms + job.spec.lease_ms
        state = "cancel" if job.cancelling else "ok"
        states.append(LeaseState(lease.job, lease.attempt, state, job.spec.lease_ms, job.cancelling))
    drain = worker is not None and worker.drain
    return Renewed(tuple(states), drain, worker is not None and worker.quarantined, known)


def complete(ledger: Ledger, command: Complete) -> Outcome:
    """Handle Complete."""
    return Completed(tuple(_complete(ledger, command.worker, item) for item in command.completions))


def _complete(ledger: Ledger, worker_id: str, item: Completion) -> Settled | Refused:
    known = ledger.jobs.get(item.job)
    if known is not None and known.state is COMPLETED and known.attempt == item.attempt:
        return Settled(item.job, _COMPLETED)  # the same completion once more
    job = _held(ledger, item.job, item.attempt, worker_id)
    if isinstance(job, Refused):
        return job
    for ref in item.artifacts:
        if ref.sha256 not in ledger.state.artifacts:
            return Refused(Code.ARTIFACT_MISSING, f"artifact {ref.sha256} is not stored; upload it first", 500)
    payload = read_payload(job.spec)
    if isinstance(payload, Refused):  # taken in by a version that read it otherwise
        return payload
    result = read_result(job, item, payload)
    if isinstance(result, Refused):
        return result
    worker = ledger.state.workers.get(worker_id)
    if worker is not None:
        worker.completed += 1
        worker.node_faults = 0
    job.result, job.artifacts = ledger.sharing.raw(item.result), item.artifacts
    ledger.move(job, _COMPLETE)
    if result is not None:
        apply_result(ledger, job, payload, result)
    ended(ledger, job, payload)
    return Settled(item.job, _COMPLETED)


def fail(ledger: Ledger, command: Fail) -> Outcome:
    """Handle Fail."""
    job = _held(ledger, command.job, command.attempt, command.worker)
    if isinstance(job, Refused):
        return job
    ledger.tell_cursor(job, command.cursor)
    worker = ledger.state.workers.get(command.worker)
    if worker is not None:
        worker.failed += 1
        if command.fault is Fault.NODE:
            _node_fault(ledger, worker, command.cause)
    end_attempt(ledger, job, command.cause, command.fault, command.message, command.log_tail)
    return Settled(job.spec.id, job.state.value)


def _node_fault(ledger: Ledger, worker: Worker, cause: str) -> None:
    worker.node_faults += 1
    if worker.node_faults >= NODE_FAULTS_MAX and not worker.quarantined:
        worker.quarantined = True
        worker.reason = f"{worker.node_faults} faults of the node in a row, the last: {cause}"
        ledger.emit("worker.quarantined", worker.id, reason=worker.reason)


def end_attempt(ledger: Ledger, job: Job, cause: str, fault: Fault, message: str = "", log_tail: str = "") -> None:
    """End a running attempt without success: cancelled, retried later, or given up."""
    job.causes = (
        *job.causes[1 - CAUSES_MAX :],
        Cause(job.attempt, ledger.now_ms, job.worker, cause, fault.value, message[:2000], log_tail[-4000:]),
    )
    if fault is Fault.PAYLOAD:
        job.payload_faults += 1
    else:
        job.other_faults += 1
    policy = job.spec.retry
    if job.cancelling:
        job.reason = job.cancelling
        ledger.move(job, Trigger.CANCEL)
    elif job.payload_faults >= policy.max_attempts or job.other_faults >= OTHER_FAULTS_MAX:
        job.reason = f"{cause}: {message[:200]}" if message else cause
        ledger.move(job, Trigger.GIVE_UP)
    else:
        doublings = max(0, job.payload_faults - 1)
        wait_ms = min(policy.backoff_ms << min(doublings, 20), policy.backoff_ms_max) if fault is Fault.PAYLOAD else 0
        job.due_ms = ledger.now_ms + wait_ms
        ledger.emit("job.retryable", job.spec.id, kind=job.spec.kind, worker=job.worker, cause=cause)
        ledger.move(job, Trigger.RETRY_LATER)
        if not wait_ms:
            _make_available(ledger, job)
    if job.state in ENDED:
        ended(ledger, job)


def _make_available(ledger: Ledger, job: Job) -> None:
    job.available_ms = ledger.now_ms
    ledger.move(job, Trigger.DUE)


def release(ledger: Ledger, command: Release) -> Outcome:
    """Handle Release."""
    job = _held(ledger, command.job, command.attempt, command.worker)
    if isinstance(job, Refused):
        return job
    ledger.tell_cursor(job, command.cursor)
    give_back(ledger, job, command.reason)
    return Settled(job.spec.id, job.state.value)


def give_back(ledger: Ledger, job: Job, reason: str) -> None:
    """Make a running job available again, no attempt burned; it keeps its place in the order of waiting."""
    if job.cancelling:
        job.reason = job.cancelling
        ledger.move(job, Trigger.CANCEL)
        ended(ledger, job)
        return
    worker = job.worker
    ledger.move(job, Trigger.RELEASE)
    ledger.emit("job.released", job.spec.id, kind=job.spec.kind, worker=worker, reason=reason)


# ---- time and death


def tick(ledger: Ledger) -> Outcome:
    """Handle Tick: look at everything that is due.

    The heap also holds moments that are no longer true, others on a replica that was restored; so what is due is looked
    at in the order of arrival, not of the heap.
    """
    touched: set[str] = set()
    while ledger.due and ledger.due[0][0] <= ledger.now_ms:
        due: set[tuple[int, str]] = set()
        while ledger.due and ledger.due[0][0] <= ledger.now_ms:
            due.add(heapq.heappop(ledger.due)[1:])
        for order, name in sorted(due):
            if _expire_lock(ledger, name) if order == 0 else _look_at_job(ledger, order, name):
                touched.add(name)
    reservations.look(ledger)
    return Changed(tuple(sorted(touched)))


def _look_at_job(ledger: Ledger, order: int, name: str) -> bool:
    job = ledger.jobs.get(name)
    return job is not None and job.order == order and _look(ledger, job)


def _look(ledger: Ledger, job: Job) -> bool:
    match job.state:
        case JobState.RUNNING:
            return _look_at_lease(ledger, job)
        case JobState.SCHEDULED:
            if _waited_too_long(ledger, job):
                return True
            moved = release_scheduled(ledger, job.spec.id)
            if moved and job.state in ENDED:
                ended(ledger, job)
            return moved
        case JobState.RETRYABLE:
            if job.due_ms <= ledger.now_ms:
                _make_available(ledger, job)
                return True
            return False
        case JobState.AVAILABLE:
            return _waited_too_long(ledger, job)
        case _:
            return False


def _look_at_lease(ledger: Ledger, job: Job) -> bool:
    if job.lease_until_ms <= ledger.now_ms:
        ledger.emit("lease.expired", job.spec.id, worker=job.worker, attempt=job.attempt)
        end_attempt(ledger, job, "lease.expired", Fault.INFRASTRUCTURE)
        return True
    limit = job.spec.total_ms_max
    if limit and job.started_ms + limit <= ledger.now_ms:
        end_attempt(ledger, job, "attempt.timed_out", Fault.PAYLOAD, f"ran longer than {limit} ms")
        return True
    ledger.watch(job)
    return False


def _waited_too_long(ledger: Ledger, job: Job) -> bool:
    limit = job.spec.wait_ms_max
    if not limit or job.attempt or job.enqueued_ms + limit > ledger.now_ms:
        return False
    job.reason = f"expired: waited longer than {limit} ms"
    ledger.move(job, Trigger.GIVE_UP)
    ended(ledger, job)
    return True


def _expire_lock(ledger: Ledger, name: str) -> bool:
    lock = ledger.state.locks.get(name)
    if lock is None:
        return False
    left = [place for place in lock.places if place.expires_ms > ledger.now_ms]
    changed = len(left) != len(lock.places)
    lock.places = left
    for place in left:
        ledger.wake_at(place.expires_ms, 0, name)
    if not left:
        del ledger.state.locks[name]
    return changed


def begin_term(ledger: Ledger, command: BeginTerm) -> Outcome:
    """Handle BeginTerm: while nobody led nobody could renew."""
    if command.term <= ledger.state.term:
        return Changed()
    ledger.state.term = command.term
    for names in ledger.running.values():
        for name in names:
            job = ledger.jobs[name]
            job.lease_until_ms = max(job.lease_until_ms, ledger.now_ms + job.spec.lease_ms)
    for lock in ledger.state.locks.values():
        for place in lock.places:
            place.expires_ms = max(place.expires_ms, ledger.now_ms + place.ttl_ms)
    ledger.emit("leader.changed", str(command.term), term=command.term)
    return Changed()


def end_boot(ledger: Ledger, command: EndBoot) -> Outcome:
    """Handle EndBoot: a later boot of the same worker is not touched."""
    worker = ledger.state.workers.get(command.worker)
    if worker is None or worker.boot != command.boot or not worker.live:
        return Changed()
    worker.live = False
    worker.reason = command.reason if not worker.quarantined else worker.reason
    ledger.emit("worker.dead", worker.id, boot=worker.boot, reason=command.reason)
    return Changed(end_leases(ledger, worker, command.reason))


def end_leases(ledger: Ledger, worker: Worker, reason: str) -> tuple[str, ...]:
    """Give back every job that a worker's boot holds."""
    names = sorted(ledger.running.get(worker.id, ()), key=lambda name: ledger.jobs[name].order)
    held = [ledger.jobs[name] for name in names if ledger.jobs[name].boot == worker.boot]
    for job in held:
        job.other_faults += 1
        if job.other_faults >= OTHER_FAULTS_MAX:
            job.other_faults -= 1
            end_attempt(ledger, job, "worker.dead", Fault.INFRASTRUCTURE, reason)
        else:
            give_back(ledger, job, reason)
    return tuple(job.spec.id for job in held)
