"""One voter of a simulated world: the real `Driver` on a simulated clock, scheduler, disk and snapshot child."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consensus.driver import Driver
from consensus.journal import Entry
from consensus.ledger import Ledger
from consensus.settings import ReplicaSettings
from consensus.simulation.disk import SimulatedDisk

if TYPE_CHECKING:
    from consensus.simulation.world import World

WALL_MS = 1_700_000_000_000


class ScheduledCall:
    """A call to come; `cancel` makes it do nothing."""

    __slots__ = ("args", "work")

    def __init__(self, work: Callable[..., object], args: tuple[Any, ...]) -> None:
        self.work: Callable[..., object] | None = work
        self.args = args

    def cancel(self) -> None:
        """Forget it."""
        self.work = None

    def run(self) -> None:
        """Do it unless it was cancelled."""
        if self.work is not None:
            self.work(*self.args)


class SimulatedChild:
    """A snapshot's child: its work is done on the state at the fork, and is seen to end some time later."""

    def __init__(self, voter: "SimulatedVoter", work: Callable[[], None]) -> None:
        self._voter = voter
        self._ends_at = voter.world.now + voter.chance.uniform(0.01, 0.6)
        voter.in_child = True
        try:
            work()
            self._ok = True
        except OSError:
            self._ok = False
        finally:
            voter.in_child = False

    def poll(self) -> bool | None:
        """Return None while it runs, then whether it succeeded."""
        return None if self._voter.world.now < self._ends_at else self._ok

    def kill(self) -> None:
        """End it."""


class SimulatedVoter:
    """A voter's machine; the disk outlives its processes. It is the `Clock`, `Scheduler` and `Outbox` of its driver."""

    def __init__(self, world: "World", name: str, peers: Sequence[str]) -> None:
        self.world = world
        self.name = name
        self.peers = list(peers)
        self.chance = random.Random(f"{world.seed}/{name}")  # noqa: S311 - a seeded simulation
        self.disk = SimulatedDisk(self.chance, self._spend)
        self.settings = ReplicaSettings(
            node_id=name,
            address="127.0.0.1:1",
            peers=dict.fromkeys(peers, "127.0.0.1:1"),
            data_dir=Path("simulated"),
            cluster_id="simulated",
            election_ms=(150, 300),
            heartbeat_ms=40,
            snapshot_entries=40,
            trailing_entries=8,
            snapshot_timeout_s=0.5,
            max_batch_commands=4,
            inflight=3,
            preallocate_bytes=3000,
            digest_every=7,
        )
        self.machine: Ledger
        self.driver: Driver
        self.alive = False
        self.life = 0  # processes started
        self.paused_until = 0.0
        self.busy_until = 0.0
        self.spent = 0.0  # seconds that the present event has taken
        self.in_child = False
        self.wall_offset_ms = 0
        self.seen_entry: Entry = (b"", 0, 0)
        self.seen_commit = self.seen_applied = 0
        self._boot = 0.0
        self._rate = 1.0

    def start(self) -> None:
        """Start a process on what the disk holds."""
        self.life += 1
        self.alive = True
        self._boot = self.chance.uniform(0, 1e6)
        self._rate = self.chance.uniform(0.98, 1.02)
        self.machine = Ledger()
        chance = random.Random(f"{self.world.seed}/{self.name}/{self.life}")  # noqa: S311 - a seeded simulation
        self.driver = Driver(
            self.settings, self.machine, self.disk, self, self, self, chance, lambda work: SimulatedChild(self, work)
        )
        inner = self.driver.raft.on_applied

        def applied(index: int, entry: bytes, outcomes: Sequence[object]) -> None:
            self.world.checks.note_applied(self, index, entry)
            inner(index, entry, outcomes)

        self.driver.raft.on_applied = applied
        self.world.checks.started(self)
        self.driver.start()

    def lose_patience(self) -> None:
        """Let the election timeout, which is chance, end now."""
        self.driver.raft.expire()
        self.driver.kick()

    def lose_patience_soon(self) -> None:
        """As `lose_patience`, as this voter's next event."""
        if self.alive:
            self.world.at(self.world.now, self.lose_patience, self)

    def pause(self, seconds: float) -> None:
        """Stand still while the clock runs."""
        self.paused_until = self.world.now + seconds

    # ---- Clock

    def monotonic(self) -> float:
        """Return this machine's seconds, which run a little fast or slow."""
        return self._boot + (self.world.now + self.spent) * self._rate

    def wall_ms(self) -> int:
        """Return milliseconds since 1970, wrong by whatever the faults made of it."""
        return WALL_MS + int((self.world.now + self.spent) * 1000) + self.wall_offset_ms

    def _spend(self, seconds: float) -> None:
        if not self.in_child:
            self.spent += seconds

    # ---- Scheduler

    def call_soon(self, callback: Callable[..., object], *args: Any) -> ScheduledCall:
        """Call after the current callback."""
        return self.call_later(0.0, callback, *args)

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> ScheduledCall:
        """Call after so many of this machine's seconds."""
        call = ScheduledCall(callback, args)
        self.world.at(self.world.now + self.spent + delay / self._rate, call.run, self)
        return call

    # ---- Outbox

    def send(self, node_id: str, data: bytes) -> bool:
        """Send to a voter; False if there is no link."""
        return self.world.network.send(self, node_id, data)

    def backlog(self, node_id: str) -> int | None:
        """Return the bytes waiting to be sent to a voter, or None if there is no link."""
        return self.world.network.backlog(self, node_id)
