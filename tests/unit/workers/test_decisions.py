"""Decisions without loop, clock or processes: examples, and what holds whatever happens."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from workers import events as ev
from workers.attempts import Options, SlotSpec
from workers.decisions import Decisions
from workqueue.machine.commands import Capability, Complete, Fail, Fault, Release
from workqueue.machine.outcomes import Lease, LeaseState, Renewed

T = TypeVar("T")
ANSWERS = ("grant", "empty", "refused", "unreached")
PAYLOAD = msgspec.Raw(b"\x80")
CURSOR = msgspec.Raw(msgspec.msgpack.encode({"step": 3}))


def made(slots: tuple[SlotSpec, ...] = (SlotSpec(),), **fields: Any) -> Decisions:
    capability = Capability(
        cpus=4, ram_mb=4000, disk_mb=100, devices=(("gpu", 80_000),), kinds=("fake",), rules_version="1"
    )
    return Decisions(Options("w", "b", capability, slots, **fields))


def ready(slots: tuple[SlotSpec, ...] = (SlotSpec(),), **fields: Any) -> Decisions:
    agent = made(slots, **fields)
    agent.handle(ev.Tick(0))
    agent.handle(ev.Joined(0))
    for index in range(len(slots)):
        agent.handle(ev.RunnerReady(0, index))
    return agent


def lease(job: str = "j", attempt: int = 1, **fields: Any) -> Lease:
    return Lease(job, attempt, fields.pop("kind", "fake"), fields.pop("payload", PAYLOAD), lease_ms=10_000, **fields)


def of(kind: type[T], instructions: list[Any]) -> list[T]:
    return [each for each in instructions if isinstance(each, kind)]


def test_claims_when_joined_and_ready() -> None:
    """A runner is started, the boot joins, and only then one claim goes out."""
    agent = made()
    first = agent.handle(ev.Tick(0))
    assert [type(each) for each in first] == [ev.StartRunner, ev.Join]
    assert of(ev.SendClaim, agent.handle(ev.Joined(1))) == []
    [claim] = of(ev.SendClaim, agent.handle(ev.RunnerReady(2, 0)))
    assert (claim.command.limit, claim.command.free.cpus) == (1, 4)
    assert of(ev.SendClaim, agent.handle(ev.Tick(3))) == []


def test_the_next_claim_goes_out_with_the_end_of_a_job() -> None:
    """No tick, renewal or delivery lies between the end of a job and the claim of the next."""
    agent = ready()
    agent.handle(ev.Granted(10, (lease(),)))
    out = agent.handle(ev.JobDone(20, 0, PAYLOAD))
    assert [type(each) for each in out if not isinstance(each, ev.Note)] == [ev.Settle, ev.SendClaim]


def test_a_lease_is_renewed_until_its_end_is_delivered() -> None:
    """Uploading takes time, during which the lease must not run out."""
    agent = ready()
    agent.handle(ev.Granted(10, (lease(),)))
    agent.handle(ev.JobDone(20, 0, PAYLOAD))
    agent.handle(ev.RenewAnswered(30, 0, Renewed(())))
    [renewal] = of(ev.SendRenew, agent.handle(ev.Tick(6000)))
    assert [each.job for each in renewal.leases] == ["j"]
    agent.handle(ev.Reported(6001, "j", 1))
    agent.handle(ev.RenewAnswered(6002, 6000, Renewed(())))
    [renewal] = of(ev.SendRenew, agent.handle(ev.Tick(60_000)))
    assert renewal.leases == ()


def test_fenced_at_three_quarters_of_the_lease() -> None:
    """After 0.75 of an unrenewed lease nothing is claimed; the job goes on, and a renewal lifts it."""
    agent = ready((SlotSpec(), SlotSpec()))
    agent.handle(ev.Granted(0, (lease(),)))
    agent.handle(ev.Unreached(5000, "renew"))
    agent.handle(ev.ClaimEmpty(7000))
    out = agent.handle(ev.Tick(7501))
    assert [note.event for note in of(ev.Note, out)] == ["lease.fenced"]
    agent.handle(ev.ClaimEmpty(7502))
    out = agent.handle(ev.Tick(30_000))
    assert not of(ev.SendClaim, out)
    assert not of(ev.KillRunner, out)
    out = agent.handle(ev.RenewAnswered(30_010, 30_000, Renewed((LeaseState("j", 1, "ok", 10_000),))))
    assert of(ev.SendClaim, out)


def test_a_cursor_is_told_only_when_its_files_are_stored() -> None:
    """Another worker must be able to fetch all that a cursor names."""
    agent = ready()
    agent.handle(ev.Granted(0, (lease(),)))
    agent.handle(ev.Published(1, 0, "aa"))
    agent.handle(ev.Checkpointed(2, 0, CURSOR))
    assert agent.running[0].cursor == ev.NIL
    agent.handle(ev.Published(3, 0, "bb"))
    agent.handle(ev.Uploaded(4, "j", 1, "aa"))
    assert agent.running[0].cursor == CURSOR


def test_never_two_jobs_on_one_device() -> None:
    """A second lease for a busy device goes back untouched."""
    agent = ready((SlotSpec(0, 80_000), SlotSpec()))
    agent.handle(ev.Granted(0, (lease(device=0),)))
    [settle] = of(ev.Settle, agent.handle(ev.Granted(1, (lease("k", device=0),))))
    assert isinstance(settle.command, Release)
    assert [task.lease.job for task in agent.running] == ["j"]


def test_free_names_only_what_is_free() -> None:
    """A claim beside a running device job offers the rest of the machine."""
    agent = ready((SlotSpec(0, 80_000), SlotSpec()))
    [claim] = of(ev.SendClaim, agent.handle(ev.Granted(0, (lease(device=0),))))
    assert (claim.command.free.devices, claim.command.free.vram_mb, claim.command.free.cpus) == ((), (0,), 3)
    assert claim.wait_ms == agent.options.claim_wait_busy_ms


def test_an_old_kernel_of_faults_quarantines() -> None:
    """A machine that fails job after job takes itself out."""
    agent = ready(node_faults_max=3)
    for index in range(3):
        agent.handle(ev.Granted(index, (lease(str(index)),)))
        out = agent.handle(ev.JobFailed(index, 0, "device.lost", "node", "gone"))
    assert of(ev.Quarantine, out)
    assert not of(ev.SendClaim, agent.handle(ev.Tick(1_000_000)))


def test_repeated_failures_back_off() -> None:
    """The pause between claims grows with failures in a row and ends with a success."""
    agent = ready()
    pauses = []
    now = 0
    for index in range(6):
        agent.handle(ev.Granted(now, (lease(str(index)),)))
        agent.handle(ev.JobFailed(now, 0, "job.failed", "payload", "no"))
        agent.handle(ev.Reported(now, str(index), 1))
        pauses.append(agent.claim_after_ms - now)
        now = max(now, agent.claim_after_ms)
        agent.handle(ev.Tick(now))
    assert pauses[0] == 0
    assert pauses[-1] >= 4000
    agent.handle(ev.Granted(now, (lease("x"),)))
    assert of(ev.SendClaim, agent.handle(ev.JobDone(now + 1, 0, PAYLOAD)))


def test_stop_gives_grace_then_kills_and_releases() -> None:
    """A job that does not stop in time is killed, its attempt released, and the worker leaves."""
    agent = ready(grace_ms=1000)
    agent.handle(ev.Granted(0, (lease(),)))
    assert of(ev.StopJob, agent.handle(ev.Ordered(10, ev.Order.STOP)))
    assert not of(ev.KillRunner, agent.handle(ev.Tick(900)))
    out = agent.handle(ev.Tick(1010))
    assert of(ev.KillRunner, out)
    assert isinstance(of(ev.Settle, out)[0].command, Release)
    assert of(ev.Leave, agent.handle(ev.Reported(1020, "j", 1)))


class Agent(RuleBasedStateMachine):
    """Any events in any order that a world could bring."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.agent = made((SlotSpec(0, 80_000), SlotSpec(), SlotSpec()), grace_ms=5000, hang_ms=20_000)
        self.alive: dict[int, bool | None] = {}  # runners by slot: ready, not ready yet, None = killed
        self.jobs: dict[int, tuple[str, int]] = {}  # what each runner runs
        self.open: set[tuple[str, int]] = set()  # granted, its end not delivered
        self.settled: list[tuple[str, int]] = []
        self.claims = self.renewals = self.joins = 0
        self.count = 0
        self.left = False
        self.tell(ev.Tick(0))

    def tell(self, event: Any) -> None:
        for each in self.agent.handle(event):
            assert not self.left, "nothing is done after leaving"
            self.carry_out(each)

    def carry_out(self, each: Any) -> None:
        match each:
            case ev.StartRunner(slot=slot):
                assert slot not in self.alive
                self.alive[slot] = False
            case ev.KillRunner(slot=slot):
                assert slot in self.alive
                self.jobs.pop(slot, None)
                self.alive[slot] = None
            case ev.StartJob(slot=slot, lease=got):
                assert self.alive[slot]
                assert slot not in self.jobs
                assert got.device in {-1, self.agent.options.slots[slot].device}
                self.jobs[slot] = (got.job, got.attempt)
            case ev.Settle(command=command, job=job, attempt=attempt):
                assert isinstance(command, Complete | Fail | Release)
                assert (job, attempt) not in self.settled, "an attempt ends once"
                self.settled.append((job, attempt))
            case ev.Discard(job=job, attempt=attempt):
                self.open.discard((job, attempt))
            case ev.SendClaim(command=command):
                self.claims += 1
                assert command.limit == sum(up is True and slot not in self.jobs for slot, up in self.alive.items())
            case ev.SendRenew(leases=leases):
                self.renewals += 1
                assert {(item.job, item.attempt) for item in leases} <= self.open
            case ev.Join():
                self.joins += 1
            case ev.Leave():
                self.left = True

    @rule(ms=st.integers(1, 30_000))
    def tick(self, ms: int) -> None:
        self.now += ms
        self.tell(ev.Tick(self.now))

    @precondition(lambda self: self.joins)
    @rule(ok=st.booleans())
    def join(self, ok: bool) -> None:
        self.joins -= 1
        self.tell(ev.Joined(self.now) if ok else ev.JoinRefused(self.now, "", "no voters"))

    @precondition(lambda self: self.claims and not self.left)
    @rule(
        answer=st.sampled_from(["grant", "empty", "refused", "unreached"]),
        device=st.sampled_from([-1, 0]),
        count=st.integers(1, 3),
    )
    def claimed(self, answer: str, device: int, count: int) -> None:
        self.claims -= 1
        if answer == "grant":
            leases = []
            for _ in range(count):
                self.count += 1
                leases.append(lease(f"j{self.count}", device=device, total_ms_max=60_000))
                self.open.add((f"j{self.count}", 1))
            self.tell(ev.Granted(self.now, tuple(leases)))
        elif answer == "empty":
            self.tell(ev.ClaimEmpty(self.now, 100))
        elif answer == "refused":
            self.tell(ev.ClaimRefused(self.now, "not_found", "register"))
        else:
            self.tell(ev.Unreached(self.now, "claim"))

    @precondition(lambda self: self.renewals)
    @rule(state=st.sampled_from(["ok", "cancel", "lost", "unreached"]), drain=st.booleans())
    def renewed(self, state: str, drain: bool) -> None:
        self.renewals -= 1
        if state == "unreached":
            self.tell(ev.Unreached(self.now, "renew"))
            return
        states = tuple(LeaseState(job, attempt, state) for job, attempt in sorted(self.open))
        self.tell(ev.RenewAnswered(self.now, self.now, Renewed(states, drain)))

    @rule(slot=st.integers(0, 2))
    def runner_ready(self, slot: int) -> None:
        if self.alive.get(slot) is False:
            self.alive[slot] = True
            self.tell(ev.RunnerReady(self.now, slot))

    @rule(slot=st.integers(0, 2), code=st.sampled_from([-9, -11, 1]))
    def runner_dies(self, slot: int, code: int) -> None:
        if slot in self.alive:
            del self.alive[slot]
            self.jobs.pop(slot, None)
            self.tell(ev.RunnerExited(self.now, slot, code))

    @rule(slot=st.integers(0, 2), how=st.sampled_from(["done", "failed", "stopped", "memory", "progress"]))
    def job_says(self, slot: int, how: str) -> None:
        if slot not in self.jobs:
            return
        if how not in {"progress", "memory"}:
            del self.jobs[slot]
        match how:
            case "done":
                self.tell(ev.JobDone(self.now, slot, PAYLOAD))
            case "failed":
                self.tell(ev.JobFailed(self.now, slot, "x", Fault.PAYLOAD, "no"))
            case "stopped":
                self.tell(ev.JobStopped(self.now, slot))
            case "memory":
                self.tell(ev.OverMemory(self.now, slot, 2, 1))
            case _:
                self.tell(ev.Progressed(self.now, slot, PAYLOAD))

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def delivered(self, data: Any) -> None:
        waiting = [key for key in self.settled if key in self.open]
        if waiting:
            job, attempt = data.draw(st.sampled_from(waiting))
            self.open.discard((job, attempt))
            self.tell(ev.Reported(self.now, job, attempt))

    @rule(order=st.sampled_from(list(ev.Order)))
    def ordered(self, order: ev.Order) -> None:
        self.tell(ev.Ordered(self.now, order))

    @invariant()
    def every_granted_attempt_is_somewhere(self) -> None:
        """Running, ended, or dropped as lost: none is forgotten."""
        running = {task.key for task in self.agent.running}
        for key in self.open:
            assert key in running or key in self.settled

    @invariant()
    def runners_run_what_the_agent_thinks(self) -> None:
        assert {task.slot: task.key for task in self.agent.running} == self.jobs


TestAnyEvents = Agent.TestCase
TestAnyEvents.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
