"""Why a job does not run and why a worker is idle: every reason, each in words that are the same for all workers."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from workqueue.machine import views as v
from workqueue.machine.commands import Capability, Free, Requirements
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import Code, Refused
from workqueue.machine.scheduling import Bucket, BucketKey, ability, device_for, key_of, unable, unwanted
from workqueue.machine.state import Job, Worker
from workqueue.machine.transitions import State as JobState

FITS = "fits"
BUCKETS_MAX = 1_000  # shown of those that wait


def free_of(ledger: Ledger, worker: Worker) -> Free:
    """Return what a worker has left, by what it measured and what it runs."""
    capability = worker.capability
    held = [ledger.jobs[name] for name in sorted(ledger.running.get(worker.id, ()))]
    vram = [mb for _, mb in capability.devices]
    taken = set()
    for each in held:
        if 0 <= each.device < len(vram):
            vram[each.device] -= each.spec.requires.vram_mb
            if each.spec.requires.device:
                taken.add(each.device)
    return Free(
        capability.cpus - sum(each.spec.requires.cpus for each in held),
        capability.ram_mb - sum(each.spec.requires.ram_mb for each in held),
        capability.disk_mb - sum(each.spec.requires.disk_mb for each in held),
        tuple(vram),
        tuple(device for device in range(len(vram)) if device not in taken),
    )


def whole(capability: Capability) -> Free:
    """Return what a worker has when it runs nothing."""
    vram = tuple(mb for _, mb in capability.devices)
    return Free(capability.cpus, capability.ram_mb, capability.disk_mb, vram, tuple(range(len(vram))))


# ---- one worker, one bucket


def obstacles(ledger: Ledger, key: BucketKey, worker: Worker) -> dict[str, str]:
    """Return each reason why a worker does not run a bucket's jobs now, with what is so of this worker."""
    found: dict[str, str] = {}
    if not worker.live:
        found["the worker is not alive"] = ""
    if worker.quarantined:
        found["the worker is quarantined"] = worker.reason
    if worker.drain:
        found["the worker is draining"] = ""
    kept = ledger.jobs.get(ledger.state.reservations.get(worker.id, ""))
    if kept is not None and kept.state is JobState.AVAILABLE and key_of(kept) != key:
        found["the worker is kept free for another job, which has waited long"] = kept.spec.id
    for reason in (*_never(key, worker.capability), unwanted(key.requires, worker.id)):
        if reason:
            found[reason] = ""
    return found | _too_little(key.requires, free_of(ledger, worker), whole(worker.capability))


def _never(key: BucketKey, has: Capability) -> list[str]:
    """Return what each part of the worker's ability lacks, asked for one after the other."""
    kinds, labels, build, rules = ability(has, ())
    need = key.requires
    return [
        unable(key, (kinds, need.labels, need.build, key.rules)),
        unable(key, ((key.kind,), labels, need.build, key.rules)),
        unable(key, ((key.kind,), need.labels, build, key.rules)),
        unable(key, ((key.kind,), need.labels, need.build, rules)),
    ]


def _too_little(need: Requirements, free: Free, has: Free) -> dict[str, str]:
    found = {}
    amounts = (
        (need.cpus, free.cpus, has.cpus, "CPUs"),
        (need.ram_mb, free.ram_mb, has.ram_mb, "MB of memory"),
        (need.disk_mb, free.disk_mb, has.disk_mb, "MB of disk"),
    )
    for wanted, left, all_of_it, what in amounts:
        if wanted > all_of_it:
            found[f"has fewer than {wanted} {what}"] = str(all_of_it)
        elif wanted > left:
            found[f"needs {wanted} {what}, which are taken now"] = f"{left} of {all_of_it} are free"
    if need.device or need.vram_mb:
        what = f"device with {need.vram_mb} MB of memory" if need.vram_mb else "device"
        if device_for(need, has) < 0:
            found[f"has no {what}"] = ", ".join(f"{mb} MB" for mb in has.vram_mb)
        elif device_for(need, free) < 0:
            found[f"needs a {what}, which is taken now"] = ""
    return found


def sentence(found: dict[str, str]) -> str:
    """Return the reasons of one worker in a line, or that there is none."""
    return "; ".join(f"{reason}: {detail}" if detail else reason for reason, detail in found.items()) or FITS


# ---- views


def explain(ledger: Ledger, job: str = "", worker: str = "") -> v.Explanation | Refused:
    """Say why a job does not run, or why a worker is idle."""
    if bool(job) == bool(worker):
        return Refused(Code.INVALID, "name a job or a worker, not both")
    return _explain_job(ledger, job) if job else _explain_worker(ledger, worker)


def _explain_job(ledger: Ledger, name: str) -> v.Explanation | Refused:
    found = ledger.job(name)
    if isinstance(found, Refused):
        return found
    if found.state is not JobState.AVAILABLE:
        return v.Explanation(name, _standing(ledger, found), {})
    key = key_of(found)
    workers = ledger.state.workers
    each = {worker: obstacles(ledger, key, workers[worker]) for worker in sorted(workers)}
    counts = Counter(reason for reasons in each.values() for reason in reasons or (FITS,))
    fits = counts[FITS]
    verdict = _closed(ledger, key)
    if not verdict and not each:
        verdict = "no worker has registered"
    verdict = verdict or ("waits for its turn" if fits else "no worker can run it now")
    ranked = dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))
    return v.Explanation(name, verdict, {worker: sentence(reasons) for worker, reasons in each.items()}, ranked)


def _closed(ledger: Ledger, key: BucketKey) -> str:
    """Return why nobody at all may claim a bucket's jobs, empty when somebody may."""
    halts = ledger.state.halts
    for scope in ("*", key.kind, key.config):
        if scope in halts:
            return f"claims of {scope} are halted: {halts[scope].reason}"
    return f"group {key.group} runs as many jobs as it may ({key.group_limit})" if ledger.ready.full(key) else ""


def _standing(ledger: Ledger, job: Job) -> str:
    match job.state:
        case JobState.SCHEDULED:
            waiting = [
                name
                for name in job.spec.depends_on
                if name in ledger.jobs and ledger.jobs[name].state is not JobState.COMPLETED
            ]
            if waiting:
                return f"waits for job {waiting[0]}"
            if job.due_ms > ledger.now_ms:
                return f"scheduled in {job.due_ms - ledger.now_ms} ms"
            lacking = [
                need
                for need in job.spec.conditions
                if ledger.artifact_counts.get((need.artifact_kind, need.config), 0) < need.count
            ]
            return f"waits for {lacking[0].count} {lacking[0].artifact_kind}" if lacking else "about to be available"
        case JobState.RUNNING:
            return f"runs on {job.worker}, attempt {job.attempt}"
        case JobState.RETRYABLE:
            return f"tries again in {max(0, job.due_ms - ledger.now_ms)} ms"
        case _:
            return f"{job.state.value}: {job.reason}" if job.reason else job.state.value


def _explain_worker(ledger: Ledger, name: str) -> v.Explanation | Refused:
    found = ledger.state.workers.get(name)
    if found is None:
        return Refused(Code.NOT_FOUND, f"there is no worker {name}")
    waiting = list(islice(sorted(ledger.ready, key=_place), BUCKETS_MAX))
    buckets = tuple(_waiting(ledger, bucket, found) for bucket in waiting)
    labels = Counter(f"{each.kind} {each.config}".strip() for each in buckets)
    reasons: dict[str, str] = {}
    for each in buckets:
        label = f"{each.kind} {each.config}".strip()
        reasons[f"{label} ({each.needs})" if labels[label] > 1 else label] = each.reason
    running = len(ledger.running.get(name, ()))
    verdict = f"runs {running} jobs" if running else "idle" if reasons else "idle: no job is available"
    counts = Counter(reason for each in waiting for reason in (*obstacles(ledger, each.key, found),) or (FITS,))
    return v.Explanation(name, verdict, reasons, dict(sorted(counts.items())), buckets)


def _waiting(ledger: Ledger, bucket: Bucket, worker: Worker) -> v.WaitingView:
    key = bucket.key
    reason = _closed(ledger, key) or sentence(obstacles(ledger, key, worker))
    return v.WaitingView(key.kind, key.config, needs_of(key), bucket.waiting, reason)


def _place(bucket: Bucket) -> tuple[str, str, str]:
    return bucket.key.kind, bucket.key.config, needs_of(bucket.key)


def needs_of(key: BucketKey) -> str:
    """Return in words what the jobs of a bucket need, everything in which buckets of a kind and config may differ."""
    need = key.requires
    parts = [f"{need.cpus} CPUs"]
    parts += [f"{mb} MB of {what}" for mb, what in ((need.ram_mb, "memory"), (need.disk_mb, "disk")) if mb]
    if need.device or need.vram_mb:
        parts.append(f"{'a' if need.device else 'part of a'} device with {need.vram_mb} MB or more")
    parts += [f"label {label}" for label in need.labels]
    parts += [f"not {worker}" for worker in need.avoid]
    parts += [f"{what} {name}" for what, name in (("build", need.build), ("rules", key.rules)) if name]
    parts += [f"group {key.group} of {key.group_limit}"] if key.group else []
    parts += ["reserved share"] if key.share == "evaluation" else []
    return ", ".join(parts)
