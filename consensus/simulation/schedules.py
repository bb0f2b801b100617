"""Sequences of faults that chance alone meets too rarely: who fails is drawn, and when, but the order is given.

A schedule is a generator that yields how long to wait, or a condition to wait for.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from consensus.simulation.voter import SimulatedVoter
    from consensus.simulation.world import World

Schedule = Iterator[float | Callable[[], bool]]
POLL_S = 0.0003
PATIENCE_S = 0.1  # for a condition; then the schedule ends


def play(world: "World", schedule: Schedule) -> None:
    """Run a schedule to its end, or until a condition does not come true in time."""
    wait = next(schedule, None)
    if wait is None:
        return
    if isinstance(wait, float):
        world.at(world.now + wait, lambda: play(world, schedule))
    else:
        _poll(world, schedule, wait, world.now + PATIENCE_S)


def _poll(world: "World", schedule: Schedule, condition: Callable[[], bool], until: float) -> None:
    if condition():
        play(world, schedule)
    elif world.now < until:
        world.at(world.now + POLL_S, lambda: _poll(world, schedule, condition, until))
    else:
        world.network.cut.clear()


def _cast(world: "World") -> "list[SimulatedVoter] | None":
    """Return the leader and then the others in chance order, or None unless all run and one leads."""
    voters = list(world.voters.values())
    leaders = [v for v in voters if v.alive and v.driver.raft.is_leader]
    if len(leaders) != 1 or not all(v.alive for v in voters):
        return None
    others = [v for v in voters if v is not leaders[0]]
    world.chance.shuffle(others)
    return [leaders[0], *others]


def _mute(world: "World", sender: "SimulatedVoter", *but: "SimulatedVoter") -> None:
    """Cut what a voter says to all others but some."""
    spared = {sender.name, *(v.name for v in but)}
    world.network.cut |= {(sender.name, n) for n in world.voters if n not in spared}


def _silence(world: "World") -> None:
    """No voter has heard a leader for the shortest election timeout, and nobody's own has ended yet."""
    for voter in world.voters.values():
        if voter.alive:
            voter.driver.raft.forget_leader()


def _end(voter: "SimulatedVoter") -> tuple[int, int]:
    journal = voter.driver.raft.journal
    return journal.last_index, journal.last_term


def contested_vote(world: "World") -> Schedule:
    """Two voters campaign in one term while a third, who has voted, loses power and hears the second one after it."""
    cast = _cast(world)
    if cast is None:
        return
    leader, first, second, voter, other = cast
    chance, cut = world.chance, world.network.cut
    world.stop(leader, power=True, down_s=0.001)
    yield 0.025
    cut |= {(first.name, second.name), (second.name, first.name), (first.name, other.name), (second.name, leader.name)}
    _silence(world)
    for candidate in (first, second):
        candidate.lose_patience_soon()
    yield 0.0001
    second.pause(chance.uniform(0.02, 0.04))
    yield lambda: voter.alive and voter.driver.raft.journal.vote == first.name
    cut.add((first.name, voter.name))
    world.stop(voter, power=True, down_s=0.0005)
    yield 0.1
    cut.clear()


def stale_majority(world: "World") -> Schedule:
    """The case of Raft's figure 8: an entry of an old term reaches a majority, but nothing of the new term does."""
    cast = _cast(world)
    if cast is None:
        return
    old, companion, *others = cast
    chance, cut, term = world.chance, world.network.cut, cast[0].driver.raft.term
    _mute(world, old, companion)
    yield chance.uniform(0.02, 0.08)
    world.stop(old, power=False, down_s=0.02)
    _mute(world, companion)
    yield 0.01
    if not all(v.alive for v in others):
        return
    rival = max(others, key=lambda v: v.driver.raft.journal.last_index)
    others.remove(rival)
    known = rival.driver.raft.journal.last_index
    _silence(world)
    rival.lose_patience_soon()
    yield lambda: all(v.alive and v.driver.raft.journal.vote == rival.name for v in others)
    _mute(world, rival)
    yield lambda: rival.alive and rival.driver.raft.is_leader
    yield chance.uniform(0.002, 0.006)
    world.stop(rival, power=False, down_s=0.03)
    cut.clear()
    yield lambda: old.alive
    yield 0.02
    _silence(world)
    old.lose_patience_soon()
    yield lambda: any(v.alive and _end(v)[0] > known and _end(v)[1] == term for v in others)
    _mute(world, old)
    yield chance.uniform(0.003, 0.01)
    world.stop(old, power=False, down_s=0.2)
    yield lambda: rival.alive
    yield 0.02
    cut.clear()
    _mute(world, companion)
    _silence(world)
    rival.lose_patience_soon()
    yield 0.05
    cut.clear()
