"""Timeouts: one clock, stretched under load, and no waiting for them when the leader's link is lost."""

import asyncio
import random
import time
from pathlib import Path

import pysyncobj.syncobj as library
import pytest

from consensus import Replica, ReplicaSettings
from consensus.ledger import Ledger
from consensus.pace import HALF_LIFE_S, STRETCH_MAX, Pace
from tests.unit.consensus.cluster import leader_of, put, settings_of, until


def test_an_undisturbed_voter_keeps_the_configured_timeouts() -> None:
    """Silences of a heartbeat change nothing."""
    pace = Pace((0.3, 0.6))
    for beat in range(100):
        pace.silence(0.05, beat * 0.05)
    assert (pace.low(5.0), pace.high(5.0)) == (0.3, 0.6)


def test_a_silence_that_a_living_leader_survived_stretches_the_timeouts() -> None:
    """A timeout is three times the longest silence of a living leader, until that is forgotten."""
    pace = Pace((0.3, 0.6))
    pace.silence(0.15, 10.0)
    assert pace.low(10.0) == pytest.approx(0.45)
    assert pace.high(10.0) == pytest.approx(0.9)
    assert pace.low(10.0 + HALF_LIFE_S) == 0.3


def test_one_silence_at_most_doubles_and_many_are_bounded() -> None:
    """A partition is no sign of a slow machine; no load makes a dead leader go unnoticed."""
    pace = Pace((0.3, 0.6))
    pace.silence(60.0, 0.0)
    assert pace.low(0.0) == pytest.approx(0.6)
    for _ in range(20):
        pace.silence(60.0, 0.0)
    assert pace.low(0.0) == pytest.approx(0.3 * STRETCH_MAX)


def test_any_silences_keep_the_timeouts_ordered_and_bounded() -> None:
    """Whatever is observed, low < high, both within their bounds."""
    chance = random.Random(7)
    pace, now = Pace((0.15, 0.3)), 0.0
    for _ in range(2000):
        now += chance.expovariate(1.0)
        pace.silence(chance.expovariate(3.0), now)
        assert 0.15 <= pace.low(now) < pace.high(now) <= 0.3 * STRETCH_MAX


def test_the_library_reads_the_clock_that_we_read() -> None:
    """Two clocks that drift apart would delay heartbeats by the drift, which grows with the machine's uptime."""
    assert library.monotonicTime is time.monotonic


async def test_a_dead_leader_is_replaced_at_once_when_its_links_close(tmp_path: Path) -> None:
    """With timeouts of many seconds, the voters elect and commit as soon as the leader's connections are gone."""
    settings = settings_of(tmp_path, 5, election_ms=(300, 600))
    slow = [ReplicaSettings(**{**_fields(s), "election_ms": (20_000, 40_000)}) for s in settings]
    slow[0] = settings[0]  # campaigns first
    replicas = [await Replica(s, Ledger()).__aenter__() for s in slow]
    try:
        leader = await leader_of(replicas)
        await leader.propose([put("a")])
        started = time.monotonic()
        await leader.__aexit__(None, None, None)
        rest = [r for r in replicas if r is not leader]
        await until(lambda: any(r.role().is_leader and r.role().ready for r in rest), 5.0)
        await (await leader_of(rest)).propose([put("b", seq=2)])
        assert time.monotonic() - started < 5.0
    finally:
        await asyncio.gather(*(r.__aexit__(None, None, None) for r in replicas))


async def test_a_lost_link_to_a_living_leader_changes_nothing(tmp_path: Path) -> None:
    """The others still hear the leader, so that they refuse; the link is dialled again."""
    replicas = [await Replica(s, Ledger()).__aenter__() for s in settings_of(tmp_path, 3)]
    try:
        leader = await leader_of(replicas)
        await until(lambda: all(r.role().leader_id == leader.settings.node_id for r in replicas))
        term = leader.role().term
        follower = next(r for r in replicas if r is not leader)
        assert follower._transport is not None
        for _ in range(3):
            links, old = follower._transport._links, follower._transport._links[leader.settings.node_id]
            old.drop()
            await until(lambda: links.get(leader.settings.node_id) not in (None, old))  # noqa: B023
            await asyncio.sleep(0.1)
        assert leader.role().is_leader
        assert leader.role().term == term
    finally:
        await asyncio.gather(*(r.__aexit__(None, None, None) for r in replicas))


def _fields(settings: ReplicaSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__struct_fields__}
