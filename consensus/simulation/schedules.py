"""Sequences of faults that chance alone meets too rarely: who fails is drawn, and when, but the order is given."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consensus.simulation.voter import SimulatedVoter
    from consensus.simulation.world import World


def _cast(world: "World") -> "list[SimulatedVoter] | None":
    """Return the leader and then the others in chance order, or None unless all run and one leads."""
    voters = list(world.voters.values())
    leaders = [v for v in voters if v.alive and v.driver.raft.is_leader]
    if len(leaders) != 1 or not all(v.alive for v in voters):
        return None
    others = [v for v in voters if v is not leaders[0]]
    world.chance.shuffle(others)
    return [leaders[0], *others]


def _deaf(world: "World", sender: "SimulatedVoter", but: "tuple[SimulatedVoter, ...]" = ()) -> set[tuple[str, str]]:
    """Cut what a voter says to all others but some."""
    pairs = {(sender.name, n) for n in world.voters if n != sender.name and n not in {v.name for v in but}}
    world.network.cut |= pairs
    return pairs


def contested_vote(world: "World") -> None:
    """Two voters campaign in one term while a third, who has voted, loses power and hears the second one after it."""
    cast = _cast(world)
    if cast is None:
        return
    leader, first, second, voter, other = cast
    now, chance = world.now, world.chance
    pairs = {(first.name, second.name), (second.name, first.name), (first.name, other.name)}
    world.network.cut |= pairs
    world.stop(leader, power=True, down_s=0.4)
    for candidate in (first, second):
        world.at(now + 0.001, candidate.lose_patience, candidate)
    second_sleeps = now + chance.uniform(0.002, 0.004)
    world.at(second_sleeps, lambda: second.pause(chance.uniform(0.005, 0.03)))
    world.at(now + chance.uniform(0.006, 0.015), lambda: world.stop(voter, power=True, down_s=0.001))
    world.at(now + 0.2, lambda: world.network.cut.difference_update(pairs))


def stale_majority(world: "World") -> None:
    """The case of Raft's figure 8: an entry of an old term reaches a majority, but nothing of the new term does."""
    cast = _cast(world)
    if cast is None:
        return
    old, companion, rival, _, _ = cast
    chance, cut = world.chance, world.network.cut
    steps: list[tuple[float, Callable[[], object]]] = [
        (chance.uniform(0.03, 0.08), lambda: world.stop(old, power=False, down_s=0.03)),
        (0.001, lambda: _deaf(world, companion)),
        (0.001, rival.expire_if_alive),
        (chance.uniform(0.003, 0.009), lambda: _deaf(world, rival)),
        (chance.uniform(0.005, 0.02), lambda: world.stop(rival, power=False, down_s=0.06)),
        (0.012, cut.clear),
        (chance.uniform(0.001, 0.02), old.expire_if_alive),
        (chance.uniform(0.006, 0.02), lambda: _deaf(world, old)),
        (chance.uniform(0.002, 0.01), lambda: world.stop(old, power=False, down_s=0.2)),
        (0.03, cut.clear),
        (chance.uniform(0.005, 0.03), rival.expire_if_alive),
    ]
    _deaf(world, old, (companion,))
    at = world.now
    for delay, step in steps:
        at += delay
        world.at(at, step)
