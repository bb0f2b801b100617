"""A network that delays, loses, repeats and reorders messages and is cut in one direction or both."""

from functools import partial
from typing import TYPE_CHECKING

from consensus import messages as m
from consensus.replication import MAX_BACKLOG_BYTES

if TYPE_CHECKING:
    from consensus.simulation.voter import SimulatedVoter
    from consensus.simulation.world import World


class SimulatedNetwork:
    """Links between processes; a link is up from a while after both run until one ends."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._links: set[tuple[str, str]] = set()  # both directions
        self.cut: set[tuple[str, str]] = set()  # from, to
        self.loss = 0.0
        self.slowness = 1.0
        self.sent = self.lost = self.repeated = 0

    def send(self, sender: "SimulatedVoter", to: str, data: bytes) -> bool:
        """Deliver a message later, perhaps twice, perhaps never; False if there is no link."""
        if (sender.name, to) not in self._links:
            return False
        world, chance = self._world, self._world.chance
        self.sent += 1
        if (sender.name, to) in self.cut or chance.random() < self.loss:
            self.lost += 1
            return True
        copies = 2 if chance.random() < 0.02 else 1
        self.repeated += copies - 1
        for _ in range(copies):
            delay = chance.uniform(0.0002, 0.003) * self.slowness
            if chance.random() < 0.02:
                delay += chance.uniform(0, 0.3)
            voter = world.voters[to]
            world.at(world.now + sender.spent + delay, partial(self._deliver, sender.name, voter, data), voter)
        return True

    def _deliver(self, sender: str, voter: "SimulatedVoter", data: bytes) -> None:
        if (sender, voter.name) in self.cut:
            self.lost += 1
            return
        voter.driver.receive(sender, m.decode(data))

    def backlog(self, sender: "SimulatedVoter", to: str) -> int | None:
        """Return the bytes waiting to be sent to a voter, or None if there is no link."""
        if (sender.name, to) not in self._links:
            return None
        return MAX_BACKLOG_BYTES + 1 if self._world.chance.random() < 0.02 else 0

    # ---- links

    def connect(self, a: "SimulatedVoter", b: "SimulatedVoter") -> None:
        """Bring a link up if both run."""
        if a.alive and b.alive and (a.name, b.name) not in self._links:
            self._links |= {(a.name, b.name), (b.name, a.name)}
            for one, other in ((a, b), (b, a)):
                self._world.at(self._world.now, partial(one.driver.connected, other.name), one)

    def disconnect(self, a: "SimulatedVoter", b: "SimulatedVoter") -> None:
        """Bring a link down; each side hears of it at a time of its own."""
        if (a.name, b.name) not in self._links:
            return
        self._links -= {(a.name, b.name), (b.name, a.name)}
        for one, other in ((a, b), (b, a)):
            delay = self._world.chance.uniform(0, 0.05)
            self._world.at(self._world.now + delay, partial(self._lost, one, other.name), one)

    def _lost(self, voter: "SimulatedVoter", peer: str) -> None:
        if (voter.name, peer) not in self._links:
            voter.driver.disconnected(peer)
