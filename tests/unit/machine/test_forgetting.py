"""The record of a worker that is gone for good goes too, unless something still refers to it."""

from __future__ import annotations

import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine.outcomes import Changed, Refused
from workqueue.machine.workers import DAY_MS, SILENT_MS

WEEK_MS = 7 * DAY_MS


@pytest.fixture
def driver(workerless: Driver) -> Driver:
    return workerless


def gone(driver: Driver, name: str = "w1") -> None:
    driver.worker(name)
    driver.do(c.DeregisterWorker(name, "b1"))


def forget(driver: Driver, *names: str, at_once: bool = False) -> Changed | Refused:
    outcome: Changed | Refused = driver.do(c.ForgetWorkers(names, at_once))
    return outcome


def test_after_a_week_it_is_forgotten(driver: Driver) -> None:
    """Not a moment earlier; the audit has it, and its name may come again."""
    gone(driver)
    driver.now_ms += WEEK_MS - 1
    assert forget(driver, "w1") == Changed(())
    driver.now_ms += 1
    assert forget(driver, "w1", "nobody") == Changed(("w1",))
    assert driver.view("workers") == ()
    assert driver.view("audit")[0].action == "forget worker"
    driver.worker("w1", "b2")
    assert [worker.id for worker in driver.view("workers")] == ["w1"]


def test_the_time_is_a_setting(driver: Driver) -> None:
    """In days."""
    gone(driver)
    driver.do(c.PutSettings({"workers_kept_days": raw(1)}))
    driver.now_ms += DAY_MS
    assert forget(driver, "w1") == Changed(("w1",))


def test_an_operator_need_not_wait(driver: Driver) -> None:
    """All that are named, or none, with the reason."""
    gone(driver, "w1")
    gone(driver, "w2")
    driver.worker("w3")
    refused = forget(driver, "w1", "w3", at_once=True)
    assert isinstance(refused, Refused)
    assert refused.message == "worker w3 cannot be forgotten: it is alive"
    assert len(driver.view("workers")) == 3
    assert forget(driver, "w2", "w1", at_once=True) == Changed(("w2", "w1"))


def test_a_worker_that_only_fell_silent_is_gone_too(driver: Driver) -> None:
    """One that sends no heartbeats is never declared dead; its silence is enough. One that does send them is not."""
    driver.worker("curl")
    driver.do(c.RegisterWorker("agent", "b1", c.Capability(1, 1, 1), beats=True))
    driver.now_ms += SILENT_MS - 1
    assert "alive" in str(forget(driver, "curl", at_once=True))
    driver.now_ms += WEEK_MS
    assert forget(driver, "curl", "agent") == Changed(("curl",))


def test_quarantine_is_never_forgotten(driver: Driver) -> None:
    """Else a cheater would come back by waiting."""
    driver.worker()
    driver.do(c.QuarantineWorker("w1"))
    driver.do(c.DeregisterWorker("w1", "b1"))
    driver.now_ms += 10 * WEEK_MS
    assert forget(driver, "w1") == Changed(())
    assert "quarantine" in str(forget(driver, "w1", at_once=True))


@pytest.mark.parametrize("need", [c.Requirements(avoid=("w1",)), c.Requirements(labels=("worker:w1",))])
def test_whom_a_live_job_names_stays(driver: Driver, need: c.Requirements) -> None:
    """Until the job has ended; also on a replica that loaded a snapshot meanwhile."""
    gone(driver)
    driver.add("check", requires=need)
    driver.now_ms += WEEK_MS
    driver = driver.restored()
    assert forget(driver, "w1") == Changed(())
    assert "a live job names it" in str(forget(driver, "w1", at_once=True))
    driver.do(c.Cancel(("check",)))
    assert forget(driver, "w1") == Changed(("w1",))


def test_who_holds_a_lease_stays(driver: Driver) -> None:
    """However silent it is."""
    driver.worker()
    driver.add("long", lease_ms=10 * WEEK_MS)
    driver.lease()
    driver.now_ms += WEEK_MS
    assert "it holds leases" in str(forget(driver, "w1", at_once=True))


def test_who_made_a_live_model_stays(driver: Driver) -> None:
    """Until the model is retired or rejected."""
    driver.worker()
    driver.store("shard1")
    driver.train("t1", "model1")
    driver.do(c.DeregisterWorker("w1", "b1"))
    driver.now_ms += WEEK_MS
    assert forget(driver, "w1") == Changed(())
    driver.do(c.RejectModel("model1", c.Evidence("manual"), "weak"))
    assert driver.view("models", config=CONFIG)[0].status == "rejected"
    assert forget(driver, "w1") == Changed(("w1",))
