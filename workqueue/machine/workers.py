"""Handlers of commands about workers and locks."""

from __future__ import annotations

from workqueue.machine.commands import (
    Acquire,
    BreakLock,
    DeregisterWorker,
    DrainWorker,
    ForgetWorkers,
    QuarantineWorker,
    RegisterWorker,
    RenewLock,
    Unlock,
)
from workqueue.machine.leases import end_leases
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import Changed, Code, Locked, Outcome, Refused, Registered
from workqueue.machine.state import Lock, Place, Worker

SILENT_MS = 15_000  # a boot that was not heard of for so long gives way to a new one of its name
EXISTS_RETRY_MS = 2_000
DAY_MS = 86_400_000
LIVE_MODELS = frozenset({"candidate", "champion"})


def register_worker(ledger: Ledger, command: RegisterWorker) -> Outcome:
    """Handle RegisterWorker."""
    if not command.worker or not command.boot:
        return Refused(Code.INVALID, "a worker needs a name and a boot id")
    state = ledger.state
    known = state.workers.get(command.worker)
    if known is not None and known.live and known.boot != command.boot:
        if state.now_ms - known.seen_ms < SILENT_MS:
            return Refused(
                Code.EXISTS,
                f"another worker is named {command.worker}; choose another name, or wait until it is known to be dead",
                EXISTS_RETRY_MS,
            )
        end_leases(ledger, known, "another boot took its name")
    worker = known or Worker(command.worker, command.boot, command.capability)
    worker.boot, worker.capability, worker.address = command.boot, command.capability, command.address
    worker.registered_ms = worker.seen_ms = state.now_ms
    worker.live, worker.beats = True, command.beats
    state.workers[command.worker] = worker
    ledger.claimable_version += 1
    ledger.emit("worker.registered", worker.id, boot=worker.boot)
    return Registered(worker.id, worker.boot, worker.drain, worker.quarantined)


def deregister_worker(ledger: Ledger, command: DeregisterWorker) -> Outcome:
    """Handle DeregisterWorker."""
    worker = ledger.state.workers.get(command.worker)
    if worker is None or worker.boot != command.boot or not worker.live:
        return Changed()
    worker.live = False
    ledger.emit("worker.left", worker.id, boot=worker.boot, reason=command.reason)
    return Changed((worker.id, *end_leases(ledger, worker, command.reason or "the worker left")))


def drain_worker(ledger: Ledger, command: DrainWorker) -> Outcome:
    """Handle DrainWorker."""
    worker = ledger.state.workers.get(command.worker)
    if worker is None:
        return Refused(Code.NOT_FOUND, f"there is no worker {command.worker}")
    worker.drain = command.on
    ledger.claimable_version += 1
    ledger.record("drain" if command.on else "undrain", worker.id, command.reason)
    return Changed((worker.id,))


def quarantine_worker(ledger: Ledger, command: QuarantineWorker) -> Outcome:
    """Handle QuarantineWorker."""
    worker = ledger.state.workers.get(command.worker)
    if worker is None:
        return Refused(Code.NOT_FOUND, f"there is no worker {command.worker}")
    worker.quarantined, worker.reason = command.on, command.reason
    worker.node_faults = 0
    ledger.claimable_version += 1
    ledger.record("quarantine" if command.on else "reinstate", worker.id, command.reason)
    return Changed((worker.id,))


def forget_workers(ledger: Ledger, command: ForgetWorkers) -> Outcome:
    """Handle ForgetWorkers."""
    names = dict.fromkeys(command.workers)
    kept = {name: reason for name in names if (reason := stays(ledger, name, at_once=command.at_once))}
    if kept and command.at_once:
        name, reason = next(iter(kept.items()))
        code = Code.TRANSITION if name in ledger.state.workers else Code.NOT_FOUND
        return Refused(code, f"worker {name} cannot be forgotten: {reason}")
    gone = [name for name in names if name not in kept]
    for name in gone:
        del ledger.state.workers[name]
        ledger.record("forget worker", name)
    return Changed(tuple(gone))


def stays(ledger: Ledger, name: str, *, at_once: bool) -> str:
    """Return why a worker's record must stay, empty when it may go."""
    state = ledger.state
    worker = state.workers.get(name)
    if worker is None:
        return "there is no such worker"
    silent_ms = state.now_ms - worker.seen_ms
    if worker.live and (worker.beats or silent_ms < SILENT_MS):
        return "it is alive"
    if worker.quarantined:
        return "it is in quarantine, which must hold when it comes back"
    if ledger.running.get(name):
        return "it holds leases"
    if ledger.named.get(name):
        return "a live job names it"
    if any(model.worker == name and model.status in LIVE_MODELS for model in state.models.values()):
        return "it made a model that is a champion or a candidate"
    days = ledger.settings.workers_kept_days
    return f"it was seen less than {days} days ago" if not at_once and silent_ms < days * DAY_MS else ""


def acquire(ledger: Ledger, command: Acquire) -> Outcome:
    """Handle Acquire."""
    if not command.name or command.ttl_ms < 1 or command.limit < 1:
        return Refused(Code.INVALID, "a lock needs a name, a ttl_ms and a limit of 1 or more")
    state = ledger.state
    lock = state.locks.setdefault(command.name, Lock(command.name, command.limit))
    lock.places = [place for place in lock.places if place.expires_ms > state.now_ms]
    if lock.places and len(lock.places) >= min(lock.limit, command.limit):
        first = min(lock.places, key=lambda place: (place.expires_ms, place.token))
        return Refused(
            Code.BUSY, f"lock {lock.name} is held by {first.holder}", first.expires_ms - state.now_ms, first.holder
        )
    lock.limit = command.limit
    state.tokens_given += 1
    place = Place(state.tokens_given, command.holder, state.now_ms + command.ttl_ms, command.ttl_ms)
    lock.places.append(place)
    ledger.wake_at(place.expires_ms, 0, lock.name)
    return Locked(lock.name, place.token, place.expires_ms)


def renew_lock(ledger: Ledger, command: RenewLock) -> Outcome:
    """Handle RenewLock."""
    lock = ledger.state.locks.get(command.name)
    for place in lock.places if lock else ():
        if place.token == command.token and place.expires_ms > ledger.now_ms:
            place.expires_ms = max(place.expires_ms, ledger.now_ms + command.ttl_ms)
            place.ttl_ms = command.ttl_ms
            return Locked(command.name, place.token, place.expires_ms)
    return Refused(Code.STALE_TOKEN, f"token {command.token} of lock {command.name} is no longer valid")


def unlock(ledger: Ledger, command: Unlock) -> Outcome:
    """Handle Unlock."""
    lock = ledger.state.locks.get(command.name)
    if lock is None or all(place.token != command.token for place in lock.places):
        return Refused(Code.STALE_TOKEN, f"token {command.token} of lock {command.name} is no longer valid")
    lock.places = [place for place in lock.places if place.token != command.token]
    if not lock.places:
        del ledger.state.locks[command.name]
    return Changed((command.name,))


def break_lock(ledger: Ledger, command: BreakLock) -> Outcome:
    """Handle BreakLock."""
    if ledger.state.locks.pop(command.name, None) is None:
        return Refused(Code.NOT_FOUND, f"there is no lock {command.name}")
    ledger.record("break lock", command.name, command.reason)
    return Changed((command.name,))
