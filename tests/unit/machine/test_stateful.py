"""Any order of commands, watched by a model of what may happen; and mutants of the machine that this must catch."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from tests.unit.machine.driver import CONFIG, KINDS, Driver, raw
from workqueue.machine import commands as c
from workqueue.machine import leases, scheduling, workers
from workqueue.machine import machine as machine_module
from workqueue.machine import outcomes as o
from workqueue.machine.machine import Machine
from workqueue.machine.transitions import ENDED, TABLE, State, Trigger
from workqueue.schema import (
    GameResult,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

NAMES = [f"job{k}" for k in range(8)]
WORKERS = ["w1", "w2", "w3"]
SHAS = ["sha1", "sha2", "sha3", "sha4"]
LOCKS = ["lock1", "lock2"]
ALIASES = [f"champion/{CONFIG}", f"candidate/{CONFIG}"]
PLAYERS = (PlayerSpec("random"), PlayerSpec("heuristic"))
PAYLOADS: dict[str, Any] = {
    "plain": {},
    "selfplay": SelfplayPayload("square8", 2, PLAYERS[1], 4, 1),
    "train": TrainPayload("square8", 2, ("sha1",), 10, 1, parent="sha2"),
    "tournament": TournamentPayload("square8", 2, PLAYERS, 1, 1),
}
OPERATIONS = {c.Cancel: Trigger.CANCEL, c.Hold: Trigger.HOLD, c.Unhold: Trigger.UNHOLD, c.Retry: Trigger.RETRY}
BECAUSE = c.Evidence("manual", note="because")

name = st.sampled_from(NAMES)
worker = st.sampled_from(WORKERS)
sha = st.sampled_from(SHAS)
pick = st.integers(0, 1000)
ms = st.integers(0, 3000)
# Commands whose promises the invariants and the replica that follows look after.
OTHERS: st.SearchStrategy[c.Command] = st.one_of(
    st.builds(c.RegisterArtifact, st.builds(c.ArtifactRef, sha, st.just(10), st.sampled_from(["shard", "weights"])),
              st.tuples(st.sampled_from(["v1", "v2"])), st.sampled_from(["", CONFIG])),
    st.builds(c.DropHolder, sha, st.sampled_from(["v1", "v2"])),
    st.builds(c.Revoke, st.sampled_from(["", *WORKERS]), st.sampled_from(["", *SHAS])),
    st.builds(c.RegisterModel, sha, st.just(CONFIG), st.just(raw({})), st.tuples(sha)),
    st.builds(c.RejectModel, sha, st.just(BECAUSE), st.just("weak")),
    st.builds(c.PutSettings, st.dictionaries(st.sampled_from(["target_elo", "no_such"]), st.integers(0, 9).map(raw))),
    st.builds(c.RegisterKind, st.sampled_from(["plain", "other", "train"]), share=st.integers(-1, 1001)),
    st.builds(c.PutToken, st.sampled_from(["t1", "t2"]), st.sampled_from(["read", "root"]), st.just("hash")),
    st.builds(c.RevokeToken, st.sampled_from(["t1", "t2"])),
    st.builds(c.SetAlert, st.just("disk"), st.sampled_from(["v1", "v2"]), st.booleans()),
    st.builds(c.SilenceAlert, st.just("disk"), st.integers(0, 2_000_000)),
    st.builds(c.Acquire, st.just("lock"), worker, st.integers(1, 2000), st.integers(1, 2)),
    st.builds(c.BeginTerm, st.integers(0, 9)),
    st.builds(c.DrainWorker, worker, st.booleans()),
    st.builds(c.QuarantineWorker, worker, st.booleans()),
    st.builds(c.DeregisterWorker, worker, st.just("b1")),
)  # fmt: skip


class Everything(RuleBasedStateMachine):
    """Random life of a cluster's state; the model knows what was promised to whom."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.driver.kind()
        for each in WORKERS:
            self.driver.worker(each)
        self.sent: list[tuple[tuple[str, int], c.Command, Any]] = []
        self.leases: list[tuple[str, o.Lease]] = []  # ever granted
        self.done: dict[str, int] = {}  # attempts of completions that were accepted
        self.gone: set[str] = set()  # archived
        self.halts: set[str] = set()
        self.aliases: dict[str, list[str]] = defaultdict(list)
        spec = c.JobSpec("", "plain", lease_ms=1000, retry=c.RetryPolicy(2, 100, 1000))
        after = {"job1": ("job0",), "job2": ("job1",)}
        self.do(c.Enqueue(tuple(msgspec.structs.replace(spec, id=n, depends_on=after.get(n, ())) for n in NAMES[:5])))
        self.claim("w1", 1, 1)
        self.claim("w2", 1, 1)

    def do(self, command: c.Command) -> Any:
        key = (command.__class__.__name__, len(self.sent))
        outcome = self.driver.do(command, key=key)
        self.sent.append((key, command, outcome))
        return outcome

    def state(self, job: str) -> Any:
        return None if job in self.gone else self.driver.machine.ledger.jobs.get(job)

    # ---- jobs

    @rule(job=name, kind=st.sampled_from(list(PAYLOADS)), after=st.sets(name, max_size=2), late=ms,
          group=st.sampled_from(["", "g"]), total=st.sampled_from([0, 1500, 1500]), waits=st.sampled_from([0, 5000]),
          unique=st.sampled_from(["", "", "u"]), data=st.booleans(), priority=st.integers(0, 100))  # fmt: skip
    def enqueue(self, job: str, kind: str, after: set[str], late: int, group: str, total: int, waits: int, unique: str,
                data: bool, priority: int) -> None:  # fmt: skip
        """A known id changes nothing; what it depends on must be there."""
        known = tuple(sorted(each for each in after if self.state(each) and each != job))
        spec = c.JobSpec(
            job, kind, raw(PAYLOADS[kind]), "" if kind == "plain" else CONFIG, priority, depends_on=known, group=group,
            group_limit=2, unique=unique, lease_ms=1000, total_ms_max=total, wait_ms_max=waits,
            run_at_ms=self.driver.now_ms + late if late > 2000 else 0, retry=c.RetryPolicy(2, 100, 1000),
            conditions=(c.Condition("shard", CONFIG, 1),) if data and kind == "train" else (),
        )  # fmt: skip
        before = self.state(job)
        outcome = self.do(c.Enqueue((spec,)))
        if before:
            assert outcome == o.Enqueued((job,), (job,))
            assert self.state(job).spec == before.spec
        elif isinstance(outcome, o.Enqueued):
            self.gone.discard(job)
            self.done.pop(job, None)
            # Attempts of an archived job and of its namesake cannot be told apart: ids are for once.
            self.leases = [each for each in self.leases if each[1].job != job]

    @rule(who=worker, limit=st.integers(1, 3), cpus=st.integers(0, 3))
    def claim(self, who: str, limit: int, cpus: int) -> None:
        """Whoever is granted an attempt is the only one who ever was; nothing that is halted is granted."""
        outcome = self.do(c.Claim(who, "b1", c.Free(cpus, 8000, 8000), limit))
        if not isinstance(outcome, o.Granted):
            return
        assert len(outcome.leases) <= min(cpus, limit), "more was granted than fits"
        seen = Counter(each.job for each in outcome.leases)
        assert max(seen.values()) == 1, "one job twice"
        for lease in outcome.leases:
            assert not {"*", lease.kind, lease.config} & self.halts, "a halted job was granted"
            earlier = {each.attempt for _, each in self.leases if each.job == lease.job}
            assert lease.attempt not in earlier, "an attempt twice"
            self.leases.append((who, lease))

    @rule(pick=pick)
    def repeat(self, pick: int) -> None:
        """A request that is sent again gets the first answer and changes nothing."""
        kept = [each for each in self.sent if not isinstance(each[1], c.Renew | c.Tick | o.Empty)]
        kept = [each for each in kept if not isinstance(each[2], o.Empty)]
        if kept:
            key, command, first = kept[pick % len(kept)]
            before = self.driver.machine.query("status", {})
            again = self.driver.do(command, key=key)
            assert msgspec.msgpack.encode(again) == msgspec.msgpack.encode(first), "another answer to the same request"
            after = self.driver.machine.query("status", {})
            entries = {"entries": 0, "now_ms": 0}
            assert msgspec.structs.replace(after, **entries) == msgspec.structs.replace(before, **entries)  # type: ignore[type-var]

    @rule(pick=pick, good=st.integers(0, 9))
    def complete(self, pick: int, good: int) -> None:
        """Any lease ever granted may be reported; only the current one counts, and a job counts once."""
        if not self.leases:
            return
        who, lease = self.leases[pick % len(self.leases)]
        result, artifacts = self._result(lease, good=bool(good))
        before = self.state(lease.job)
        same = before is not None and before.attempt == lease.attempt
        current = same and before.state is State.RUNNING and before.worker == who
        again = same and before.state is State.COMPLETED
        [settled] = self.do(c.Complete(who, (c.Completion(lease.job, lease.attempt, raw(result), artifacts),))).settled
        if isinstance(settled, o.Settled):
            assert current or again, "a stale attempt was accepted"
            assert current or self.done[lease.job] == lease.attempt
            assert not current or lease.job not in self.done, "a job was completed twice"
            self.done[lease.job] = lease.attempt
        else:
            assert not again
            assert not current or (not good and lease.kind != "plain"), settled

    def _result(self, lease: o.Lease, *, good: bool) -> tuple[object, tuple[c.ArtifactRef, ...]]:
        made = f"{lease.kind} {lease.job}" if lease.kind == "selfplay" else {"train": "sha3"}.get(lease.kind, "games")
        if lease.kind == "plain":
            return {}, ()
        self.do(c.RegisterArtifact(c.ArtifactRef(made, 10, "bytes"), ("v1",), CONFIG))
        seats = tuple(player.key for player in PLAYERS)
        game = GameResult(f"game of {lease.job}", seats, (1, 2), 9, "x", "o", made)
        results = {
            "selfplay": SelfplayResult(4, 9, 9, 1, (ShardRef(made, 10, 4, 9),), (2, 2), seats[1], ""),
            "train": TrainResult(made, 10, 10, 10, 1, 1, 1, 1, 1, raw({})),
            "tournament": MatchesResult((game,), 1, ""),
        }
        return results[lease.kind] if good else {}, (c.ArtifactRef(made, 10, "bytes"),)

    @rule(pick=pick, fault=st.sampled_from(list(c.Fault)), who=st.sampled_from([*WORKERS, ""]))
    def fail(self, pick: int, fault: c.Fault, who: str) -> None:
        """Failures are fenced as completions are."""
        self._end(pick, lambda holder, lease: c.Fail(who or holder, lease.job, lease.attempt, "x", fault))

    @rule(pick=pick, who=st.sampled_from([*WORKERS, ""]))
    def release(self, pick: int, who: str) -> None:
        """Releases too."""
        self._end(pick, lambda holder, lease: c.Release(who or holder, lease.job, lease.attempt))

    def _end(self, pick: int, make: Any) -> None:
        if not self.leases:
            return
        holder, lease = self.leases[pick % len(self.leases)]
        command = make(holder, lease)
        job = self.state(lease.job)
        current = (
            job is not None and job.state is State.RUNNING
            and (job.attempt, job.worker) == (lease.attempt, command.worker)
        )  # fmt: skip
        assert isinstance(self.do(command), o.Settled) == current, "the fence is broken"

    @rule(pick=pick)
    def renew(self, pick: int) -> None:
        """A lease goes on only for its holder."""
        if self.leases:
            who, lease = self.leases[pick % len(self.leases)]
            job = self.state(lease.job)
            current = (
                job is not None and job.state is State.RUNNING and (job.attempt, job.worker) == (lease.attempt, who)
            )
            note = c.LeaseRenewal(lease.job, lease.attempt, raw({"n": pick}), raw(pick))
            [state] = self.do(c.Renew(who, "b1", (note,))).leases
            assert (state.state != "lost") == current, "the fence is broken"

    @rule(ms=st.integers(100, 900))
    def work_on(self, ms: int) -> None:
        """Time passes, and every worker that is alive renews what it holds."""
        self.driver.now_ms += ms
        for job in list(self.driver.machine.ledger.jobs.values()):
            if job.state is State.RUNNING:
                self.do(c.Renew(job.worker, "b1", (c.LeaseRenewal(job.spec.id, job.attempt),)))
        self.wait(0)

    @rule(pick=pick, what=st.sampled_from(list(OPERATIONS)), blindly=st.booleans())
    def operate(self, pick: int, what: type[c.Command], blindly: bool) -> None:
        """An operator interferes, mostly where it makes sense; the table of transitions says what is refused."""
        jobs = self.driver.machine.ledger.jobs
        able = [each for each, job in jobs.items() if (job.state, OPERATIONS[what]) in TABLE]
        names = NAMES if blindly or not able else able
        chosen = names[pick % len(names)]
        outcome = self.do(what((chosen,), "because"))  # type: ignore[call-arg]
        assert chosen in able or isinstance(outcome, o.Refused)
        assert chosen not in able or isinstance(outcome, o.Changed) or what is c.Retry, outcome

    @rule(jobs=st.lists(name, min_size=1, max_size=3))
    def archive(self, jobs: list[str]) -> None:
        """Only what has ended is forgotten."""
        ended = {each for each in jobs if self.state(each) and self.state(each).state in ENDED}
        forgotten = self.do(c.Archive(tuple(jobs))).ids
        assert set(forgotten) <= ended, "a live job was forgotten"
        self.gone |= set(forgotten)

    @rule(ms=ms)
    def wait(self, ms: int) -> None:
        """Time passes; nothing outlives its time."""
        self.driver.now_ms += ms
        self.do(c.Tick())
        now_ms = self.driver.now_ms
        for job in self.driver.machine.ledger.jobs.values():
            if job.state is State.RUNNING:
                assert job.lease_until_ms > now_ms, "a lease outlived its time"
                limit = job.spec.total_ms_max
                assert not limit or job.started_ms + limit > now_ms, "an attempt outlived its time"
            if job.state is State.RETRYABLE:
                assert job.due_ms > now_ms, "a retry is overdue"
            if job.state in {State.AVAILABLE, State.SCHEDULED} and job.spec.wait_ms_max and not job.attempt:
                assert job.enqueued_ms + job.spec.wait_ms_max > now_ms, "a job waits longer than it may"

    @rule(who=worker, why=st.sampled_from(["dead", "late word"]))
    def die(self, who: str, why: str) -> None:
        """A worker's boot ends and begins again; word of another boot changes nothing."""
        ended = self.do(c.EndBoot(who, "b1" if why == "dead" else "b0", why)).ids
        assert why == "dead" or not ended
        capability = c.Capability(8, 8000, 8000, kinds=KINDS)
        assert isinstance(self.do(c.RegisterWorker(who, "b1", capability)), o.Registered)

    # ---- models, switches and the rest

    @rule(alias=st.sampled_from(ALIASES), sha=sha, expected=st.sampled_from(["", *SHAS]))
    def set_alias(self, alias: str, sha: str, expected: str) -> None:
        """By compare-and-set alone."""
        outcome = self.do(c.SetAlias(alias, sha, expected, BECAUSE))
        if isinstance(outcome, o.AliasSet):
            assert outcome.previous == expected == self._points_at(alias)

    @rule(alias=st.sampled_from(ALIASES), expected=st.sampled_from(["", *SHAS]))
    def rollback(self, alias: str, expected: str) -> None:
        """To a model that it pointed at before."""
        now, history = self._points_at(alias), set(self.aliases[alias])
        outcome = self.do(c.Rollback(alias, expected, BECAUSE, "worse"))
        if isinstance(outcome, o.AliasSet):
            assert outcome.previous == expected == now
            assert outcome.sha256 in history - {now}

    def _points_at(self, alias: str) -> str:
        return self.aliases[alias][-1] if self.aliases[alias] else ""

    @rule(shas=st.lists(st.sampled_from([*SHAS, "games"]), min_size=1, max_size=3))
    def collect(self, shas: list[str]) -> None:
        """What somebody needs stays."""
        needed = {each.sha256 for each in self.driver.view("artifacts") if each.refs}
        assert not set(self.do(c.CollectArtifacts(tuple(shas))).ids) & needed, "needed bytes were forgotten"

    @rule(scope=st.sampled_from(["*", "plain", CONFIG]), on=st.booleans())
    def switch(self, scope: str, on: bool) -> None:
        """Halts and resumes."""
        outcome = self.do(c.Halt(scope, "because") if on else c.Resume(scope))
        assert on or isinstance(outcome, o.Changed) == (scope in self.halts)
        self.halts = self.halts | {scope} if on else self.halts - {scope}

    @rule(command=OTHERS)
    def other(self, command: c.Command) -> None:
        """Whatever else may be said."""
        self.do(command)

    @rule()
    def restore(self) -> None:
        """A replica that loads a snapshot goes on exactly as the one that wrote it."""
        chunks = list(self.driver.machine.snapshot())
        machine = Machine()
        machine.restore(chunks)
        assert list(machine.snapshot()) == chunks
        assert machine.digest() == self.driver.machine.digest()
        self.driver.followers = [machine]

    # ---- what holds at any time; `invariants.check` runs after each command besides

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every job that entered is there until it is archived; what was completed stays completed."""
        jobs = self.driver.machine.ledger.jobs
        entered = {each for _, command, outcome in self.sent if isinstance(outcome, o.Enqueued) for each in outcome.ids}
        assert entered - self.gone == set(jobs), "a job was lost"
        assert all(jobs[job].state is State.COMPLETED for job in self.done if job in jobs), "a completion was undone"

    @invariant()
    def aliases_only_grow(self) -> None:
        """No step of an alias is ever forgotten."""
        for alias, steps in self.driver.view("aliases").items():
            shas = [step.sha256 for step in steps]
            assert shas[: len(self.aliases[alias])] == self.aliases[alias], "history was rewritten"
            self.aliases[alias] = shas

    def teardown(self) -> None:
        """Whatever happened, a willing worker brings every job to its end; replicas are the same to the last byte."""
        driver = self.driver
        for scope in sorted(self.halts):
            driver.do(c.Resume(scope))
        driver.store("shard1")
        driver.worker("willing")
        for step in range(40):
            if step >= 20:
                held = driver.view("queue", state="held").jobs
                driver.do(c.Unhold(tuple(row.id for row in held)))
            driver.tick(3000)
            outcome = driver.claim("willing", limit=20, cpus=20)
            for lease in outcome.leases if isinstance(outcome, o.Granted) else ():
                driver.do(c.Fail("willing", lease.job, lease.attempt, "enough"))
            left = [row for row in driver.view("queue").jobs if State(row.state) not in ENDED]
            if not left:
                break
        assert not left, f"{left[0].id} waits for ever: {driver.view('explain', job=left[0].id)}"
        for follower in driver.followers:
            assert b"".join(follower.snapshot()) == b"".join(driver.machine.snapshot()), "a replica differs"


class Locks(RuleBasedStateMachine):
    """Locks and semaphores under time, breaks and restores."""

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver()
        self.places: dict[str, dict[int, int]] = defaultdict(dict)  # lock -> token -> end, as promised

    @rule(lock=st.sampled_from(LOCKS), ttl=st.integers(1, 2000), limit=st.integers(1, 2))
    def acquire(self, lock: str, ttl: int, limit: int) -> None:
        """Never more holders than the smallest limit that a holder asked for."""
        now_ms = self.driver.now_ms
        held = [token for token, end in self.places[lock].items() if end > now_ms]
        outcome = self.driver.do(c.Acquire(lock, "me", ttl, limit))
        if isinstance(outcome, o.Locked):
            assert len(held) < limit, "more holders than places"
            assert all(outcome.token > token for places in self.places.values() for token in places), "an old token"
            self.places[lock][outcome.token] = outcome.expires_ms

    @rule(lock=st.sampled_from(LOCKS), pick=pick, ttl=st.integers(1, 2000), renews=st.booleans())
    def use_lock(self, lock: str, pick: int, ttl: int, renews: bool) -> None:
        """Only a token that is still good renews or gives back."""
        if not self.places[lock]:
            return
        token = sorted(self.places[lock])[pick % len(self.places[lock])]
        good = self.places[lock][token] > self.driver.now_ms
        if renews:
            outcome = self.driver.do(c.RenewLock(lock, token, ttl))
            assert isinstance(outcome, o.Locked) == good, "an old token was renewed"
            if good:
                self.places[lock][token] = outcome.expires_ms
        else:
            outcome = self.driver.do(c.Unlock(lock, token))
            assert isinstance(outcome, o.Changed) or not good
            self.places[lock][token] = 0

    @rule(lock=st.sampled_from(LOCKS))
    def break_lock(self, lock: str) -> None:
        """An operator frees a lock."""
        self.driver.do(c.BreakLock(lock, "because"))
        self.places[lock] = dict.fromkeys(self.places[lock], 0)

    @rule(ms=ms)
    def wait(self, ms: int) -> None:
        """Time passes; nothing outlives its time."""
        self.driver.tick(ms)
        for lock in self.driver.view("locks"):
            assert all(place.expires_ms > self.driver.now_ms for place in lock.places), "a lock outlived its time"

    @rule()
    def restore(self) -> None:
        """A replica that loads a snapshot goes on alike."""
        self.driver.followers = [self.driver.restored().machine]

    @invariant()
    def what_was_promised_is_held(self) -> None:
        """Nobody loses a place before its time."""
        held = {place.token for lock in self.driver.view("locks") for place in lock.places}
        promised = {token for ends in self.places.values() for token, end in ends.items() if end > self.driver.now_ms}
        assert promised <= held, "a place was lost"


WEIGHTS = {"a": 600, "b": 300, "d": 100, "e": 7}


class Sharing(RuleBasedStateMachine):
    """Classes with jobs waiting share claims by weight, however claims, arrivals and returns come.

    The bounds are those of start-time fair queueing (Goyal, Vin, Cheng 1996, theorem 1): while two classes both wait,
    their served jobs over weight differ by 1/w + 1/v at most over any stretch; so nobody waits for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self.driver = Driver(checked=False)
        for kind, share in WEIGHTS.items():
            self.driver.kind(kind, share=share)
        self.driver.worker(kinds=tuple(WEIGHTS))
        self.number = 0
        self.waiting: Counter[str] = Counter()
        self.spread: dict[tuple[str, str], tuple[float, float, float]] = {}  # of two classes: now, lowest, highest

    @rule(kind=st.sampled_from(list(WEIGHTS)), count=st.integers(1, 40))
    def enqueue(self, kind: str, count: int) -> None:
        """More of a class."""
        self.number += 1
        self.driver.add(*(f"{kind}{self.number}.{k}" for k in range(count)), kind=kind)
        self.waiting[kind] += count

    @rule(count=st.integers(1, 60), limit=st.integers(1, 9))
    def claim_many(self, count: int, limit: int) -> None:
        """Claims, one at a time or many at once."""
        for _ in range(count):
            outcome = self.driver.claim(limit=limit, cpus=limit)
            for lease in outcome.leases if isinstance(outcome, o.Granted) else ():
                self._served(lease.kind)

    def _served(self, kind: str) -> None:
        for one in WEIGHTS:
            for other in WEIGHTS:
                if one < other:
                    self._compare(one, other, kind)
        self.waiting[kind] -= 1

    def _compare(self, one: str, other: str, kind: str) -> None:
        if not self.waiting[one] or not self.waiting[other]:
            self.spread.pop((one, other), None)
            return
        now, lowest, highest = self.spread.get((one, other), (0.0, 0.0, 0.0))
        now += (kind == one) / WEIGHTS[one] - (kind == other) / WEIGHTS[other]
        lowest, highest = min(lowest, now), max(highest, now)
        self.spread[one, other] = now, lowest, highest
        bound = 1 / WEIGHTS[one] + 1 / WEIGHTS[other]
        assert highest - lowest <= bound * 1.001, f"{one} and {other} do not share as they should"

    @rule()
    def restore(self) -> None:
        """A restored replica goes on sharing where the other was."""
        self.driver = self.driver.restored()


STEPS = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
)
MUTANT_STEPS = settings(STEPS, phases=[Phase.generate], report_multiple_bugs=False)  # found is enough, however long


def test_any_order_of_commands_keeps_the_invariants() -> None:
    """No job lost or doubled, leases fenced, aliases by compare-and-set, replicas alike to the last byte."""
    run_state_machine_as_test(Everything, settings=STEPS)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("machine", [Everything, Locks, Sharing])
def test_many_more_orders(machine: type[RuleBasedStateMachine]) -> None:
    """As the tests around this one, longer and with new chances each time."""
    long = settings(STEPS, derandomize=False, database=None, max_examples=5_000, stateful_step_count=100)
    run_state_machine_as_test(machine, settings=long)


def test_locks_are_exclusive_in_any_order() -> None:
    """Never more holders than places, fenced by token, over in time, on every replica."""
    run_state_machine_as_test(Locks, settings=STEPS)


def test_shares_are_kept_over_any_stretch() -> None:
    """Whoever waits is served by weight, within the bound of the algorithm."""
    run_state_machine_as_test(Sharing, settings=STEPS)


def _no_fence(ledger: Any, name: str, *_: Any) -> Any:
    return ledger.jobs[name]


def _never(*_: Any) -> bool:
    return False


def _fits(*_: Any) -> str:
    return ""


def _first_is_free(state: Any, scope: str, clock: str, weight: int) -> None:
    if scope == scheduling.SHARES and clock not in state.virtual:
        state.virtual[clock] = state.virtual_now.get(scope, 0)
    else:
        scheduling.charge(state, scope, clock, weight)


def _arrears(state: Any, scope: str, clock: str, weight: int) -> None:
    del scope
    state.virtual[clock] = state.virtual.get(clock, 0) + scheduling.STRIDE // weight


def _renews_anything(ledger: Any, command: c.RenewLock) -> o.Outcome:
    for place in getattr(ledger.state.locks.get(command.name), "places", ()):
        place.expires_ms = ledger.now_ms + command.ttl_ms
        return o.Locked(command.name, command.token, place.expires_ms)
    return o.Refused(o.Code.STALE_TOKEN, "")


def _one_more(ledger: Any, command: c.Acquire) -> o.Outcome:
    return workers.acquire(ledger, msgspec.structs.replace(command, limit=command.limit + 1))


MUTANTS: dict[str, tuple[Any, str, Any, type[RuleBasedStateMachine]]] = {
    "fence removed": (leases, "_held", _no_fence, Everything),
    "expiry removed": (leases, "_look_at_lease", _never, Everything),
    "dedup removed": (machine_module, "ANSWERS_MAX", 0, Everything),
    "fit removed": (leases, "lack", _fits, Everything),
    "halt removed": (leases, "halted", _never, Everything),
    "lock expiry removed": (leases, "_expire_lock", _never, Locks),
    "share counter off by one": (leases, "charge", _first_is_free, Sharing),
    "idle classes save up": (leases, "charge", _arrears, Sharing),
}


@pytest.mark.parametrize("name", list(MUTANTS))
def test_mutants_are_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fails the tests above within the same number of examples."""
    module, attribute, mutant, machine = MUTANTS[name]
    monkeypatch.setattr(module, attribute, mutant)
    with pytest.raises(BaseException, check=_is_a_finding):  # noqa: B017
        run_state_machine_as_test(machine, settings=MUTANT_STEPS)


@pytest.mark.parametrize(("command", "mutant"), [(c.RenewLock, _renews_anything), (c.Acquire, _one_more)])
def test_mutants_of_locks_are_caught(command: type[c.Command], mutant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token that is not looked at, and a place too many."""
    monkeypatch.setitem(machine_module.HANDLERS, command, mutant)
    with pytest.raises(BaseException, check=_is_a_finding):  # noqa: B017
        run_state_machine_as_test(Locks, settings=MUTANT_STEPS)


def _is_a_finding(error: BaseException) -> bool:
    errors = error.exceptions if isinstance(error, BaseExceptionGroup) else (error,)
    return any(isinstance(each, AssertionError | KeyError) for each in errors)
