"""The life of a job, fenced by its attempt."""

from __future__ import annotations

import msgspec
import pytest

from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine.transitions import State


def test_a_job_lives_from_enqueue_to_completion(driver: Driver) -> None:
    """Enqueued, granted, completed."""
    assert driver.add("a") == o.Enqueued(("a",))
    lease = driver.lease()
    assert (lease.job, lease.attempt) == ("a", 1)
    assert driver.complete(lease) == o.Settled("a", "completed")
    assert isinstance(driver.claim(), o.Empty)


def test_a_repeated_request_gets_the_first_answer(driver: Driver) -> None:
    """Exactly once, also for the same claim sent twice and after a snapshot."""
    driver.add("a", "b")
    claim = c.Claim("w1", "b1", c.Free(8, 8000, 8000))
    first = driver.do(claim, key=("client", 7))
    assert driver.do(claim, key=("client", 7)) == first
    driver.machine.restore(list(driver.machine.snapshot()))
    assert msgspec.msgpack.encode(driver.do(claim, key=("client", 7))) == msgspec.msgpack.encode(first)
    assert driver.state("b") is State.AVAILABLE


def test_a_stale_attempt_changes_nothing(driver: Driver) -> None:
    """After the lease expired and the job was granted again the first holder is refused everywhere."""
    driver.add("a", lease_ms=1000)
    stale = driver.lease()
    driver.now_ms += 1001
    driver.do(c.Tick())
    fresh = driver.lease()
    assert fresh.attempt == 2
    refused = driver.complete(stale)
    assert isinstance(refused, o.Refused)
    assert refused.code is o.Code.STALE_ATTEMPT
    assert driver.do(c.Fail("w1", "a", 1, "x")).code is o.Code.STALE_ATTEMPT
    assert driver.do(c.Release("w1", "a", 1)).code is o.Code.STALE_ATTEMPT
    [state] = driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("a", 1),))).leases
    assert state.state == "lost"
    assert driver.complete(fresh).state == "completed"
    assert driver.complete(fresh).state == "completed"  # once more: the same answer
    assert driver.complete(stale).code is o.Code.STALE_ATTEMPT


def test_another_worker_cannot_complete_a_lease(driver: Driver) -> None:
    """The attempt is fenced by its holder too."""
    driver.add("a")
    lease = driver.lease()
    driver.worker("w2")
    assert driver.complete(lease, worker="w2").code is o.Code.STALE_ATTEMPT


def test_renewal_keeps_a_lease(driver: Driver) -> None:
    """A job whose holder renews does not expire, and keeps progress and cursor."""
    driver.add("a", lease_ms=1000)
    lease = driver.lease()
    for step in range(5):
        driver.now_ms += 900
        renewed = driver.do(
            c.Renew("w1", "b1", (c.LeaseRenewal("a", lease.attempt, raw({"step": step}), raw([step])),))
        )
        assert renewed.leases[0].state == "ok"
        driver.do(c.Tick())
    assert driver.state("a") is State.RUNNING
    driver.do(c.Release("w1", "a", lease.attempt))
    assert bytes(driver.lease().cursor) == bytes(raw([4]))


@pytest.mark.parametrize(("fault", "burns"), [(c.Fault.PAYLOAD, True), (c.Fault.NODE, False)])
def test_only_payload_faults_burn_attempts(driver: Driver, fault: c.Fault, burns: bool) -> None:
    """After max_attempts payload faults the job is failed, with its causes; node faults go on."""
    driver.add("a", retry=c.RetryPolicy(2, 10, 100))
    for _ in range(2):
        driver.now_ms += 1000
        driver.do(c.Tick())
        lease = driver.lease()
        driver.do(c.Fail("w1", "a", lease.attempt, "engine.crashed", fault, "boom", "tail"))
    job = driver.machine.ledger.jobs["a"]
    assert (job.state is State.FAILED) == burns
    assert [cause.cause for cause in job.causes] == ["engine.crashed"] * 2
    if burns:
        assert driver.do(c.Retry(("a",))) == o.Changed(("a",))
        assert driver.lease().attempt == 3


def test_a_job_that_kills_every_node_ends(driver: Driver) -> None:
    """Infrastructure faults have a limit of their own."""
    driver.add("a", lease_ms=1000)
    for _ in range(40):
        if driver.state("a") is State.FAILED:
            break
        driver.lease()
        driver.now_ms += 2000
        driver.do(c.Tick())
    assert driver.state("a") is State.FAILED
    assert "lease.expired" in driver.machine.ledger.jobs["a"].reason


def test_node_faults_in_a_row_quarantine_the_worker(driver: Driver) -> None:
    """A broken machine takes no more jobs until somebody lifts it."""
    driver.add("a")
    for _ in range(5):
        lease = driver.lease()
        driver.do(c.Fail("w1", "a", lease.attempt, "runner.out_of_memory", c.Fault.NODE))
    assert driver.claim().code is o.Code.QUARANTINED
    driver.do(c.QuarantineWorker("w1", on=False))
    assert driver.lease().job == "a"


def test_cancel_reaches_a_running_job(driver: Driver) -> None:
    """The worker learns it at its next renewal; the job ends when the worker gives it back."""
    driver.add("a", "b")
    lease = driver.lease()
    driver.do(c.Cancel(("a", "b"), "not needed"))
    assert driver.state("b") is State.CANCELLED
    [state] = driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("a", lease.attempt),))).leases
    assert (state.state, state.reason) == ("cancel", "not needed")
    driver.do(c.Release("w1", "a", lease.attempt))
    assert driver.state("a") is State.CANCELLED
    refused = driver.do(c.Cancel(("a",)))
    assert refused.code is o.Code.TRANSITION


def test_hold_and_unhold(driver: Driver) -> None:
    """A held job is not claimed; holding a running one takes its lease away."""
    driver.add("a")
    lease = driver.lease()
    driver.do(c.Hold(("a",), "look first"))
    assert isinstance(driver.claim(), o.Empty)
    assert driver.complete(lease).code is o.Code.STALE_ATTEMPT
    driver.do(c.Unhold(("a",)))
    assert driver.lease().attempt == 2


def test_dependencies_and_their_failure(driver: Driver) -> None:
    """A job waits for those it depends on, and fails when one of them does."""
    driver.add("a", "b")
    driver.add("c", depends_on=("a",))
    driver.add("d", depends_on=("b",))
    driver.add("e", depends_on=("d",))
    assert driver.state("c") is State.SCHEDULED
    driver.complete(driver.lease())
    assert driver.state("c") is State.AVAILABLE
    driver.do(c.Cancel(("b",)))
    assert driver.state("d") is State.FAILED
    assert driver.state("e") is State.FAILED


def test_conditions_on_data(driver: Driver) -> None:
    """A job with a condition becomes available when enough artifacts are registered."""
    driver.add("a", conditions=(c.Condition("shard", CONFIG, 2),))
    driver.store("s1")
    driver.do(c.Tick())
    assert driver.state("a") is State.SCHEDULED
    driver.store("s2")
    driver.do(c.Tick())
    assert driver.state("a") is State.AVAILABLE


def test_schedule_and_queue_wait(driver: Driver) -> None:
    """Not before its time; failed with its reason when nobody came."""
    driver.add("a", run_at_ms=driver.now_ms + 500, wait_ms_max=1000)
    assert isinstance(driver.claim(), o.Empty)
    driver.now_ms += 600
    driver.do(c.Tick())
    assert driver.state("a") is State.AVAILABLE
    driver.now_ms += 600
    driver.do(c.Tick())
    assert driver.state("a") is State.FAILED
    assert "waited longer" in driver.machine.ledger.jobs["a"].reason


def test_total_time_of_an_attempt(driver: Driver) -> None:
    """Renewals do not help beyond it."""
    driver.add("a", lease_ms=1000, total_ms_max=1500, retry=c.RetryPolicy(1))
    lease = driver.lease()
    for _ in range(2):
        driver.now_ms += 800
        driver.do(c.Renew("w1", "b1", (c.LeaseRenewal("a", lease.attempt),)))
        driver.do(c.Tick())
    assert driver.state("a") is State.FAILED


def test_groups_limit_what_runs_at_once(driver: Driver) -> None:
    """The third of a group of two waits until one ends."""
    driver.add("a", "b", "c", group="g", group_limit=2)
    assert len(driver.claim(limit=3).leases) == 2
    assert isinstance(driver.claim(), o.Empty)
    driver.do(c.Release("w1", "a", 1))
    assert driver.lease().job in {"a", "c"}


def test_unique_keys(driver: Driver) -> None:
    """At most one live job has a key; afterwards it is free again."""
    driver.add("a", unique="k")
    refused = driver.add("b", unique="k")
    assert (refused.code, refused.current) == (o.Code.DUPLICATE, "a")
    driver.complete(driver.lease())
    assert driver.add("b", unique="k") == o.Enqueued(("b",))


@pytest.mark.parametrize(
    "fields",
    [
        {"priority": 101},
        {"lease_ms": 1},
        {"requires": c.Requirements(cpus=-1)},
        {"retry": c.RetryPolicy(0)},
        {"depends_on": ("nobody",)},
        {"kind": "selfplay", "payload": raw({"board": "square8"})},
        {"kind": "no-such-kind"},
        {"group_limit": 0},
        {"wait_ms_max": -1},
    ],
)
def test_bad_jobs_are_refused_whole(driver: Driver, fields: dict[str, object]) -> None:
    """Nothing of a batch enters when one of it is bad; the sentence says what to do."""
    good = c.JobSpec("good", "plain")
    bad = c.JobSpec("bad", **{"kind": "plain", **fields})  # type: ignore[arg-type]
    refused = driver.do(c.Enqueue((good, bad)))
    assert isinstance(refused, o.Refused)
    assert refused.message
    assert "good" not in driver.machine.ledger.jobs


def test_a_new_leader_gives_every_lease_another_term(driver: Driver) -> None:
    """While nobody led nobody could renew."""
    driver.add("a", lease_ms=1000)
    driver.lease()
    driver.now_ms += 5000
    driver.do(c.BeginTerm(3))
    driver.do(c.Tick())
    assert driver.state("a") is State.RUNNING
    driver.now_ms += 1001
    driver.do(c.Tick())
    assert driver.state("a") is not State.RUNNING


def test_the_end_of_a_boot_ends_its_leases_and_no_others(driver: Driver) -> None:
    """A late word about an old boot does not touch the new one."""
    driver.add("a", "b")
    driver.claim(limit=2)
    assert driver.do(c.EndBoot("w1", "other", "dead")) == o.Changed()
    assert driver.do(c.EndBoot("w1", "b1", "dead")).ids == ("a", "b")
    driver.worker("w1", "b2")
    assert driver.claim().code is o.Code.NOT_FOUND
    assert driver.lease("w1", "b2").attempt == 2


def test_two_live_boots_of_one_name(driver: Driver) -> None:
    """The second is told to choose another name; after silence it may take over."""
    capability = c.Capability(1, 1, 1)
    refused = driver.do(c.RegisterWorker("w1", "b2", capability))
    assert (refused.code, refused.retry_ms > 0) == (o.Code.EXISTS, True)
    driver.now_ms += 16_000
    assert isinstance(driver.do(c.RegisterWorker("w1", "b2", capability)), o.Registered)


def test_locks_are_exclusive_and_fenced(driver: Driver) -> None:
    """One holder, a rising token, expiry by time, breaking by hand."""
    first = driver.do(c.Acquire("train/square8_2p", "me", 1000))
    busy = driver.do(c.Acquire("train/square8_2p", "you", 1000))
    assert (busy.code, busy.current) == (o.Code.BUSY, "me")
    driver.now_ms += 1001
    driver.do(c.Tick())
    second = driver.do(c.Acquire("train/square8_2p", "you", 1000))
    assert second.token > first.token
    assert driver.do(c.RenewLock("train/square8_2p", first.token, 1000)).code is o.Code.STALE_TOKEN
    assert driver.do(c.Unlock("train/square8_2p", first.token)).code is o.Code.STALE_TOKEN
    assert driver.do(c.BreakLock("train/square8_2p", "stuck")) == o.Changed(("train/square8_2p",))
    assert isinstance(driver.do(c.Acquire("train/square8_2p", "x", 1000)), o.Locked)


def test_archive_forgets_ended_jobs_only(driver: Driver) -> None:
    """Live jobs stay."""
    driver.add("a", "b")
    driver.complete(driver.lease())
    assert driver.do(c.Archive(("a", "b", "nobody"))) == o.Changed(("a",))


def test_what_a_job_remembers_of_its_attempts_is_bounded(driver: Driver) -> None:
    """The last ten, with the beginning of what was said and the end of the log."""
    driver.add("a", retry=c.RetryPolicy(max_attempts=50, backoff_ms=1))
    for attempt in range(1, 14):
        lease = driver.lease()
        assert lease.attempt == attempt
        driver.do(c.Fail("w1", "a", attempt, "x", message="m" * 3000, log_tail="l" * 5000 + str(attempt)))
        driver.tick(60_000)
    causes = driver.job("a").causes
    assert [cause.attempt for cause in causes] == list(range(4, 14))
    assert [(len(cause.message), len(cause.log_tail), cause.log_tail[-2:]) for cause in causes[-1:]] == [
        (2000, 4000, "13")
    ]


def test_renewals_and_ticks_take_no_place_among_the_remembered_answers(driver: Driver) -> None:
    """There are so many of them that they would push out the answers that are still asked for."""
    driver.add("a")
    lease = driver.lease()
    before = len(driver.machine._answers)
    renewed = driver.do(c.Renew("w1", "b1", (c.LeaseRenewal(lease.job, lease.attempt),)))
    driver.tick(10)
    assert isinstance(renewed, o.Renewed)
    assert len(driver.machine._answers) == before
