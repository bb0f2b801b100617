"""A job that needs more than is ever free at once gets a worker to itself after a bounded wait."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.machine.driver import Driver
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine import reservations
from workqueue.machine.transitions import State

SMALL_MS = 20_000  # how long a small job runs
CPUS = 8


class Busy:
    """Workers whose CPUs are always full of small jobs that end at different times."""

    def __init__(self, workers: int, **capability: Any) -> None:
        self.driver = Driver(checked=False)
        self.driver.kind()
        self.names = [f"w{k}" for k in range(workers)]
        for name in self.names:
            self.driver.worker(name, **{"cpus": CPUS, **capability})
        self.running: dict[str, list[tuple[int, o.Lease]]] = {name: [] for name in self.names}
        self.began: dict[str, int] = {}
        self.number = 0

    def go_on(self, ms: int, step_ms: int = 2_500) -> None:
        """Small jobs keep coming faster than they run; every worker claims as soon as something ends."""
        driver = self.driver
        for _ in range(ms // step_ms):
            driver.tick(step_ms)
            self.number += 1
            driver.add(*(f"small{self.number}.{k}" for k in range(CPUS)), lease_ms=60_000)
            for name in self.names:
                self._serve(name)

    def _serve(self, name: str) -> None:
        driver = self.driver
        for end_ms, lease in list(self.running[name]):
            if end_ms <= driver.now_ms:
                driver.complete(lease, name)
                self.running[name].remove((end_ms, lease))
        free = CPUS - sum(lease.requires.cpus for _, lease in self.running[name])
        outcome = driver.claim(name, limit=1, cpus=free) if free else None
        for lease in outcome.leases if isinstance(outcome, o.Granted) else ():
            self.began[lease.job] = driver.now_ms
            self.running[name].append((driver.now_ms + SMALL_MS, lease))


def test_a_large_job_begins_within_its_bound() -> None:
    """Without a reservation it would wait for ever; so it waits for the longest overtaking and a small job's run."""
    busy = Busy(3)
    busy.go_on(60_000)
    busy.driver.add("large", requires=c.Requirements(cpus=CPUS))
    since_ms = busy.driver.now_ms
    busy.go_on(reservations.WAIT_MS - 30_000)
    assert busy.driver.state("large") is State.AVAILABLE
    busy.go_on(30_000 + 2 * reservations.LOOK_MS + SMALL_MS + 5_000)
    assert busy.driver.state("large") is not State.AVAILABLE
    assert busy.began["large"] - since_ms <= reservations.WAIT_MS + 2 * reservations.LOOK_MS + SMALL_MS + 5_000


def test_without_a_reservation_it_starves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small jobs that end one by one leave no room for a large one, for as long as they keep coming."""
    monkeypatch.setattr(reservations, "look", lambda _: None)
    busy = Busy(3)
    busy.go_on(60_000)
    busy.driver.add("large", requires=c.Requirements(cpus=CPUS), priority=100)
    busy.go_on(3 * reservations.WAIT_MS)
    assert busy.driver.state("large") is State.AVAILABLE


def test_one_worker_is_kept_free_and_the_others_go_on() -> None:
    """The reserved worker empties; afterwards it takes small jobs as before."""
    busy = Busy(3)
    busy.go_on(60_000)
    busy.driver.add("large", requires=c.Requirements(cpus=CPUS))
    busy.go_on(reservations.WAIT_MS + reservations.LOOK_MS)
    [reserved] = [event for event in busy.driver.machine.events_since(0) if event.name == "worker.reserved"]
    assert reserved.detail == {"job": "large"}
    loads = {name: len(jobs) for name, jobs in busy.running.items()}
    assert loads.pop(reserved.subject) < CPUS
    assert set(loads.values()) == {CPUS}
    waiting = [row.id for row in busy.driver.view("queue", state="available").jobs if row.id != "large"]
    reasons = busy.driver.view("explain", job=waiting[0]).reasons
    assert "kept free for another job, which has waited long: large" in reasons[reserved.subject]
    busy.go_on(3 * SMALL_MS)
    assert busy.driver.state("large") is State.COMPLETED
    busy.go_on(SMALL_MS)
    assert len(busy.running[reserved.subject]) == CPUS


def test_nothing_is_reserved_while_jobs_only_wait_their_turn() -> None:
    """A job that some worker has room for now, one that nobody could ever run, and one that waits for a device."""
    driver = Driver()
    driver.kind()
    driver.worker("w1", devices=(("gpu", 8000),))
    driver.add("on device", requires=c.Requirements(cpus=1, device=True))
    driver.claim("w1", vram_mb=(8000,), devices=(0,))
    driver.add("fits", requires=c.Requirements(cpus=7))
    driver.add("never", requires=c.Requirements(cpus=9))
    driver.add("device too", requires=c.Requirements(cpus=8, device=True))
    for _ in range(3):
        driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("on device", 1),)))
        driver.tick(25_000)
    driver.now_ms += reservations.WAIT_MS
    driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("on device", 1),)))
    driver.tick()
    assert driver.lease().job == "fits"
    assert not [event for event in driver.machine.events_since(0) if event.name == "worker.reserved"]


def test_a_reservation_ends_with_its_reason() -> None:
    """The job is cancelled or runs elsewhere, or the worker dies: nobody waits for nothing, also on a replica."""
    for end in (
        lambda d: d.do(c.Cancel(("large",))),
        lambda d: d.do(c.DrainWorker("w1")),
        lambda d: d.do(c.Hold(("large",))),
        lambda d: d.do(c.Halt("other", "x")),
    ):
        driver = Driver()
        driver.kind()
        driver.kind("other")
        driver.worker("w1", kinds=("plain", "other"))
        driver.add("small", lease_ms=10_000_000)
        driver.lease()
        driver.add("large", kind="other", requires=c.Requirements(cpus=8))
        driver.tick(reservations.WAIT_MS)
        driver.add("small too")
        assert isinstance(driver.claim(cpus=7), o.Empty)
        twin = driver.restored()
        for each in (driver, twin):
            end(each)
            each.tick(reservations.LOOK_MS)
            each.do(c.DrainWorker("w1", on=False))
            assert each.claim(cpus=7).leases[0].job == "small too"
        assert driver.picture() == twin.picture()


def test_the_reserved_job_is_not_overtaken_when_room_is_there(driver: Driver) -> None:
    """The moment the worker is empty it gets the job that it was kept for, whatever else waits."""
    driver.add("small", lease_ms=10_000_000)
    lease = driver.lease()
    driver.add("large", requires=c.Requirements(cpus=8), priority=0)
    driver.tick(reservations.WAIT_MS)
    driver.add("urgent", priority=100)
    driver.complete(lease)
    assert driver.lease().job == "large"
    assert driver.lease().job == "urgent"


def test_a_claim_that_begins_the_job_takes_anything_behind_it() -> None:
    """The worker was kept free for one job; with that begun the rest of the same claim goes by turn again."""
    driver = Driver()
    driver.kind()
    driver.worker(cpus=8)
    driver.add("small")
    driver.add("large 1", "large 2", requires=c.Requirements(cpus=4))
    driver.machine.ledger.state.reservations["w1"] = "large 1"
    granted = driver.claim(limit=2, cpus=8)
    assert [lease.job for lease in granted.leases] == ["large 1", "small"]
