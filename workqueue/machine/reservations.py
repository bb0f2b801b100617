"""Room for large jobs: what needs more CPUs or memory than ever are free at once does not starve behind small jobs.

When the first job of a bucket has waited longer than anybody can be overtaken, and no worker has room for it though one
would if it were empty, that worker is kept free: it is given jobs of this bucket alone until the job has begun. What
the worker runs ends or expires, so the wait has a bound. A job that waits for an exclusive device keeps nothing free.
"""

from __future__ import annotations

from workqueue.machine.commands import Free
from workqueue.machine.explaining import free_of, whole
from workqueue.machine.ledger import Ledger
from workqueue.machine.scheduling import AGE_MS, Bucket, BucketKey, device_for, misfit
from workqueue.machine.state import Worker
from workqueue.machine.transitions import AVAILABLE

WAIT_MS = 100 * AGE_MS
LOOK_MS = 10_000
BUCKETS_MAX = 8  # looked at at a time, those that wait longest


def only(ledger: Ledger, worker: str) -> Bucket | None:
    """Return the one bucket that a worker is kept free for, None when it may take anything."""
    job = ledger.jobs.get(ledger.state.reservations.get(worker, ""))
    return ledger.ready.bucket(job) if job is not None and job.state is AVAILABLE else None


def look(ledger: Ledger) -> None:
    """End reservations that are over and make those that are due; for Tick, seldom enough not to matter."""
    state = ledger.state
    if state.now_ms < state.reservations_ms + LOOK_MS:
        return
    state.reservations_ms = state.now_ms
    able = {name: w for name, w in sorted(state.workers.items()) if w.live and not w.drain and not w.quarantined}
    for name in sorted(state.reservations):
        bucket = only(ledger, name)
        if (
            bucket is None
            or name not in able
            or _stopped(ledger, bucket.key)
            or not _room(bucket.key, able[name], whole(able[name].capability))
        ):
            del state.reservations[name]
            ledger.claimable_version += 1
    kept = {bucket.key for name in state.reservations if (bucket := only(ledger, name))}
    heads = sorted((each.head(ledger.jobs), each.key) for each in ledger.ready if not _stopped(ledger, each.key))
    late = [(head[2], key) for head, key in heads if ledger.jobs[head[2]].available_ms + WAIT_MS <= state.now_ms]
    if not late or len(kept) >= max(1, len(able) // 4):
        return
    free = {name: free_of(ledger, worker) for name, worker in able.items()}
    for job, key in late[:BUCKETS_MAX]:
        if key in kept or any(_room(key, able[name], free[name]) for name in able):
            continue
        fit = [name for name in able if name not in state.reservations and _soon(key, able[name], free[name])]
        if fit and len(state.reservations) < max(1, len(able) // 4):
            chosen = max(fit, key=lambda name: (free[name].cpus, free[name].ram_mb, name))
            state.reservations[chosen] = job
            ledger.emit("worker.reserved", chosen, job=job)


def _stopped(ledger: Ledger, key: BucketKey) -> bool:
    halts = ledger.state.halts
    return ledger.ready.full(key) or any(scope in halts for scope in ("*", key.kind, key.config))


def _room(key: BucketKey, worker: Worker, free: Free) -> bool:
    return not misfit(key, worker.id, worker.capability, free, ())


def _soon(key: BucketKey, worker: Worker, free: Free) -> bool:
    """Whether a worker has room when it is empty, and lacks no device now."""
    need = key.requires
    device = not (need.device or need.vram_mb) or device_for(need, free) >= 0
    return device and _room(key, worker, whole(worker.capability))
