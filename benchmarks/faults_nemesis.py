"""The faults, one at a time: each is injected, held for a while and taken back."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.faults_lab import VOTERS, Lab

SNAPSHOT_S = 20.0
LEADER_S = 60.0


@dataclass(frozen=True)
class Fault:
    """What is done, and what it needs."""

    inject: Callable[[Lab, random.Random], Awaitable[None]]
    network: bool = False  # needs namespaces


async def _leader(lab: Lab) -> str:
    async with asyncio.timeout(LEADER_S):
        while (leader := await lab.leader()) is None:
            await asyncio.sleep(0.02)
    return leader


async def _kill(lab: Lab, chance: random.Random, *victims: str) -> None:
    await lab.kill(*victims)
    await asyncio.sleep(chance.uniform(0.3, 2))


async def kill_leader(lab: Lab, chance: random.Random) -> None:
    """kill -9 of the leader."""
    await _kill(lab, chance, await _leader(lab))


async def kill_followers(lab: Lab, chance: random.Random) -> None:
    """kill -9 of two followers at once."""
    leader = await _leader(lab)
    await _kill(lab, chance, *chance.sample([v for v in lab.running if v != leader], 2))


async def kill_majority(lab: Lab, chance: random.Random) -> None:
    """kill -9 of the leader and two followers at once."""
    leader = await _leader(lab)
    await _kill(lab, chance, leader, *chance.sample([v for v in lab.running if v != leader], 2))


async def kill_all_in_snapshot(lab: Lab, chance: random.Random) -> None:
    """kill -9 of all five while a snapshot is written, published, or the log cut behind it."""
    await lab.until(lab.writes_a_snapshot, SNAPSHOT_S)
    await asyncio.sleep(chance.choice((0, 0.005, 0.02, 0.05, 0.06)))
    await lab.kill(*lab.running)


async def pause_leader(lab: Lab, chance: random.Random) -> None:
    """SIGSTOP and SIGCONT of the leader."""
    await _pause(lab, chance, await _leader(lab))


async def pause_followers(lab: Lab, chance: random.Random) -> None:
    """SIGSTOP and SIGCONT of two followers."""
    leader = await _leader(lab)
    await _pause(lab, chance, *chance.sample([v for v in lab.running if v != leader], 2))


async def _pause(lab: Lab, chance: random.Random, *victims: str) -> None:
    lab.signal(signal.SIGSTOP, *victims)
    await asyncio.sleep(chance.choice((0.4, 1, 2, 5)))
    lab.signal(signal.SIGCONT, *victims)


def _indices(*voters: str) -> list[int]:
    return [VOTERS.index(v) + 1 for v in voters]


async def partition(lab: Lab, chance: random.Random) -> None:
    """The leader and one follower on one side, three on the other."""
    leader = await _leader(lab)
    few = [leader, chance.choice([v for v in VOTERS if v != leader])]
    await _cut(lab, chance, few, [v for v in VOTERS if v not in few], both=True)


async def isolate_leader(lab: Lab, chance: random.Random) -> None:
    """The leader alone."""
    leader = await _leader(lab)
    await _cut(lab, chance, [leader], [v for v in VOTERS if v != leader], both=True)


async def deaf_leader(lab: Lab, chance: random.Random) -> None:
    """The leader is heard by all and hears nobody."""
    leader = await _leader(lab)
    await _cut(lab, chance, [v for v in VOTERS if v != leader], [leader])


async def mute_leader(lab: Lab, chance: random.Random) -> None:
    """The leader hears all and is heard by nobody."""
    leader = await _leader(lab)
    await _cut(lab, chance, [leader], [v for v in VOTERS if v != leader])


async def random_cuts(lab: Lab, chance: random.Random) -> None:
    """A random half of all directed links."""
    assert lab.network is not None
    for voter in VOTERS:
        lab.network.cut(_indices(voter), _indices(*chance.sample(VOTERS, 2)))
    await asyncio.sleep(chance.uniform(1, 4))
    lab.network.heal()


async def _cut(
    lab: Lab, chance: random.Random, senders: list[str], receivers: list[str], *, both: bool = False
) -> None:
    assert lab.network is not None
    lab.network.cut(_indices(*senders), _indices(*receivers))
    if both:
        lab.network.cut(_indices(*receivers), _indices(*senders))
    await asyncio.sleep(chance.uniform(1, 5))
    lab.network.heal()


async def kill_in_partition(lab: Lab, chance: random.Random) -> None:
    """The leader and one follower cut off from three others, of which one is killed and comes back: no majority."""
    assert lab.network is not None
    leader = await _leader(lab)
    few = [leader, chance.choice([v for v in VOTERS if v != leader])]
    many = [v for v in VOTERS if v not in few]
    lab.network.cut(_indices(*few), _indices(*many))
    lab.network.cut(_indices(*many), _indices(*few))
    await asyncio.sleep(chance.uniform(0, 1.5))
    await _kill(lab, chance, chance.choice(many))
    await lab.restart_the_dead()
    await asyncio.sleep(chance.uniform(0, 2))
    lab.network.heal()


async def flapping_links(lab: Lab, chance: random.Random) -> None:
    """The leader's links are cut and healed ten times within seconds, each time in one direction or both."""
    assert lab.network is not None
    for _ in range(10):
        leader = await _leader(lab)
        others = [v for v in VOTERS if v != leader]
        if chance.random() < 0.6:
            lab.network.cut(_indices(leader), _indices(*others))
        if chance.random() < 0.6:
            lab.network.cut(_indices(*others), _indices(leader))
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        lab.network.heal()
        await asyncio.sleep(chance.uniform(0.05, 0.2))


async def rolling_kills(lab: Lab, chance: random.Random) -> None:
    """kill -9 of one voter after the other, the next as soon as the last one answers."""
    for voter in chance.sample(VOTERS, len(VOTERS)):
        await lab.kill(voter)
        await lab.start(voter)


async def full_disk(lab: Lab, chance: random.Random) -> None:
    """No space left on one voter's file system: it stops by itself; the space is then freed."""
    lab.fill_disk()
    assert await lab.until(lambda: VOTERS[-1] not in lab.running, 20), "a voter goes on with a full disk"
    await asyncio.sleep(chance.uniform(0.2, 1))
    lab.free_disk()


async def failing_disk_of_leader(lab: Lab, chance: random.Random) -> None:
    """The leader's disk refuses every further byte: it stops by itself before it acknowledges anything more."""
    leader = await _leader(lab)
    lab.forbid_growth(leader)
    assert await lab.until(lambda: leader not in lab.running, 20), "a voter goes on with a disk that refuses"
    await asyncio.sleep(chance.uniform(0.2, 1))


async def lossy_network(lab: Lab, chance: random.Random) -> None:
    """A tenth of all packets is lost."""
    assert lab.network is not None
    lab.network.lose(0.1)
    await asyncio.sleep(chance.uniform(2, 4))
    lab.network.heal()


FAULTS = {
    "kill_leader": Fault(kill_leader),
    "kill_followers": Fault(kill_followers),
    "kill_majority": Fault(kill_majority),
    "kill_all_in_snapshot": Fault(kill_all_in_snapshot),
    "pause_leader": Fault(pause_leader),
    "pause_followers": Fault(pause_followers),
    "partition": Fault(partition, network=True),
    "isolate_leader": Fault(isolate_leader, network=True),
    "deaf_leader": Fault(deaf_leader, network=True),
    "mute_leader": Fault(mute_leader, network=True),
    "random_cuts": Fault(random_cuts, network=True),
    "lossy_network": Fault(lossy_network, network=True),
    "kill_in_partition": Fault(kill_in_partition, network=True),
    "flapping_links": Fault(flapping_links, network=True),
    "rolling_kills": Fault(rolling_kills),
    "full_disk": Fault(full_disk, network=True),
    "failing_disk_of_leader": Fault(failing_disk_of_leader),
}
