"""`explain` names every reason, and how many workers, or sorts of jobs, each keeps away."""

from __future__ import annotations

import pytest

from tests.unit.machine.driver import Driver
from workqueue.machine import commands as c
from workqueue.machine import explaining
from workqueue.machine.outcomes import Refused


@pytest.fixture
def driver(workerless: Driver) -> Driver:
    return workerless


def test_each_reason_is_counted_over_the_workers(driver: Driver) -> None:
    """Workers of different ability fail for different reasons, some for several."""
    driver.worker("small1", cpus=1, labels=("eu",))
    driver.worker("small2", cpus=2)
    driver.worker("poor", ram_mb=10, labels=("eu",))
    driver.worker("other", kinds=("selfplay",), labels=("eu",))
    driver.worker("busy", cpus=4, labels=("eu",))
    driver.worker("drained", labels=("eu",))
    driver.add("first", requires=c.Requirements(cpus=3))
    assert driver.claim("busy", cpus=4).leases[0].job == "first"
    driver.do(c.DrainWorker("drained"))
    driver.add("job", requires=c.Requirements(cpus=4, ram_mb=100, labels=("eu",)))
    said = driver.view("explain", job="job")
    assert said.verdict == "no worker can run it now"
    assert said.counts == {
        "has fewer than 4 CPUs": 2,
        "has fewer than 100 MB of memory": 1,
        "needs 4 CPUs, which are taken now": 1,
        "needs the label eu": 1,
        "the worker does not run jobs of kind plain": 1,
        "the worker is draining": 1,
    }
    assert said.reasons["small2"] == "needs the label eu; has fewer than 4 CPUs: 2"
    assert said.reasons["busy"] == "needs 4 CPUs, which are taken now: 1 of 4 are free"
    driver.worker("good", labels=("eu",))
    said = driver.view("explain", job="job")
    assert (said.verdict, said.counts["fits"], said.reasons["good"]) == ("waits for its turn", 1, "fits")


@pytest.mark.parametrize(
    ("need", "reason"),
    [
        (c.Requirements(build="b7"), "needs build b7, the worker has none"),
        (c.Requirements(avoid=("w1",)), "another worker must run it"),
        (c.Requirements(labels=("worker:w2",)), "needs the label worker:w2"),
        (c.Requirements(disk_mb=9_000), "has fewer than 9000 MB of disk"),
        (c.Requirements(vram_mb=500), "has no device with 500 MB of memory"),
    ],
)
def test_no_requirement_is_silent(driver: Driver, need: c.Requirements, reason: str) -> None:
    """Whatever a job asks for that a worker lacks is a reason, and the only one."""
    driver.worker()
    driver.add("job", requires=need)
    assert not hasattr(driver.claim(), "leases")
    assert driver.view("explain", job="job").counts == {reason: 1}


def test_a_device_in_use_is_another_matter(driver: Driver) -> None:
    """It will be free again."""
    driver.worker(devices=(("gpu", 8_000),))
    need = c.Requirements(vram_mb=6_000, device=True)
    driver.add("one", "two", requires=need)
    driver.claim(vram_mb=(8_000,), devices=(0,))
    assert driver.view("explain", job="two").counts == {"needs a device with 6000 MB of memory, which is taken now": 1}


def test_a_halt_is_the_verdict_and_workers_are_judged_all_the_same(driver: Driver) -> None:
    """So that one sees what would be in the way after it."""
    driver.worker(kinds=("selfplay",))
    driver.add("job")
    driver.do(c.Halt("plain", "look first"))
    said = driver.view("explain", job="job")
    assert said.verdict == "claims of plain are halted: look first"
    assert said.counts == {"the worker does not run jobs of kind plain": 1}


def test_jobs_of_one_kind_and_config_that_need_different_things_are_told_apart(driver: Driver) -> None:
    """Also those that differ by something else than CPUs."""
    driver.worker(cpus=2)
    driver.add("a", "b", config="square8_2p")
    driver.add("c", config="square8_2p", requires=c.Requirements(cpus=4))
    driver.add("d", config="square8_2p", requires=c.Requirements(avoid=("w1",)))
    driver.add("e", config="hex8_2p")
    said = driver.view("explain", worker="w1")
    assert {(each.config, each.needs): (each.jobs, each.reason) for each in said.waiting} == {
        ("hex8_2p", "1 CPUs"): (1, "fits"),
        ("square8_2p", "1 CPUs"): (2, "fits"),
        ("square8_2p", "4 CPUs"): (1, "has fewer than 4 CPUs: 2"),
        ("square8_2p", "1 CPUs, not w1"): (1, "another worker must run it"),
    }
    assert said.reasons == {
        "plain hex8_2p": "fits",
        "plain square8_2p (1 CPUs)": "fits",
        "plain square8_2p (4 CPUs)": "has fewer than 4 CPUs: 2",
        "plain square8_2p (1 CPUs, not w1)": "another worker must run it",
    }
    assert said.counts == {"fits": 2, "has fewer than 4 CPUs": 1, "another worker must run it": 1}


def test_what_fits_can_be_claimed_and_what_does_not_cannot(driver: Driver) -> None:
    """The words and the scheduler agree, for every job and worker."""
    needs = [
        c.Requirements(cpus=n, ram_mb=m, labels=labels) for n in (1, 3) for m in (0, 90) for labels in ((), ("x",))
    ]
    for number, (cpus, ram_mb, labels) in enumerate([(1, 10, ()), (4, 10, ("x",)), (4, 100, ("y",)), (8, 100, ("x",))]):
        driver.worker(f"w{number}", cpus=cpus, ram_mb=ram_mb, labels=labels)
        for each, need in enumerate(needs):
            job = f"j{number}-{each}"
            driver.add(job, requires=need)
            fits = driver.view("explain", job=job).reasons[f"w{number}"] == "fits"
            granted = driver.do(c.Claim(f"w{number}", "b1", c.Free(cpus, ram_mb, 8_000)))
            assert hasattr(granted, "leases") == fits, (job, need)
            if fits:
                driver.complete(granted.leases[0], f"w{number}")
            else:
                driver.do(c.Cancel((job,)))


def test_what_waits_is_shown_up_to_a_bound(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many different sorts of jobs wait."""
    monkeypatch.setattr(explaining, "BUCKETS_MAX", 3)
    driver.worker()
    for cpus in range(1, 6):
        driver.add(f"j{cpus}", requires=c.Requirements(cpus=cpus))
    assert [each.needs for each in driver.view("explain", worker="w1").waiting] == ["1 CPUs", "2 CPUs", "3 CPUs"]


def test_one_subject_is_named() -> None:
    """Both or none is refused."""
    for args in ({}, {"job": "a", "worker": "w"}):
        assert isinstance(Driver().machine.query("explain", dict(args)), Refused)
