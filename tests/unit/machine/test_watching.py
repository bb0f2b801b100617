"""What the duties that watch a cluster rest on: checks are done by others, alerts are told of once."""

from __future__ import annotations

import pytest

from tests.unit.machine.driver import Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.schema import PlayerSpec, SelfplayPayload


def test_a_job_is_not_run_by_those_it_avoids(driver: Driver) -> None:
    """A check goes to another worker, however long it waits, and explain says so."""
    driver.worker("w2")
    driver.add("check", requires=c.Requirements(avoid=("w1",)))
    driver.now_ms += 10_000_000
    assert isinstance(driver.claim(), o.Empty)
    explained = driver.machine.query("explain", {"job": "check"})
    assert explained.reasons == {"w1": "another worker must run it", "w2": "fits"}  # type: ignore[attr-defined]
    assert driver.lease("w2").job == "check"


def test_a_job_can_be_for_one_worker(driver: Driver) -> None:
    """Every worker has a label with its name."""
    driver.worker("w2")
    driver.add("canary", requires=c.Requirements(labels=("worker:w2",)))
    assert isinstance(driver.claim(), o.Empty)
    assert driver.lease("w2").job == "canary"


def test_the_loop_sees_which_jobs_need_a_device(driver: Driver) -> None:
    """Available ones by what they require, running ones by the device they have; those on the CPU are not counted."""
    payload = raw(SelfplayPayload("square8", 2, PlayerSpec("heuristic"), 1, 1))
    driver.worker("gpu", devices=(("H100", 80_000),))
    for name, vram_mb in (("a", 4000), ("b", 4000), ("c", 0)):
        requires = c.Requirements(vram_mb=vram_mb)
        driver.add(name, kind="selfplay", config="square8_2p", payload=payload, requires=requires)
    assert driver.claim("gpu", vram_mb=(80_000,), devices=(0,)).leases[0].device == 0
    [view] = driver.machine.query("loop", {}).configs  # type: ignore[attr-defined]
    assert (view.live, view.on_devices) == ({"selfplay": 3}, {"selfplay": 2})


@pytest.mark.parametrize("restored", [False, True])
def test_an_alert_is_raised_once_and_marked_as_sent_once(driver: Driver, restored: bool) -> None:
    """Whoever repeats it changes nothing; a new leader knows what has been sent."""
    up = c.SetAlert("disk", "voter-1", active=True, detail="full")
    assert driver.do(up) == o.Changed(("disk/voter-1",))
    assert driver.do(up) == o.Changed()
    sent = c.SetAlert("disk", "voter-1", active=True, sent=True)
    assert driver.do(sent) == o.Changed(("disk/voter-1",))
    assert driver.do(sent) == o.Changed()
    if restored:
        driver.machine.restore(driver.machine.snapshot())
    [alert] = driver.machine.query("alerts", {})  # type: ignore[misc]
    assert (alert.detail, alert.sent) == ("full", True)
    assert driver.do(c.SetAlert("disk", "voter-1", active=False)) == o.Changed(("disk/voter-1",))
    assert driver.machine.query("alerts", {}) == ()


def test_a_silenced_alert_is_listed_on_demand(driver: Driver) -> None:
    """Quiet is not gone."""
    driver.do(c.SetAlert("disk", "voter-1", active=True))
    driver.do(c.SilenceAlert("disk", driver.now_ms + 1000, "being replaced"))
    assert driver.machine.query("alerts", {}) == ()
    assert len(driver.machine.query("alerts", {"silenced": True})) == 1  # type: ignore[arg-type]
    driver.now_ms += 1001
    driver.do(c.Tick())
    assert len(driver.machine.query("alerts", {})) == 1  # type: ignore[arg-type]
