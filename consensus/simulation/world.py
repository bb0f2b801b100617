"""The seeded world: one queue of events, the only source of time and chance for everything in it."""

import heapq
import random
import zlib
from collections import deque
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Self

import msgspec
import pysyncobj.syncobj as library

from consensus import raft, replication, streaming
from consensus.errors import ConsensusError, StorageFailed
from consensus.simulation.checks import Checks, Violation
from consensus.simulation.clients import History, SimulatedClient
from consensus.simulation.disk import PowerLost
from consensus.simulation.faults import Faults
from consensus.simulation.network import SimulatedNetwork
from consensus.simulation.voter import SimulatedVoter

VOTERS, CLIENTS = 5, 8
FAULTS_S = 6.0  # simulated seconds of faults
HEALING_S = 20.0  # in which everything must be well again
SMALL = {  # limits at which the code splits messages, reached here with little data
    (replication, "MAX_MESSAGE_BYTES"): 60,
    (streaming, "CHUNK_BYTES"): 300,
    (streaming, "WINDOW_BYTES"): 900,
    (streaming, "RESEND_S"): 0.2,
}
LARGE_COMMIT_BYTES = 0, 60, 1 << 20  # by seed: followers hear at once of all commits, of those of two commands, of none


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in one world."""

    seed: int
    writes: int  # acknowledged
    reads: int
    events: int
    terms: int
    commits: int
    snapshots_installed: int
    messages: int
    lost_messages: int
    starts: int
    faults: dict[str, int]
    fingerprint: int  # of every event, in order


class World:
    """Five voters, their clients and their misfortunes; a context manager, one at a time in a process."""

    def __init__(self, seed: int, *, faults_s: float = FAULTS_S, trace: int = 0) -> None:
        self.seed = seed
        self.now = 0.0
        self.chance = random.Random(f"{seed}")  # noqa: S311 - a seeded simulation
        self.checks = Checks()
        self.history = History()
        self.network = SimulatedNetwork(self)
        self.faults = Faults(self)
        self.healing = False
        self.trace: deque[str] = deque(maxlen=trace)
        names = [f"v{i}" for i in range(VOTERS)]
        self.voters = {n: SimulatedVoter(self, n, [p for p in names if p != n]) for n in names}
        self._clients = [SimulatedClient(self, i) for i in range(CLIENTS)]
        self._faults_s = faults_s
        self._queue: list[tuple[float, int, Callable[[], object], SimulatedVoter | None, int]] = []
        self._count = 0
        self._events = 0
        self._installed = 0
        self._fingerprint = 0
        self._active: SimulatedVoter | None = None
        self._kept: dict[tuple[object, str], object] = {}

    def __enter__(self) -> Self:
        limits = SMALL | {(raft, "LARGE_COMMIT_BYTES"): LARGE_COMMIT_BYTES[self.seed % len(LARGE_COMMIT_BYTES)]}
        self._kept = {(owner, name): getattr(owner, name) for owner, name in limits}
        self._kept[(library, "monotonicTime")] = library.monotonicTime
        library.monotonicTime = self._library_time
        for (owner, name), value in limits.items():
            setattr(owner, name, value)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for (owner, name), value in self._kept.items():
            setattr(owner, name, value)

    def _library_time(self) -> float:
        return 0.0 if self._active is None else self._active.monotonic()

    # ---- the course of events

    def run(self) -> Report:
        """Inject faults, heal, and check that all is well; Violation otherwise."""
        for voter in self.voters.values():
            self.start(voter)
        for client in self._clients:
            self.at(self.chance.uniform(0, 0.5), client.begin)
        self.at(0.5, self.faults.strike)
        self._run_until(self._faults_s, lambda: False)
        self.healing = True
        self.note("heal")
        self.faults.heal()
        for client in self._clients:
            client.stopped = True
        if not self._run_until(self.now + HEALING_S, self._converged):
            raise Violation(f"the voters did not converge: {[self._describe(v) for v in self.voters.values()]}")
        self._check_end()
        return self._report()

    def at(self, when: float, work: Callable[[], object], voter: SimulatedVoter | None = None) -> None:
        """Do work at a time; work of a voter happens only in the process that runs now."""
        self._count += 1
        life = 0 if voter is None else voter.life
        heapq.heappush(self._queue, (max(when, self.now), self._count, work, voter, life))

    def _run_until(self, end: float, done: Callable[[], bool]) -> bool:
        """Run events up to a time; return whether done() became true, which is looked at now and then."""
        while self._queue and self._queue[0][0] <= end:
            when, number, work, voter, life = heapq.heappop(self._queue)
            self.now = when
            if voter is None:
                work()
                continue
            if not voter.alive or voter.life != life:
                continue
            free_at = max(voter.paused_until, voter.busy_until)
            if free_at > when:
                heapq.heappush(self._queue, (free_at, number, work, voter, life))
                continue
            self._step(voter, work)
            if self._events % 64 == 0 and done():
                return True
        self.now = end
        return done()

    def _step(self, voter: SimulatedVoter, work: Callable[[], object]) -> None:
        self._events += 1
        self._fingerprint = zlib.crc32(f"{self.now!r}{voter.name}".encode(), self._fingerprint)
        self._active = voter
        voter.spent = 0.0
        try:
            work()
            voter.busy_until = self.now + voter.spent
            self.checks.after(voter)
            if voter.driver.failure is not None:
                self.stop(voter, power=False)
        except PowerLost:
            self.stop(voter, power=True)
        finally:
            voter.spent = 0.0
            self._active = None

    # ---- processes

    def start(self, voter: SimulatedVoter) -> None:
        """Start a voter that is down; its links come up a little later."""
        if voter.alive:
            return
        voter.busy_until = self.now
        self._active = voter
        try:
            voter.start()
        except PowerLost:
            self.stop(voter, power=True)
            return
        except StorageFailed:  # a fault struck its disk while it was down
            self.stop(voter, power=False)
            return
        except ConsensusError as error:
            raise Violation(f"{voter.name} refuses to start: {error}") from error
        finally:
            voter.spent = 0.0
            self._active = None
        self.note(f"{voter.name} starts at {voter.driver.raft.applied_index}")
        for peer in voter.peers:
            other = self.voters[peer]
            self.at(self.now + self.chance.uniform(0.0005, 0.02), partial(self.network.connect, voter, other))

    def stop(self, voter: SimulatedVoter, *, power: bool, down_s: float | None = None) -> None:
        """End a voter's process, with or without its power; it comes back after down_s, or after a while."""
        if voter.alive:
            self.note(f"{voter.name} {'loses power' if power else 'ends'}")
            self._installed += voter.driver.snapshots.installed if hasattr(voter, "driver") else 0
        voter.alive = False
        for peer in voter.peers:
            self.network.disconnect(voter, self.voters[peer])
        if power:
            voter.disk.power_cut()
        else:
            voter.disk.killed()
        if down_s is None:
            down_s = self.chance.uniform(0.002, self.chance.choice((0.01, 0.2, 1.2)))
        self.at(self.now + down_s, lambda: self.start(voter))

    # ---- the end

    def _converged(self) -> bool:
        voters = list(self.voters.values())
        if not all(v.alive for v in voters) or not all(c.idle for c in self._clients):
            return False
        rafts = [v.driver.raft for v in voters]
        leaders = [r for r in rafts if r.is_leader]
        return (
            len(leaders) == 1
            and all(r.applied_index == leaders[0].journal.last_index for r in rafts)
            and leaders[0].leads_its_term
        )

    def _check_end(self) -> None:
        self.checks.check_stamps()
        states = {v.machine.digest() for v in self.voters.values()}
        if len(states) != 1:
            raise Violation("the voters' states differ at the end")
        for voter in self.voters.values():
            self.history.check_final(voter.name, voter.machine.values)
            self._installed += voter.driver.snapshots.installed

    def _describe(self, voter: SimulatedVoter) -> str:
        if not voter.alive:
            return f"{voter.name} is down"
        raft = voter.driver.raft
        role = "leads" if raft.is_leader else "follows"
        log = f"log {raft.journal.base_index}-{raft.journal.last_index}, applied {raft.applied_index}"
        return f"{voter.name} {role} term {raft.term}, {log}"

    def _report(self) -> Report:
        return Report(
            seed=self.seed,
            writes=self.history.writes,
            reads=self.history.reads,
            events=self._events,
            terms=len(self.checks.leaders),
            commits=self.checks.last_committed,
            snapshots_installed=self._installed,
            messages=self.network.sent,
            lost_messages=self.network.lost,
            starts=sum(v.life for v in self.voters.values()),
            faults=dict(self.faults.counts),
            fingerprint=self._fingerprint,
        )

    def note(self, text: str) -> None:
        """Keep a line for the trace."""
        if self.trace.maxlen:
            self.trace.append(f"{self.now:9.4f} {text}")
