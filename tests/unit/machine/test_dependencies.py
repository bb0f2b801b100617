"""Jobs that wait for jobs and for data, through holds, retries, archives and restored replicas."""

from __future__ import annotations

from tests.unit.machine.driver import CONFIG, Driver
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine.transitions import State


def settle(driver: Driver) -> list[str]:
    """Run every job that becomes available to its end; return them in order."""
    done = []
    while isinstance(granted := driver.claim(), o.Granted):
        driver.complete(granted.leases[0])
        done.append(granted.leases[0].job)
    return done


def test_a_graph_runs_in_order(driver: Driver) -> None:
    """A diamond: the last runs once, after both of its branches."""
    driver.do(
        c.Enqueue((
            c.JobSpec("top", "plain"),
            c.JobSpec("left", "plain", depends_on=("top",)),
            c.JobSpec("right", "plain", depends_on=("top",), priority=90),
            c.JobSpec("bottom", "plain", depends_on=("left", "right"), priority=100),
        ))
    )  # fmt: skip
    assert settle(driver) == ["top", "right", "left", "bottom"]


def test_cycles_are_refused(driver: Driver) -> None:
    """A job may name jobs that are there or before it in its batch: a circle cannot be said."""
    circle = (c.JobSpec("a", "plain", depends_on=("b",)), c.JobSpec("b", "plain", depends_on=("a",)))
    assert driver.do(c.Enqueue(circle)).code is o.Code.INVALID
    assert driver.add("a", depends_on=("a",)).code is o.Code.INVALID
    assert driver.view("queue").total == 0
    driver.add("a")
    driver.add("b", depends_on=("a",))
    assert driver.add("a", depends_on=("b",)) == o.Enqueued(("a",), ("a",))
    assert driver.job("a").depends_on == ()


def test_a_dependency_in_the_past(driver: Driver) -> None:
    """Completed: at once. Failed: the new job fails, and so does what is enqueued behind it. Archived: refused."""
    driver.add("good", "bad")
    driver.do(c.Cancel(("bad",)))
    settle(driver)
    driver.add("after good", depends_on=("good",))
    driver.add("after bad", depends_on=("bad",))
    driver.add("after that", depends_on=("after bad",))
    states = [driver.state(name) for name in ("after good", "after bad", "after that")]
    assert states == [State.AVAILABLE, State.FAILED, State.FAILED]
    assert driver.job("after bad").reason == "a job that it depends on did not complete"
    assert driver.job("after bad").ended_ms == driver.now_ms
    settle(driver)
    assert driver.do(c.Archive(("good",))) == o.Changed(("good",))
    assert driver.add("late", depends_on=("good",)).code is o.Code.INVALID


def test_a_long_chain_fails_whole(driver: Driver) -> None:
    """A failure travels down any number of jobs."""
    driver.checked = False
    count = 3000
    specs = [c.JobSpec(f"j{k}", "plain", depends_on=(f"j{k - 1}",) if k else ()) for k in range(count)]
    driver.do(c.Enqueue(tuple(specs)))
    driver.do(c.Cancel(("j0",)))
    assert driver.view("queue", state="failed").total == count - 1
    driver.checked = True
    driver.tick()


def test_a_job_and_what_depends_on_it_are_cancelled_at_once(driver: Driver) -> None:
    """In one command, in any order; what depends on them and was not named fails."""
    for names in (("a", "b"), ("d", "c")):
        first, second = sorted(names)
        driver.add(first)
        driver.add(second, depends_on=(first,))
        driver.add(f"after {second}", depends_on=(second,))
        assert driver.do(c.Cancel(names, "not needed")) == o.Changed(names)
        assert [driver.state(name) for name in names] == [State.CANCELLED, State.CANCELLED]
        assert driver.state(f"after {second}") is State.FAILED


def test_a_held_job_learns_of_a_failure_when_it_is_let_go(driver: Driver) -> None:
    """And what waits for it learns it too, on a restored replica as on the first."""
    driver.add("a")
    driver.add("b", depends_on=("a",))
    driver.add("c", depends_on=("b",))
    driver.tick()
    driver.do(c.Hold(("b",)))
    driver.do(c.Cancel(("a",)))
    assert [driver.state(name) for name in "abc"] == [State.CANCELLED, State.HELD, State.SCHEDULED]
    driver.do(c.Unhold(("b",)))
    twin = driver.restored()
    for each in (driver, twin):
        each.tick(1000)
        assert [each.state(name) for name in "bc"] == [State.FAILED, State.FAILED]
    assert driver.picture() == twin.picture()


def test_a_retry_without_its_dependency_fails_again(driver: Driver) -> None:
    """First what it depends on, then itself; both may be retried at once."""
    driver.add("a")
    driver.add("b", depends_on=("a",))
    driver.do(c.Cancel(("a",)))
    events = driver.machine.last_seq
    driver.do(c.Retry(("b",)))
    assert driver.state("b") is State.FAILED
    assert "job.failed" in [event.name for event in driver.machine.events_since(events)]
    driver.do(c.Retry(("a", "b")))
    assert settle(driver) == ["a", "b"]


def test_what_a_live_job_depends_on_is_not_archived(driver: Driver) -> None:
    """An ended job stays as long as a job waits for others beside it."""
    driver.add("a", "b")
    driver.add("c", depends_on=("a", "b"))
    driver.complete(driver.lease())
    assert driver.do(c.Archive(("a",))) == o.Changed()
    for each in (driver, driver.restored()):
        assert settle(each) == ["b", "c"]
    assert driver.do(c.Archive(("a", "b", "c"))) == o.Changed(("a", "b", "c"))


def test_time_data_and_jobs_together(driver: Driver) -> None:
    """Whatever comes last lets the job go."""
    driver.add("a")
    need = {"depends_on": ("a",), "conditions": (c.Condition("shard", CONFIG, 2),), "run_at_ms": driver.now_ms + 1000}
    driver.add("late time", **need)
    settle(driver)
    driver.store("s1", "s2")
    driver.tick(500)
    assert driver.state("late time") is State.SCHEDULED
    assert driver.view("explain", job="late time").verdict == "scheduled in 500 ms"
    driver.tick(500)
    assert driver.state("late time") is State.AVAILABLE
    driver.add("late data", conditions=(c.Condition("weights", CONFIG, 1), c.Condition("shard", CONFIG, 1)))
    assert driver.view("explain", job="late data").verdict == "waits for 1 weights"
    driver.store("m", kind="weights")
    driver.tick()
    assert driver.state("late data") is State.AVAILABLE


def test_data_of_another_config_or_kind_does_not_count(driver: Driver) -> None:
    """A condition names both."""
    driver.add("a", conditions=(c.Condition("shard", CONFIG, 1),))
    driver.store("s1", config="hex8_2p")
    driver.store("s2", kind="games")
    driver.tick()
    assert driver.state("a") is State.SCHEDULED


def test_a_dependency_may_fail_and_be_retried_before_its_dependent_is_due(driver: Driver) -> None:
    """What counts is how it is when the time has come; nobody is forgotten, on any replica."""
    for name, ends in (("good", "complete"), ("bad", "fail")):
        driver.add(name, retry=c.RetryPolicy(1))
        driver.add(f"after {name}", depends_on=(name,), run_at_ms=driver.now_ms + 1_000)
        driver.do(c.Fail("w1", name, driver.lease().attempt, "x"))
        driver.do(c.Retry((name,)))
        lease = driver.lease()
        driver.tick(1_000)
        assert driver.state(f"after {name}") is State.SCHEDULED
        twin = driver.restored()
        for each in (driver, twin):
            each.complete(lease) if ends == "complete" else each.do(c.Fail("w1", name, lease.attempt, "x"))
            each.tick(1_000)
            wanted = State.AVAILABLE if ends == "complete" else State.FAILED
            assert each.state(f"after {name}") is wanted
        assert driver.picture() == twin.picture()
        driver.do(c.Cancel((f"after {name}",)))


def test_an_id_is_not_given_again_while_a_job_names_it(driver: Driver) -> None:
    """A namesake cannot take the place of what a job waited for: no circle can be made that way."""
    driver.add("a", "b")
    driver.add("c", depends_on=("a", "b"))
    driver.complete(driver.lease())
    for command in (c.Tick(), c.Hold(("c",)), c.Unhold(("c",))):
        driver.do(command)
        assert driver.do(c.Archive(("a",))) == o.Changed()
    driver.do(c.Cancel(("c",)))
    assert driver.do(c.Archive(("a",))) == o.Changed(("a",))
    for each in (driver, driver.restored()):
        refused = each.add("a", depends_on=("c",))
        assert (refused.code, "choose another id" in refused.message) == (o.Code.INVALID, True)
        assert each.do(c.Archive(("c",))) == o.Changed(("c",))
        assert each.add("a") == o.Enqueued(("a",))
