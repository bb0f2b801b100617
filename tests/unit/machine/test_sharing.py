"""A million waiting jobs fit: what jobs have in common is kept once, and no log entry stays alive for a part of it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import msgspec
import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import sharing
from workqueue.machine.commands import Enqueue, JobSpec, LeaseRenewal, Renew, Requirements, RetryPolicy
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Enqueued
from workqueue.schema import PlayerSpec, SelfplayPayload

PAYLOAD = raw({"id": 1, "d": "x" * 180})
NEED = Requirements(2, 100, labels=("gpu",))


def filled(count: int) -> Driver:
    driver = Driver(checked=False)
    driver.kind()
    for first in range(0, count, 500):
        jobs = (JobSpec(f"job-{first + n}", "plain", PAYLOAD, "square8_2p", requires=NEED) for n in range(500))
        assert isinstance(driver.do(Enqueue(tuple(jobs))), Enqueued)
    return driver


def restored_from(snapshot: bytes) -> Machine:
    machine = Machine()
    machine.restore([snapshot])
    return machine


def weighed(make: Callable[[], Machine]) -> tuple[Machine, int]:
    """Return a machine and the bytes that it holds."""
    gc.collect()
    tracemalloc.start()
    try:
        machine = make()
        gc.collect()
        return machine, tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("restored", [False, True])
def test_a_waiting_job_costs_less_than_a_kilobyte(restored: bool) -> None:
    """With 190 bytes of payload, requirements of its own, and all indexes; the bound of 2 GB a million leaves half."""
    driver = filled(5_000)
    snapshot = b"".join(driver.machine.snapshot())
    del driver
    machine, used = weighed(lambda: restored_from(snapshot) if restored else filled(5_000).machine)
    assert len(machine.ledger.jobs) == 5_000
    assert used / 5_000 < 1_050


@pytest.mark.parametrize("restored", [False, True])
def test_jobs_share_what_is_equal(restored: bool) -> None:
    """One object for the same kind, config, requirements and bucket, also after a snapshot was loaded."""
    driver = filled(1_000).restored() if restored else filled(1_000)
    ledger = driver.machine.ledger
    one, other = ledger.jobs["job-1"], ledger.jobs["job-2"]
    for name in ("kind", "config", "requires", "retry"):
        assert getattr(one.spec, name) is getattr(other.spec, name)
    assert one.spec.requires == NEED
    assert ledger.ready.bucket(one) is ledger.ready.bucket(other)
    assert one.actor is ledger.jobs["job-501"].actor  # another entry brought it


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins anew; equal values are found all the same, soon one object again."""
    monkeypatch.setattr(sharing, "KNOWN_MAX", 10)
    met = sharing.Sharing()
    for n in range(100):
        assert met.same(f"config-{n}") == f"config-{n}"
        assert met.raw(raw(n)) == raw(n)
    assert len(met._known) <= 10
    assert len(met._small) <= 10
    assert met.same("".join(("config", "-99"))) is met.same("config-99")


def test_a_report_keeps_no_more_than_itself() -> None:
    """A progress of a few bytes does not hold the whole entry that brought it."""
    driver = Driver()
    driver.kind()
    driver.worker()
    driver.add("a", payload=raw("x" * 5_000))
    lease = driver.lease()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        renewals = tuple(
            LeaseRenewal(lease.job, lease.attempt, raw({"done": n, "note": "n" * 100}), raw("c" * 200_000))
            for n in range(2)
        )
        driver.do(Renew("w1", "b1", renewals[:1]))
        driver.do(Renew("w1", "b1", (msgspec.structs.replace(renewals[1], cursor=raw([1])),)))
        del renewals
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 100_000
    finally:
        tracemalloc.stop()
    assert driver.job("a").progress == {"done": 1, "note": "n" * 100}
    assert driver.job("a").cursor == [1]


def test_sharing_does_not_show_in_a_snapshot() -> None:
    """A default that was said and one that was left out stay apart, whichever came first; bytes go round unchanged."""
    said = {"requires": Requirements(), "retry": RetryPolicy(), "payload": raw({}), "conditions": ()}
    pictures = []
    for first, second in (("a", "b"), ("b", "a")):
        driver = Driver()
        driver.kind()
        for name in (first, second):
            entry = {"id": name, "kind": "plain"} | (said if name == "a" else {})
            driver.now_ms += 1
            request = ["c", driver.now_ms, "", {"type": "Enqueue", "jobs": [entry]}]
            driver.machine.apply(msgspec.msgpack.encode([1, driver.now_ms, [request]]))
        specs = {name: msgspec.msgpack.encode(job.spec) for name, job in driver.machine.ledger.jobs.items()}
        pictures.append(specs)
        assert driver.restored().picture() == driver.picture()
    assert pictures[0] == pictures[1]


def test_jobs_share_their_rules_version() -> None:
    """It is read out of each payload anew."""
    driver = Driver()
    payload = raw(SelfplayPayload("square8", 2, PlayerSpec("heuristic"), 10, 1, rules_version="rules-1"))
    for name in ("one", "other"):
        driver.add(name, kind="selfplay", config=CONFIG, payload=payload)
    one, other = (driver.machine.ledger.jobs[name].rules for name in ("one", "other"))
    assert one == "rules-1"
    assert one is other


def played(matches: int) -> Driver:
    driver = Driver(checked=False)
    driver.worker()
    for job in range(matches // 100):
        driver.tournament(f"t{job}", [(f"g{job}-{n}", ((1, 2), (2, 1))[n % 2]) for n in range(100)])
    return driver


@pytest.mark.parametrize("restored", [False, True])
def test_matches_share_what_is_equal(restored: bool) -> None:
    """The log of matches only grows: two of them have one object for the same players, result, job and record."""
    driver = played(200).restored() if restored else played(200)
    first, later = driver.machine.ledger.matches[0], driver.machine.ledger.matches[102]
    assert (first.id, first.job) != (later.id, later.job)
    for name in ("config", "seats", "ranks", "reason", "opening", "purpose", "worker", "record"):
        assert getattr(first, name) is getattr(later, name), name
    assert first.job is driver.machine.ledger.matches[1].job
    assert driver.restored().picture() == driver.picture()


@pytest.mark.parametrize("restored", [False, True])
def test_a_match_costs_less_than_700_bytes(restored: bool) -> None:
    """With the index by its id, live and out of a snapshot."""
    snapshot = b"".join(played(2_000).machine.snapshot())

    def made() -> Machine:
        machine = restored_from(snapshot) if restored else played(2_000).machine
        del machine.ledger.jobs
        return machine

    machine, used = weighed(made)
    assert len(machine.ledger.matches) == 2_000
    assert used / 2_000 < 700
