"""What goes wrong in a simulated world: each fault is a method, chosen by the world's own chance."""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from consensus.simulation import schedules

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.simulation.voter import SimulatedVoter
    from consensus.simulation.world import World


class Faults:
    """Injects faults until told to heal."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self.counts: Counter[str] = Counter()
        self._table: list[tuple[int, Callable[[], None]]] = [
            (6, self.kill),
            (6, self.power_cut),
            (5, self.power_cut_in_step),
            (2, self.power_cut_everywhere),
            (2, self.kill_everyone),
            (4, self.pause),
            (5, self.partition),
            (4, self.one_way_cut),
            (3, self.isolate_leader),
            (3, self.loss),
            (2, self.slow_network),
            (2, self.disk_full),
            (2, self.disk_error),
            (3, self.slow_disk),
            (3, self.clock_jump),
            (3, self.flap),
            (3, self.hand_over),
            (4, self.contest),
            (4, self.contested_vote),
            (4, self.stale_majority),
            (3, self.snapshot),
        ]

    def strike(self) -> None:
        """Inject one fault and plan the next."""
        world = self._world
        if world.healing:
            return
        weights = [weight for weight, _ in self._table]
        fault = world.chance.choices([work for _, work in self._table], weights)[0]
        self.counts[fault.__name__] += 1
        world.note(fault.__name__)
        fault()
        world.at(world.now + world.chance.uniform(0.05, 0.6), self.strike)

    def heal(self) -> None:
        """End every fault and start whoever is down."""
        world = self._world
        world.network.cut.clear()
        world.network.loss, world.network.slowness = 0.0, 1.0
        for voter in world.voters.values():
            voter.paused_until = 0.0
            voter.disk.full = voter.disk.broken = False
            voter.disk.slowness = 1.0
            voter.disk.crash_in = None
            world.start(voter)

    # ---- processes and power

    def _one(self) -> "SimulatedVoter":
        return self._world.chance.choice(list(self._world.voters.values()))

    def _leader_or_any(self) -> "SimulatedVoter":
        leaders = [v for v in self._world.voters.values() if v.alive and v.driver.raft.is_leader]
        return self._world.chance.choice(leaders) if leaders and self._world.chance.random() < 0.5 else self._one()

    def kill(self) -> None:
        """The process ends at once; the operating system keeps what it wrote."""
        self._world.stop(self._leader_or_any(), power=False)

    def power_cut(self) -> None:
        """The machine loses power."""
        self._world.stop(self._leader_or_any(), power=True)

    def power_cut_in_step(self) -> None:
        """The machine loses power in the middle of work on its disk."""
        self._leader_or_any().disk.crash_in = self._world.chance.randrange(12)

    def power_cut_everywhere(self) -> None:
        """The whole site loses power."""
        for voter in self._world.voters.values():
            self._world.stop(voter, power=True)

    def kill_everyone(self) -> None:
        """All processes end; then, for some, the power fails as well."""
        for voter in self._world.voters.values():
            self._world.stop(voter, power=False)
            if self._world.chance.random() < 0.3:
                voter.disk.power_cut()

    def pause(self) -> None:
        """A process stands still (SIGSTOP, a stalled machine) while its clock runs."""
        voter = self._leader_or_any()
        voter.pause(self._world.chance.uniform(0.05, 1.2))

    # ---- network

    def _cut_for_a_while(self, pairs: set[tuple[str, str]]) -> None:
        world = self._world
        world.network.cut |= pairs
        world.at(world.now + world.chance.uniform(0.1, 1.5), lambda: world.network.cut.difference_update(pairs))

    def partition(self) -> None:
        """Two groups of voters do not hear each other."""
        names = list(self._world.voters)
        self._world.chance.shuffle(names)
        size = self._world.chance.randrange(1, len(names))
        some, others = names[:size], names[size:]
        self._cut_for_a_while({(a, b) for a in some for b in others} | {(b, a) for a in some for b in others})

    def one_way_cut(self) -> None:
        """A voter is heard but hears nothing, or the other way round."""
        one, hears = self._leader_or_any().name, self._world.chance.random() < 0.5
        others = [n for n in self._world.voters if n != one and self._world.chance.random() < 0.7]
        self._cut_for_a_while({(one, n) if hears else (n, one) for n in others})

    def isolate_leader(self) -> None:
        """The leader is cut off while clients still reach it."""
        one = self._leader_or_any().name
        others = [n for n in self._world.voters if n != one]
        self._cut_for_a_while({(one, n) for n in others} | {(n, one) for n in others})

    def loss(self) -> None:
        """A part of all messages is lost."""
        self._world.network.loss = self._world.chance.choice((0.0, 0.05, 0.3))

    def slow_network(self) -> None:
        """Messages take longer, and overtake one another more."""
        self._world.network.slowness = self._world.chance.choice((1.0, 5.0, 30.0))

    def flap(self) -> None:
        """A connection breaks and comes back."""
        world = self._world
        a, b = world.chance.sample(list(world.voters.values()), 2)
        world.network.disconnect(a, b)
        world.at(world.now + world.chance.uniform(0.06, 0.4), lambda: world.network.connect(a, b))

    # ---- disks and clocks

    def disk_full(self) -> None:
        """Writes are refused after a part of them."""
        self._leader_or_any().disk.full = True

    def disk_error(self) -> None:
        """Syncs fail, and the operating system forgets what was not written."""
        self._leader_or_any().disk.broken = True

    def slow_disk(self) -> None:
        """Syncs take a hundred times longer, or the usual time again."""
        self._one().disk.slowness = self._world.chance.choice((1.0, 20.0, 100.0))

    def clock_jump(self) -> None:
        """Somebody sets a wall clock, by up to a day."""
        self._one().wall_offset_ms += self._world.chance.randrange(-86_400_000, 86_400_000)

    # ---- what operators do

    def hand_over(self) -> None:
        """The leader is asked to hand over."""
        voter = self._leader_or_any()
        if voter.alive:
            self._world.at(self._world.now, lambda: voter.driver.transfer(None), voter)

    def contest(self) -> None:
        """The leader dies and the patience of several voters ends at nearly the same moment, while others restart."""
        world = self._world
        names = list(world.voters)
        world.chance.shuffle(names)
        for name in names[:3]:
            voter = world.voters[name]
            if voter.alive and not voter.driver.raft.is_leader:
                world.at(world.now + world.chance.uniform(0, 0.02), voter.lose_patience, voter)
        for voter in world.voters.values():
            if voter.alive and voter.driver.raft.is_leader:
                world.stop(voter, power=True)
        for name in names[3:]:
            restarts_at = world.now + world.chance.uniform(0, 0.04)
            world.at(restarts_at, partial(world.stop, world.voters[name], power=True))

    def contested_vote(self) -> None:
        """See `schedules`."""
        schedules.play(self._world, schedules.contested_vote(self._world))

    def stale_majority(self) -> None:
        """See `schedules`."""
        schedules.play(self._world, schedules.stale_majority(self._world))

    def snapshot(self) -> None:
        """A snapshot is asked for."""
        voter = self._one()
        if voter.alive:
            self._world.at(self._world.now, lambda: voter.driver.snapshot_nowait(lambda _ok: None), voter)
