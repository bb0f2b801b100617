"""Leases, attempts and back-off in time; a restored replica does the same at the same moment."""

from __future__ import annotations

import pytest

from tests.unit.machine.driver import Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine.transitions import State


def renew(driver: Driver, lease: o.Lease) -> None:
    driver.do(c.Renew("w1", "b1", (c.LeaseRenewal(lease.job, lease.attempt),)))


def test_an_attempt_ends_at_its_limit_and_not_a_lease_later(driver: Driver) -> None:
    """The total time counts also while the lease is longer."""
    driver.add("a", lease_ms=30_000, total_ms_max=5_000, retry=c.RetryPolicy(1))
    driver.lease()
    assert driver.machine.next_due_ms == driver.now_ms + 5_000
    driver.tick(4_999)
    assert driver.state("a") is State.RUNNING
    driver.tick(1)
    assert driver.state("a") is State.FAILED
    assert driver.job("a").causes[0].cause == "attempt.timed_out"


def test_a_restored_replica_ends_an_attempt_at_the_same_moment(driver: Driver) -> None:
    """Renewals moved the lease past the attempt's limit before the snapshot was written."""
    driver.add("a", lease_ms=10_000, total_ms_max=25_000, retry=c.RetryPolicy(1))
    lease = driver.lease()
    for _ in range(2):
        driver.now_ms += 9_000
        renew(driver, lease)
    driver.tick(500)
    twin = driver.restored()
    for each in (driver, twin):
        each.tick(6_500)
        assert each.state("a") is State.FAILED
    assert driver.picture() == twin.picture()


def test_back_off_doubles_up_to_its_limit(driver: Driver) -> None:
    """1, 2, 4, 4 seconds, then no more; until then nobody is given the job."""
    driver.add("a", retry=c.RetryPolicy(5, 1_000, 4_000))
    waits = []
    for _ in range(4):
        lease = driver.lease()
        driver.do(c.Fail("w1", "a", lease.attempt, "engine.crashed"))
        assert driver.state("a") is State.RETRYABLE
        waits.append(driver.machine.next_due_ms - driver.now_ms)
        driver.tick(waits[-1] - 1)
        assert isinstance(driver.claim(), o.Empty)
        driver.tick(1)
    assert waits == [1_000, 2_000, 4_000, 4_000]
    driver.do(c.Fail("w1", "a", driver.lease().attempt, "engine.crashed", message="for good"))
    assert (driver.state("a"), driver.job("a").reason) == (State.FAILED, "engine.crashed: for good")
    assert [cause.attempt for cause in driver.job("a").causes] == [1, 2, 3, 4, 5]


def test_other_faults_cost_no_time(driver: Driver) -> None:
    """A fault that is not the job's makes it available at once, its attempts untouched."""
    driver.add("a", retry=c.RetryPolicy(1, 5_000, 5_000))
    for fault in (c.Fault.INFRASTRUCTURE, c.Fault.NODE):
        lease = driver.lease()
        assert driver.do(c.Fail("w1", "a", lease.attempt, "voter.lost", fault)) == o.Settled("a", "available")
    assert (driver.job("a").payload_faults, driver.job("a").other_faults) == (0, 2)


def test_retry_by_hand_gives_fresh_attempts(driver: Driver) -> None:
    """The attempt goes on counting, because it is the fence; faults begin at nothing.."""
    driver.add("a", retry=c.RetryPolicy(1))
    assert driver.do(c.Retry(("a",))).code is o.Code.TRANSITION
    first = driver.lease()
    driver.do(c.Fail("w1", "a", 1, "x"))
    assert driver.do(c.Retry(("a",), "try again")) == o.Changed(("a",))
    assert (driver.job("a").payload_faults, driver.job("a").reason, driver.job("a").ended_ms) == (0, "", 0)
    second = driver.lease()
    assert second.attempt == 2
    assert driver.complete(first).code is o.Code.STALE_ATTEMPT
    assert driver.complete(second).state == "completed"
    assert driver.do(c.Retry(("a",))).code is o.Code.TRANSITION
    assert driver.do(c.Retry(("nobody",))).code is o.Code.NOT_FOUND


def test_a_retry_does_not_take_a_unique_key_away(driver: Driver) -> None:
    """While another live job has the key the retry is refused, and so are two of one key at once."""
    for name in ("a", "b", "c"):
        driver.add(name, unique="k")
        if name != "c":
            driver.do(c.Cancel((name,)))
    assert driver.do(c.Retry(("a",))).code is o.Code.DUPLICATE
    driver.do(c.Cancel(("c",)))
    assert driver.do(c.Retry(("a", "b"))).code is o.Code.DUPLICATE
    assert driver.do(c.Retry(("b",))) == o.Changed(("b",))


def test_a_cancelled_attempt_ends_with_its_lease(driver: Driver) -> None:
    """A worker that is gone does not keep a job from being cancelled; failing ends it too."""
    driver.add("a", "b", lease_ms=1_000)
    driver.claim(limit=2)
    driver.do(c.Cancel(("a", "b"), "not needed"))
    driver.do(c.Fail("w1", "b", 1, "stopped"))
    driver.tick(1_000)
    assert [driver.state(name) for name in "ab"] == [State.CANCELLED, State.CANCELLED]
    assert driver.job("a").reason == "not needed"


def test_a_job_that_was_cancelled_and_held_is_not_cancelled_later(driver: Driver) -> None:
    """Retry after a cancel starts afresh: the new attempt is not told to stop."""
    driver.add("a")
    driver.lease()
    driver.do(c.Cancel(("a",), "not needed"))
    driver.do(c.Release("w1", "a", 1))
    driver.do(c.Retry(("a",)))
    lease = driver.lease()
    [state] = driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("a", lease.attempt),))).leases
    assert state.state == "ok"


@pytest.mark.parametrize("command", [c.Fail("w2", "a", 1, "x"), c.Release("w2", "a", 1)])
def test_another_worker_cannot_end_an_attempt(driver: Driver, command: c.Command) -> None:
    """Knowing the attempt is not enough."""
    driver.add("a")
    driver.lease()
    driver.worker("w2")
    assert driver.do(command).code is o.Code.STALE_ATTEMPT
    assert driver.state("a") is State.RUNNING


def test_progress_and_cursor_survive_a_death(driver: Driver) -> None:
    """The next attempt resumes at the last cursor; its progress begins anew; a failure may leave a cursor too."""
    driver.add("a", lease_ms=1_000)
    driver.lease()
    note = c.LeaseRenewal("a", 1, progress=raw({"games": 5}), cursor=raw({"next": 6}))
    driver.do(c.Renew("w1", "b1", (note,)))
    assert driver.job("a").progress == {"games": 5}
    driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("a", 1),)))
    assert driver.job("a").cursor == {"next": 6}
    driver.tick(1_000)
    lease = driver.restored().lease()
    assert bytes(lease.cursor) == bytes(raw({"next": 6}))
    second = driver.lease()
    assert driver.job("a").progress is None
    driver.do(c.Fail("w1", "a", second.attempt, "voter.lost", c.Fault.INFRASTRUCTURE, cursor=raw({"next": 9})))
    assert driver.job("a").cursor == {"next": 9}


def test_a_full_queue_says_when_to_try_again(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the batch enters; ended jobs do not count."""
    monkeypatch.setattr("workqueue.machine.jobs.QUEUE_MAX", 3)
    driver.add("a", "b")
    full = driver.add("c", "d")
    assert (full.code, full.retry_ms) == (o.Code.QUEUE_FULL, 5_000)
    assert driver.view("queue").total == 2
    driver.complete(driver.lease())
    assert driver.add("c", "d") == o.Enqueued(("c", "d"))


def test_payloads_are_bounded_in_sum(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue of few jobs with large payloads is full as well; a job that ends gives its bytes back."""
    payload = raw({"data": "x" * 400})
    monkeypatch.setattr("workqueue.machine.jobs.QUEUE_BYTES_MAX", 2 * len(payload))
    assert driver.add("a", "b", payload=payload) == o.Enqueued(("a", "b"))
    full = driver.add("c", payload=payload)
    assert (full.code, full.retry_ms) == (o.Code.QUEUE_FULL, 5_000)
    assert "store large data as artifacts" in full.message
    driver.complete(driver.lease())
    again = driver.restored()
    assert again.add("c", payload=payload) == o.Enqueued(("c",))
    assert again.add("d", payload=payload).code == o.Code.QUEUE_FULL


def test_time_never_goes_back_and_never_leaps(driver: Driver) -> None:
    """A leader whose clock is behind, or absurd, does not disturb leases."""
    driver.add("a", lease_ms=1_000)
    driver.lease()
    driver.now_ms -= 500_000
    driver.tick()
    assert driver.view("status").now_ms == 1_000_000
    driver.now_ms = 1 << 62
    driver.tick()
    assert driver.view("status").now_ms == 1_000_000
    assert driver.state("a") is State.RUNNING


def test_a_restored_replica_tells_the_same_story(driver: Driver) -> None:
    """Events have the same numbers on every replica, also where one still remembers a lease as it was once."""
    driver.add("a", lease_ms=1_000)
    driver.add("b", lease_ms=1_000, priority=100)
    renewed = driver.lease()
    driver.now_ms += 100
    driver.lease()
    driver.now_ms += 400
    renew(driver, renewed)
    twin = driver.restored()
    for each in (driver, twin):
        each.tick(5_000)
        expired = [event.subject for event in each.machine.events_since(0) if event.name == "lease.expired"]
        assert expired == ["a", "b"]
    assert driver.picture() == twin.picture()


@pytest.mark.parametrize("back", ["retry", "unhold"])
def test_a_job_that_an_operator_brings_back_waits_anew(driver: Driver, back: str) -> None:
    """What expired, or was held for longer than it may wait, does not expire the moment it returns."""
    driver.add("a", wait_ms_max=1_000)
    if back == "unhold":
        driver.do(c.Hold(("a",)))
    driver.tick(1_000)
    assert driver.state("a") is (State.HELD if back == "unhold" else State.FAILED)
    driver.tick(5_000)
    driver.do(c.Unhold(("a",)) if back == "unhold" else c.Retry(("a",)))
    twin = driver.restored()
    for each in (driver, twin):
        each.tick(999)
        assert each.state("a") is State.AVAILABLE
        each.tick(1)
        assert each.state("a") is State.FAILED
    assert driver.picture() == twin.picture()
