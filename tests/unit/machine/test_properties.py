"""Properties of the whole machine: random commands, restored replicas, hostile entries, mutants that are caught."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from driver import KINDS, Driver, raw
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from workqueue.machine import commands as c
from workqueue.machine import invariants, leases, scheduling
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Completed, Granted, Settled
from workqueue.machine.transitions import ENDED, State, diagram

NAMES = st.sampled_from([f"job{k}" for k in range(12)])
WORKERS = st.sampled_from(["w1", "w2", "w3"])


class Queue(RuleBasedStateMachine):
    """Random life of a queue, watched by a model of who may do what."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.driver.kind()
        for name in ("w1", "w2", "w3"):
            self.driver.worker(name)
        self.leases: list[tuple[str, str, int]] = []  # worker, job, attempt ever granted
        self.done: dict[str, int] = {}  # completions that were accepted

    @rule(name=NAMES, priority=st.integers(0, 100), group=st.sampled_from(["", "g"]), after=st.sets(NAMES, max_size=2))
    def enqueue(self, name: str, priority: int, group: str, after: set[str]) -> None:
        """Add a job; a known id changes nothing."""
        known = tuple(sorted(dep for dep in after if dep in self.driver.machine.ledger.jobs and dep != name))
        fields = {"priority": priority, "group": group, "group_limit": 2, "lease_ms": 1000, "depends_on": known}
        self.driver.add(name, **fields)

    @rule(worker=WORKERS, limit=st.integers(1, 3), cpus=st.integers(0, 3))
    def claim(self, worker: str, limit: int, cpus: int) -> None:
        """Whoever is granted an attempt is the only one who ever was."""
        outcome = self.driver.claim(worker, limit=limit, cpus=cpus)
        if isinstance(outcome, Granted):
            assert len(outcome.leases) <= cpus, "more was granted than fits"
            for lease in outcome.leases:
                assert all((lease.job, lease.attempt) != other[1:] for other in self.leases), "an attempt twice"
                self.leases.append((worker, lease.job, lease.attempt))

    @rule(pick=st.integers(0, 1000))
    def complete(self, pick: int) -> None:
        """Any lease ever granted may be reported; only the current one counts, and a job counts once."""
        if not self.leases:
            return
        worker, job, attempt = self.leases[pick % len(self.leases)]
        before = self.driver.machine.ledger.jobs[job]
        current = before.state is State.RUNNING and before.attempt == attempt and before.worker == worker
        again = before.state is State.COMPLETED and before.attempt == attempt
        outcome = self.driver.do(c.Complete(worker, (c.Completion(job, attempt),)))
        assert isinstance(outcome, Completed)
        assert isinstance(outcome.settled[0], Settled) == (current or again)
        if current:
            assert job not in self.done, "a job was completed twice"
            self.done[job] = attempt

    @rule(pick=st.integers(0, 1000), fault=st.sampled_from(list(c.Fault)))
    def fail(self, pick: int, fault: c.Fault) -> None:
        """Failures are fenced as completions are."""
        if self.leases:
            worker, job, attempt = self.leases[pick % len(self.leases)]
            self.driver.do(c.Fail(worker, job, attempt, "x", fault))

    @rule(pick=st.integers(0, 1000))
    def renew_or_release(self, pick: int) -> None:
        """Renewals and releases too."""
        if self.leases:
            worker, job, attempt = self.leases[pick % len(self.leases)]
            if pick % 2:
                self.driver.do(c.Renew(worker, "b1", (c.LeaseRenewal(job, attempt),)))
            else:
                self.driver.do(c.Release(worker, job, attempt))

    @rule(name=NAMES, what=st.sampled_from([c.Cancel, c.Hold, c.Unhold, c.Retry]))
    def operate(self, name: str, what: Any) -> None:
        """An operator interferes."""
        self.driver.do(what((name,), "because"))

    @rule(ms=st.integers(0, 3000))
    def wait(self, ms: int) -> None:
        """Time passes; a lease that was not renewed is over."""
        self.driver.now_ms += ms
        self.driver.do(c.Tick())
        for job in self.driver.machine.ledger.jobs.values():
            if job.state is State.RUNNING:
                assert job.lease_until_ms > self.driver.now_ms, "a lease outlived its time"

    @rule(worker=WORKERS)
    def die(self, worker: str) -> None:
        """A worker's boot ends and another begins under the same name."""
        self.driver.do(c.EndBoot(worker, "b1", "dead"))
        self.driver.worker(worker)

    @rule()
    def restore(self) -> None:
        """A replica that loads a snapshot goes on exactly as the one that wrote it."""
        chunks = list(self.driver.machine.snapshot())
        machine = Machine()
        machine.restore(chunks)
        assert list(machine.snapshot()) == chunks
        assert machine.digest() == self.driver.machine.digest()
        self.driver.machine = machine

    @invariant()
    def nothing_is_lost(self) -> None:
        """What was completed stays completed."""
        for job in self.done:
            assert self.driver.machine.ledger.jobs[job].state is State.COMPLETED


STEPS = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)


def test_any_order_of_commands_keeps_the_invariants() -> None:
    """Jobs are neither lost nor doubled, leases are fenced, indexes agree, restored replicas go on alike."""
    run_state_machine_as_test(Queue, settings=STEPS)


def _no_fence(ledger: Any, name: str, *_: Any) -> Any:
    return ledger.jobs[name]


def _never_expires(_ledger: Any, _job: Any) -> bool:
    return False


def _grants_everything(*_: Any) -> str:
    return ""


@pytest.mark.parametrize(
    ("module", "name", "mutant"),
    [
        (leases, "_held", _no_fence),
        (leases, "_look_at_lease", _never_expires),
        (leases, "misfit", _grants_everything),
    ],
)
def test_mutants_are_caught(module: Any, name: str, mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the fence, the expiry or the fit, the test above fails."""
    monkeypatch.setattr(module, name, mutant)
    with pytest.raises(Exception):  # noqa: B017, PT011  any failed check will do
        run_state_machine_as_test(Queue, settings=STEPS)


def test_a_machine_that_forgets_requests_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without remembered answers a repeated claim takes another job."""
    from test_jobs import test_a_repeated_request_gets_the_first_answer as promise

    monkeypatch.setattr("workqueue.machine.machine.ANSWERS_MAX", 0)
    driver = Driver()
    driver.kind()
    driver.worker()
    with pytest.raises(AssertionError):
        promise(driver)


# ---- shares and waiting


def test_claims_follow_the_shares() -> None:
    """With everything waiting, 60/30/10 less the evaluation share; off by one would show."""
    driver = Driver(checked=False)
    for kind in ("a", "b"):
        driver.kind(kind, share={"a": 600, "b": 300}[kind])
    driver.worker("w", kinds=("a", "b"))
    driver.add(*(f"a{k}" for k in range(300)), kind="a")
    driver.add(*(f"b{k}" for k in range(300)), kind="b")
    granted = [lease.kind for _ in range(270) for lease in driver.claim("w").leases]
    assert abs(granted.count("a") - 180) <= 2
    assert abs(granted[:30].count("a") - 20) <= 2


def test_an_evaluation_is_not_starved() -> None:
    """Among thousands of other jobs of higher priority a reserved one is claimed within its share."""
    driver = Driver(checked=False)
    driver.kind()
    driver.worker()
    driver.add(*(f"a{k}" for k in range(500)), priority=100)
    driver.add("evaluation", reserved=True, priority=0)
    order = [driver.lease().job for _ in range(30)]
    assert "evaluation" in order


def test_no_job_waits_for_ever() -> None:
    """A job of the lowest priority is overtaken for ten minutes at most, whatever keeps coming."""
    driver = Driver(checked=False)
    driver.kind()
    driver.worker()
    driver.add("old", priority=0)
    bound_ms = 100 * scheduling.AGE_MS
    for k in range(200):
        driver.now_ms += bound_ms // 100
        driver.add(f"new{k}", priority=100)
        if driver.lease().job == "old":
            break
    assert driver.now_ms - 1_000_000 <= bound_ms + bound_ms // 50


# ---- hostile entries


def mutated(entry: bytes, rng: random.Random) -> bytes:
    """Return an entry with bytes changed, removed or added."""
    data = bytearray(entry)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(3):
            case 0 if at < len(data):
                data[at] = rng.randrange(256)
            case 1 if at < len(data):
                del data[at : at + rng.randint(1, 5)]
            case _:
                data[at:at] = rng.randbytes(rng.randint(1, 5))
    return bytes(data)


ADVERSARIAL: tuple[Any, ...] = (0, -1, 1 << 62, "", "x" * 300, "job1", None, [], {}, 1.5, True, float("nan"), b"\xff")


def adversarial(rng: random.Random) -> bytes:
    """Return an entry with a well-formed command whose values make little sense."""
    kind = rng.choice(list(c.AnyCommand.__args__))
    fields: dict[str, Any] = {"type": kind.__name__}
    for name in kind.__struct_fields__:
        if rng.random() < 0.8:
            value = rng.choice(ADVERSARIAL)
            if name in {"jobs", "sha256", "kinds", "leases", "completions"} and rng.random() < 0.7:
                value = [
                    rng.choice(("job1", "job2", "", {"id": "z", "kind": "selfplay"}, {"job": "job1", "attempt": 1}))
                ]
            fields[name] = value
    return msgspec.msgpack.encode(
        [1, rng.choice((0, 5_000_000, -1, 1 << 61)), [["f", rng.randrange(1 << 30), "a", fields]]]
    )


def fuzz(count: int, seed: int) -> None:
    """Throw `count` hostile entries at a machine with some state; it must answer each and stay whole."""
    rng = random.Random(seed)
    driver = Driver(checked=False)
    driver.kind()
    driver.worker()
    driver.add("job1", "job2", "job3")
    driver.lease()
    driver.train("t1", "model1")
    good = [
        msgspec.msgpack.encode([1, 2_000_000, [c.Request("g", k, "a", command)]])
        for k, command in enumerate(
            (c.Enqueue((c.JobSpec("n", "plain"),)), c.Claim("w1", "b1", c.Free(1, 1, 1)), c.Tick(), c.Halt("*", "x"))
        )
    ]
    for k in range(count):
        entry = mutated(rng.choice(good), rng) if k % 2 else adversarial(rng)
        outcomes = driver.machine.apply(entry)
        msgspec.msgpack.encode(outcomes)
        for name in ("status", "loop", "queue"):
            if k % 500 == 0:
                msgspec.msgpack.encode(driver.machine.query(name, {}))
        if k % 1000 == 0:
            invariants.check(driver.machine.ledger)
            twin = Machine()
            twin.restore(list(driver.machine.snapshot()))
            assert twin.digest() == driver.machine.digest()
    invariants.check(driver.machine.ledger)


def test_hostile_entries_are_answered() -> None:
    """apply never raises and the state stays whole. More by `python tests/unit/machine/test_properties.py 1000000`."""
    fuzz(10_000, seed=7)


# ---- the same everywhere


RUN = """
import sys; sys.path[:0] = ["tests/unit/machine", "."]
from driver import Driver
from workqueue.machine import commands as c
d = Driver(checked=False)
d.kind(); [d.worker(f"w{k}") for k in range(5)]
d.add(*(f"j{k}" for k in range(50)), group="g", group_limit=9)
for k in range(30):
    d.claim(f"w{k % 5}", limit=3)
    d.now_ms += 7000
    d.do(c.Tick())
d.do(c.EndBoot("w1", "b1", "x")); d.do(c.Cancel(tuple(f"j{k}" for k in range(40, 45))))
import hashlib
print(d.machine.digest().hex(), hashlib.sha256(b"".join(d.machine.snapshot())).hexdigest())
"""


def test_replicas_agree_whatever_the_hash_seed() -> None:
    """State and digest do not depend on the order of sets and dicts."""
    root = Path(__file__).parents[3]
    said = {
        subprocess.run(
            [sys.executable, "-c", RUN], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=root, capture_output=True,
            text=True, check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_the_document_shows_the_table() -> None:
    """docs/state-machine.md holds the diagram of the code."""
    text = (Path(__file__).parents[3] / "docs/state-machine.md").read_text()
    assert diagram() in text
    assert all(state.value in text for state in ENDED)


def test_old_snapshots_load() -> None:
    """The snapshot of version 1 in the repository is read, checked and written back the same."""
    data = (Path(__file__).parents[2] / "golden/machine/snapshot-1.bin").read_bytes()
    machine = Machine()
    machine.restore([data])
    invariants.check(machine.ledger)
    assert b"".join(machine.snapshot()) == data
    assert machine.ledger.state.models
    assert machine.ledger.matches


def golden() -> bytes:
    """Return the snapshot that the repository keeps: every sort of record in it."""
    driver = Driver()
    driver.kind()
    driver.worker()
    driver.add("a", "b", "c", priority=3)
    driver.complete(driver.lease())
    driver.selfplay_done(driver.selfplay("s1"), "shard1")
    driver.train("t1", "model1")
    driver.tournament("m1", [("g1", (1, 2)), ("g2", (2, 1))], model="model1")
    driver.do(c.Acquire("lock", "me", 5000))
    driver.do(c.PutToken("t", "read", "hash"))
    driver.do(c.PutSettings({"target_elo": raw(1800)}))
    driver.do(c.SetAlias("champion/square8_2p", "model1", "", c.Evidence("manual", note="golden")))
    driver.do(c.SetAlert("disk", "v1", active=True))
    driver.do(c.Halt("train", "golden"))
    driver.add("d", run_at_ms=driver.now_ms + 10_000)
    driver.lease()
    return b"".join(driver.machine.snapshot())


if __name__ == "__main__":
    fuzz(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000, seed=int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    assert KINDS
