"""Members by heartbeat, and their merge with those by gossip."""

from __future__ import annotations

import asyncio

import pytest

from membership.api import Event, MembershipError, State
from membership.memory import MemoryMembership, MemoryNetwork
from membership.merge import Merged
from membership.presence import Presence


def kinds(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.kind, event.member.boot_id) for event in events if event.member is not None]


def test_a_silent_worker_is_suspected_at_half_and_dead_at_the_whole_time_to_live() -> None:
    """Measured from its last beat, to the millisecond."""
    presence = Presence(ttl_ms=4000)
    assert kinds(presence.beat("w", "b1", 1, {"gpu": "H100"}, 1000)) == [("joined", "b1")]
    assert presence.expire(2999) == []
    assert kinds(presence.expire(3000)) == [("suspect", "b1")]
    assert presence.expire(4999) == []
    assert kinds(presence.expire(5000)) == [("dead", "b1")]
    assert presence.expire(6000) == []
    assert kinds(presence.beat("w", "b1", 2, {"gpu": "H100"}, 7000)) == [("alive", "b1")]


def test_a_beat_that_is_not_newer_changes_nothing() -> None:
    """Late and repeated beats neither prolong nor update."""
    presence = Presence(ttl_ms=4000)
    presence.beat("w", "b1", 5, {"load": 1}, 0)
    assert presence.beat("w", "b1", 5, {"load": 2}, 3000) == []
    assert presence.beat("w", "b1", 4, {"load": 2}, 3000) == []
    assert kinds(presence.expire(4000)) == [("dead", "b1")]
    assert kinds(presence.beat("w", "b1", 6, {"load": 2}, 4001)) == [("alive", "b1")]
    assert kinds(presence.beat("w", "b1", 7, {"load": 3}, 4002)) == [("updated", "b1")]


def test_a_new_boot_ends_the_old_one_whose_late_beats_are_ignored() -> None:
    """However the two boots' beats interleave on the way."""
    presence = Presence(ttl_ms=4000)
    presence.beat("w", "b1", 100, {}, 0)
    assert kinds(presence.beat("w", "b2", 1, {}, 500)) == [("dead", "b1"), ("joined", "b2")]
    assert presence.beat("w", "b1", 101, {}, 600) == []
    member = presence.get("w")
    assert member is not None
    assert (member.boot_id, member.state, member.via) == ("b2", State.ALIVE, "lease")


def test_a_farewell_is_final_for_its_boot() -> None:
    """A beat that crossed the farewell does not bring the worker back; a new boot does."""
    presence = Presence()
    presence.beat("w", "b1", 1, {}, 0)
    assert presence.depart("w", "other", 10) == []
    assert kinds(presence.depart("w", "b1", 10)) == [("left", "b1")]
    assert presence.beat("w", "b1", 2, {}, 20) == []
    assert presence.expire(100_000) == []
    assert kinds(presence.beat("w", "b2", 1, {}, 30)) == [("joined", "b2")]


def test_a_new_leader_grants_everyone_a_whole_time_to_live() -> None:
    """What it did not hear before it led is nobody's silence."""
    presence = Presence(ttl_ms=4000)
    presence.beat("w", "b1", 1, {}, 0)
    presence.grant_again(3900)
    assert presence.expire(5000) == []
    assert [kind for kind, _ in kinds(presence.expire(7900))] == ["dead"]


def test_a_new_leader_forgets_whom_it_held_for_dead() -> None:
    """Beats that stopped here may have gone to another voter; whoever is registered is expected anew."""
    presence = Presence(ttl_ms=4000)
    presence.beat("w", "b1", 1, {}, 0)
    presence.expire(4000)
    presence.grant_again(5000)
    assert presence.get("w") is None
    assert kinds(presence.expect("w", "b1", 5000)) == [("joined", "b1")]
    assert presence.expect("w", "b1", 6000) == []
    assert [kind for kind, _ in kinds(presence.expire(8999))] == ["suspect"]
    assert [kind for kind, _ in kinds(presence.expire(9000))] == ["dead"]
    assert kinds(presence.beat("w", "b1", 1, {}, 9001)) == [("alive", "b1")]


def test_who_does_not_hear_all_beats_forgets_and_buries_nobody() -> None:
    """A follower's silence is no verdict, and no event."""
    presence = Presence(ttl_ms=4000)
    presence.beat("w", "b1", 1, {}, 0)
    presence.beat("v", "b1", 1, {}, 3000)
    presence.forget_silent(4000)
    assert [member.id for member in presence.members()] == ["v"]


def test_the_long_gone_are_forgotten() -> None:
    """Memory holds who was here in the last hour."""
    presence = Presence()
    presence.beat("w", "b1", 1, {}, 0)
    presence.expire(4000)
    presence.expire(4000 + 3_600_001)
    assert presence.members() == []


def test_presence_has_nothing_of_its_own_to_set() -> None:
    """The refusal says whom to ask."""
    with pytest.raises(MembershipError, match="time to live"):
        Presence(ttl_ms=0)


async def test_presence_refuses_keys_and_metadata() -> None:
    """Heartbeats travel on streams that are authenticated elsewhere."""
    presence = Presence()
    for attempt in (presence.set_metadata(a=1), presence.install_key("k", bytes(32)), presence.use_key("k")):
        with pytest.raises(MembershipError, match="ask the gossip"):
            await attempt


class Pair:
    """A voter's merged view, the network that its gossip sees, and its presence."""

    def __init__(self) -> None:
        self.network = MemoryNetwork()
        self.presence = Presence(ttl_ms=4000)
        self.merged = Merged(MemoryMembership(self.network, "voter-1"), self.presence)

    async def gossiper(self, node_id: str, boot_id: str) -> MemoryMembership:
        return await MemoryMembership(self.network, node_id, boot_id, "worker").__aenter__()

    def shown(self) -> dict[str, tuple[str, str, str]]:
        return {m.id: (m.boot_id, m.state.value, m.via) for m in self.merged.members() if m.id != "voter-1"}


async def test_the_merged_view_holds_both_kinds_and_tells_which() -> None:
    """`via` is gossip or lease."""
    pair = Pair()
    async with pair.merged:
        await pair.gossiper("w1", "b1")
        pair.presence.beat("w2", "b1", 1, {}, 0)
        assert pair.shown() == {"w1": ("b1", "alive", "gossip"), "w2": ("b1", "alive", "lease")}


async def test_a_member_lost_by_one_road_is_still_present_by_the_other() -> None:
    """Two roads to one boot: the better news wins, and only the loss of both is an event."""
    pair = Pair()
    async with pair.merged:
        events = pair.merged.events()
        await pair.gossiper("w", "b1")
        pair.presence.beat("w", "b1", 1, {}, 0)
        pair.network.crash("w")
        assert pair.shown()["w"] == ("b1", "alive", "lease")
        pair.presence.expire(4000)
        assert pair.shown()["w"][1] == "dead"
        seen: list[Event] = []
        while not any(event.kind == "dead" for event in seen):
            seen.append(await asyncio.wait_for(anext(events), 1))
        assert [kind for kind, _ in kinds(seen)].count("dead") == 1


async def test_the_newest_boot_wins_whichever_road_it_came_by() -> None:
    """A restarted worker is its new boot, also while its old boot is not yet known to be dead by the other road."""
    pair = Pair()
    async with pair.merged:
        await pair.gossiper("w", "b1")
        pair.presence.beat("w", "b1", 1, {}, 0)
        await asyncio.sleep(0)
        events = pair.merged.events()
        pair.presence.beat("w", "b2", 1, {}, 100)
        assert pair.shown()["w"] == ("b2", "alive", "lease")
        seen: list[Event] = []
        while not any(event.kind == "joined" for event in seen):
            seen.append(await asyncio.wait_for(anext(events), 1))
        assert ("dead", "b1") in kinds(seen)
        assert ("joined", "b2") in kinds(seen)


async def test_two_roads_that_hold_a_boot_for_dead_are_two_observers() -> None:
    """Missing heartbeats confirm one accuser's finding."""
    pair = Pair()
    async with pair.merged:
        await pair.gossiper("w", "b1")
        pair.presence.beat("w", "b1", 1, {}, 0)
        pair.network.crash("w")
        pair.presence.expire(4000)
        by_gossip, by_lease, merged = pair.merged._gossip.get("w"), pair.presence.get("w"), pair.merged.get("w")
        assert by_gossip
        assert by_lease
        assert merged
        assert merged.observers == by_gossip.observers + by_lease.observers >= 2


async def test_a_farewell_by_gossip_outweighs_a_heartbeat_of_a_moment_ago() -> None:
    """A process that says farewell for its agent is not waited for until the heartbeats run out."""
    pair = Pair()
    async with pair.merged:
        worker = await pair.gossiper("w", "b1")
        pair.presence.beat("w", "b1", 1, {}, 0)
        await worker.leave()
        assert pair.shown()["w"][1] == "left"
        pair.presence.beat("w", "b2", 1, {}, 10)
        assert pair.shown()["w"] == ("b2", "alive", "lease")


def test_so_many_members_are_held_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes beyond is told so, those that are held go on, and who is expected is not taken either."""
    monkeypatch.setattr("membership.presence._MEMBERS_MAX", 2)
    presence = Presence(ttl_ms=4000)
    for name in ("a", "b"):
        presence.beat(name, "boot", 1, {}, 0)
    with pytest.raises(MembershipError, match="holds 2 members; no more"):
        presence.beat("c", "boot", 1, {}, 0)
    assert presence.expect("d", "boot", 0) == []
    presence.beat("a", "boot", 2, {}, 1)
    assert {member.id for member in presence.members()} == {"a", "b"}
