"""Eight real gossip processes in eight network namespaces: deaths, farewells, pauses, partitions, loss, attackers.

Needs root, iproute2 and nftables. Sizes and durations that take longer are measured by `benchmarks/membership.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest

from benchmarks.membership_lab import PORT, Cluster, Network, available

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

SIZE = 8
OUTSIDER = SIZE + 1  # a namespace on the same bridge without a member in it

ATTACK = """
import os, random, socket, struct, sys
targets = [("10.98.0.%d" % i, int(sys.argv[1])) for i in range(1, int(sys.argv[2]) + 1)]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(4000):
    udp.sendto(os.urandom(random.randint(0, 1400)), random.choice(targets))
for size in (0, 1, 28, 53, 1500, 9000, 60000):
    for target in targets:
        udp.sendto(bytes([1]) + os.urandom(size), target)
held = []
for target in targets:
    for payload in (b"", b"\\0", struct.pack(">H", 65535) + b"A" * 65535, struct.pack(">H", 100) + os.urandom(100)):
        for _ in range(20):
            tcp = socket.create_connection(target, 2)
            tcp.sendall(payload)
            held.append(tcp)
"""


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    reason = available()
    assert not reason, f"These tests cannot run here: {reason}."
    with Network(SIZE + 1, "t") as network:
        async with Cluster(network) as cluster:
            for index in range(1, SIZE + 1):
                await cluster.start(index)
            assert await cluster.converge(20) is not None
            await asyncio.sleep(2)
            yield cluster


async def test_a_killed_member_is_known_dead_by_all_and_nobody_else_is(cluster: Cluster) -> None:
    """kill -9, three times; the replacement is seen as a new boot."""
    for victim in (4, 6, 8):
        others = [i for i in cluster.running if i != victim]
        at = await cluster.kill(victim)
        assert await cluster.until(lambda v=victim, o=others, t=at: set(cluster.told("dead", v, t)) == set(o), 8)
        assert cluster.false_deaths(at, victim) == []
        since = time.monotonic()
        await cluster.start(victim)
        boot = f"boot-{cluster.boots[victim]}"
        joined = lambda v=victim, o=others, t=since, b=boot: set(cluster.told("joined", v, t, b)) == set(o)  # noqa: E731
        assert await cluster.until(joined, 5) is not None
        await cluster.converge(10)


async def test_a_terminated_member_is_known_to_have_left(cluster: Cluster) -> None:
    """SIGTERM: `left` within a second at everyone, never `dead`."""
    at = await cluster.stop(5)
    others = [i for i in cluster.running if i != 5]
    assert await cluster.until(lambda: set(cluster.told("left", 5, at)) == set(others), 2) is not None
    await asyncio.sleep(6)
    assert cluster.told("dead", 5, at) == {}


async def test_a_pause_of_two_seconds_is_survived_and_one_of_ten_is_healed(cluster: Cluster) -> None:
    """SIGSTOP and SIGCONT."""
    since = cluster.signal(5, signal.SIGSTOP)
    await asyncio.sleep(2)
    cluster.signal(5, signal.SIGCONT)
    await asyncio.sleep(6)
    assert cluster.false_deaths(since) == []
    since = cluster.signal(5, signal.SIGSTOP)
    await asyncio.sleep(10)
    assert len(cluster.told("dead", 5, since)) == SIZE - 1
    cluster.signal(5, signal.SIGCONT)
    assert await cluster.converge(4) is not None
    assert cluster.false_deaths(since, 5) == []


async def test_a_partition_heals_by_itself(cluster: Cluster) -> None:
    """Both halves bury each other, nobody of their own, and merge within ten seconds."""
    since = time.monotonic()
    halves = [set(range(1, 5)), set(range(5, 9))]
    cluster.network.part(*halves)
    await asyncio.sleep(20)
    deaths = cluster.false_deaths(since)
    assert len({(d.by, d.subject) for d in deaths}) == 32
    assert not [d for d in deaths for half in halves if {d.by, d.subject} <= half]
    cluster.network.heal()
    assert await cluster.converge(12) is not None


async def test_lost_packets_bury_nobody(cluster: Cluster) -> None:
    """Twenty seconds at thirty per cent loss."""
    since = time.monotonic()
    cluster.network.lose(0.3)
    await asyncio.sleep(20)
    assert cluster.false_deaths(since) == []
    cluster.network.heal()
    assert await cluster.converge(15) is not None


async def test_an_attacker_without_the_key_changes_nothing(cluster: Cluster) -> None:
    """Floods of random, truncated and oversized packets, held and lying connections: no event, no growth, no crash."""
    memory_mb = {i: cluster.rss_mb(i) for i in cluster.running}
    since = time.monotonic()
    attacker = await asyncio.create_subprocess_exec(
        *("ip", "netns", "exec", cluster.network.namespace(OUTSIDER)),
        *(sys.executable, "-c", ATTACK, str(PORT), str(SIZE)),
    )
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(attacker.wait(), 20)
    assert attacker.returncode == 0
    await asyncio.sleep(5)
    assert [h for h in cluster.heard if h.at >= since and h.kind not in ("suspect", "alive")] == []
    assert cluster.converged()
    assert len(cluster.running) == SIZE
    assert max(cluster.rss_mb(i) - memory_mb[i] for i in cluster.running) < 10
