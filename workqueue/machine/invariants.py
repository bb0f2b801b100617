"""What must hold after every entry. For tests and `rift cluster verify`; too slow for the hot path."""

from __future__ import annotations

from collections import Counter

from workqueue.machine.ledger import Ledger
from workqueue.machine.payloads import artifacts_of, named_in, read_payload
from workqueue.machine.ratings import recompute
from workqueue.machine.scheduling import BucketKey, key_of, ready_key, workers_named
from workqueue.machine.state import Job
from workqueue.machine.transitions import ENDED
from workqueue.machine.transitions import State as JobState
from workqueue.schema import Schema


def check(ledger: Ledger) -> None:
    """Assert every invariant; raises AssertionError with what is broken."""
    _jobs(ledger)
    _ready(ledger)
    _leases(ledger)
    for lock in ledger.state.locks.values():
        assert len(lock.places) <= lock.limit or lock.limit < 1, f"lock {lock.name} has too many holders"
        assert len({place.token for place in lock.places}) == len(lock.places), f"lock {lock.name} gave a token twice"
    for alias, steps in ledger.state.aliases.items():
        assert steps, f"alias {alias} has no step"
        assert all(step.sha256 in ledger.state.models for step in steps), f"alias {alias} points at nothing"
    assert len(ledger.match_ids) == len(ledger.matches), "a match is in the log twice"
    fresh = {config: table for config, table in recompute(ledger.matches).items() if table}
    shown = {config: table for config, table in ledger.state.ratings.items() if table}
    assert fresh == shown, "the ratings do not follow from the match log"


def _jobs(ledger: Ledger) -> None:
    orders = Counter(job.order for job in ledger.jobs.values())
    assert not orders or max(orders.values()) == 1, "two jobs have the same place"
    counts = Counter((job.state.value, job.spec.kind, job.spec.config) for job in ledger.jobs.values())
    assert dict(counts) == dict(ledger.counts), "the counts are wrong"
    assert ledger.live == sum(job.state not in ENDED for job in ledger.jobs.values()), "the live count is wrong"
    payloads = sum(len(job.spec.payload) for job in ledger.jobs.values() if job.state not in ENDED)
    assert ledger.payload_bytes == payloads, "the payloads are not counted right"
    named = Counter(
        name for job in ledger.jobs.values() if job.state not in ENDED for name in workers_named(job.spec.requires)
    )
    assert named == ledger.named, "the workers that jobs name are miscounted"
    uniques = [job.spec.unique for job in ledger.jobs.values() if job.spec.unique and job.state not in ENDED]
    assert len(uniques) == len(set(uniques)), "a unique key is held twice"
    needed: Counter[str] = Counter()
    for job in ledger.jobs.values():
        if job.state not in ENDED:
            payload = read_payload(job.spec)
            needed.update(artifacts_of(payload if isinstance(payload, Schema) else None))
            needed.update(named_in(job.cursor))
    assert needed == Counter(ledger.needed), "what live jobs need is miscounted"
    for job in ledger.jobs.values():
        assert (job.ended_ms > 0) == (job.state in ENDED) or ledger.now_ms == 0, f"{job.spec.id} ended or not?"


def _ready(ledger: Ledger) -> None:
    available: dict[BucketKey, list[Job]] = {}
    for job in ledger.jobs.values():
        if job.state is JobState.AVAILABLE:
            available.setdefault(key_of(job), []).append(job)
    buckets = {bucket.key: bucket for bucket in ledger.ready}
    assert buckets.keys() == available.keys(), "the buckets are out of step"
    for key, jobs in available.items():
        entries = set(buckets[key].heap)
        assert len(jobs) == buckets[key].waiting, "a bucket's count is wrong"
        for job in jobs:
            assert ledger.ready.bucket(job) is buckets[key], f"{job.spec.id} is in another bucket than it says"
            assert (ready_key(job), job.order, job.spec.id) in entries, f"{job.spec.id} is not in its bucket"


def _leases(ledger: Ledger) -> None:
    running = {name: job for name, job in ledger.jobs.items() if job.state is JobState.RUNNING}
    held = [name for names in ledger.running.values() for name in names]
    assert sorted(held) == sorted(running), "a lease is held twice or by nobody"
    groups = Counter(job.spec.group for job in running.values() if job.spec.group)
    assert groups == Counter({k: n for k, n in ledger.ready.group_running.items() if n}), "the groups are miscounted"
    due = {name for _, order, name in ledger.due if order}
    for name, job in running.items():
        assert job.attempt >= 1, f"{name} runs without an attempt"
        assert job.worker, f"{name} runs nowhere"
        assert name in due, f"nobody will look at the lease of {name}"
