"""What every Membership promises: one suite for gossip over UDP, for its process's client, and for the memory twin."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import pytest

from membership.api import Event, EventKind, Membership, MembershipError, State
from membership.hub import Hub
from membership.memory import MemoryMembership, MemoryNetwork
from membership.merge import Merged
from membership.presence import Presence
from membership.process import Server
from membership.remote import RemoteMembership
from membership.service import Gossip
from membership.settings import GossipSettings

PERIOD_MS = 100  # five times the usual tempo
LIMIT_S = 20.0


class Group(Protocol):
    """Members of one kind; `kill` ends one without a farewell."""

    async def add(self, node_id: str, boot_id: str = "boot-1", role: str = "voter") -> Membership: ...

    async def kill(self, node_id: str) -> None: ...


class MemoryGroup:
    def __init__(self, _stack: AsyncExitStack, _folder: Path) -> None:
        self._network = MemoryNetwork()
        self._members: dict[str, MemoryMembership] = {}

    async def add(self, node_id: str, boot_id: str = "boot-1", role: str = "voter") -> Membership:
        member = MemoryMembership(self._network, node_id, boot_id, role, {"device": "none"})
        self._members[node_id] = await member.__aenter__()
        return member

    async def kill(self, node_id: str) -> None:
        await self._members[node_id].__aexit__(None, None, None)


class GossipGroup:
    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self._stack = stack
        self._key = folder / "first.key"
        self._key.write_text(secrets.token_hex(32))
        self._members: dict[str, Gossip] = {}

    async def add(self, node_id: str, boot_id: str = "boot-1", role: str = "voter") -> Membership:
        settings = GossipSettings(
            node_id=node_id,
            boot_id=boot_id,
            role=role,
            bind="127.0.0.1:0",
            seeds=[gossip.address for gossip in self._members.values()],
            key_files=[str(self._key)],
            period_ms=PERIOD_MS,
            metadata={"device": "none"},
        )
        gossip = await self._stack.enter_async_context(Gossip(settings))
        self._members[node_id] = gossip
        return gossip

    async def kill(self, node_id: str) -> None:
        await self._members.pop(node_id).__aexit__(None, None, None)


class MergedGroup(GossipGroup):
    async def add(self, node_id: str, boot_id: str = "boot-1", role: str = "voter") -> Membership:
        gossip = await super().add(node_id, boot_id, role)
        # The gossip is entered already; a second entry would bind again.
        merged = Merged(_Entered(gossip), Presence())  # type: ignore[arg-type]
        return await self._stack.enter_async_context(merged)


class _Entered:
    """A membership whose lifetime another owns."""

    def __init__(self, inner: Membership) -> None:
        self._inner = inner

    async def __aenter__(self) -> Membership:
        return self._inner

    async def __aexit__(self, *_: object) -> None:
        """Leave it to the owner."""

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


class RemoteGroup(GossipGroup):
    """Each gossip served on a unix socket, seen through its client."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        super().__init__(stack, folder)
        self._folder = folder
        self._servers: dict[str, tuple[asyncio.Server, Server]] = {}

    async def add(self, node_id: str, boot_id: str = "boot-1", role: str = "voter") -> Membership:
        gossip = await super().add(node_id, boot_id, role)
        service = Server(gossip)
        path = self._folder / f"{node_id}-{boot_id}.sock"
        self._servers[node_id] = (await asyncio.start_unix_server(service.accept, path), service)
        self._stack.push_async_callback(self._close, node_id)
        return await self._stack.enter_async_context(RemoteMembership(path))

    async def kill(self, node_id: str) -> None:
        await self._close(node_id)
        await super().kill(node_id)

    async def _close(self, node_id: str) -> None:
        if node_id in self._servers:
            listener, service = self._servers.pop(node_id)
            listener.close()
            await service.close()


KINDS: list[Callable[[AsyncExitStack, Path], Group]] = [MemoryGroup, GossipGroup, RemoteGroup, MergedGroup]


@pytest.fixture(params=KINDS, ids=["memory", "gossip", "remote", "merged"])
async def group(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Group]:
    async with AsyncExitStack() as stack:
        made: Group = request.param(stack, tmp_path)
        yield made


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not reached():
            await asyncio.sleep(0.01)


async def next_of(events: AsyncIterator[Event], kind: EventKind, node_id: str) -> Event:
    async with asyncio.timeout(LIMIT_S):
        async for event in events:
            if event.kind == kind and event.member is not None and event.member.id == node_id:
                return event
    raise AssertionError("the events ended")


async def three(group: Group) -> list[Membership]:
    members = [await group.add(f"n{index}") for index in range(3)]
    for member in members:
        await until(lambda member=member: len(member.members(state=State.ALIVE)) == 3)  # type: ignore[misc]
    return members


async def test_members_see_each_other_and_themselves(group: Group) -> None:
    """By role and state, in the order of ids, with what each says of itself."""
    members = await three(group)
    await group.add("worker", role="worker")
    for member in members:
        await until(lambda member=member: len(member.members()) == 4)  # type: ignore[misc]
        assert [m.id for m in member.members()] == ["n0", "n1", "n2", "worker"]
        assert [m.id for m in member.members(role="worker")] == ["worker"]
        assert member.members(state=State.DEAD) == []
        found = member.get("worker")
        assert found is not None
        assert (found.boot_id, found.role, found.state, found.via) == ("boot-1", "worker", State.ALIVE, "gossip")
        assert found.metadata == {"device": "none"}
        assert found.address
        assert found.observers == 0
        assert member.get("nobody") is None


async def test_a_newcomer_is_told_of(group: Group) -> None:
    """Event `joined`."""
    members = await three(group)
    events = members[0].events()
    await group.add("n3")
    event = await next_of(events, "joined", "n3")
    assert event.member is not None
    assert event.member.state is State.ALIVE


async def test_metadata_travels(group: Group) -> None:
    """Event `updated`, with old values kept and new ones merged in."""
    members = await three(group)
    events = members[0].events()
    await members[1].set_metadata(load=3, devices=["H100", "H100"])
    event = await next_of(events, "updated", "n1")
    assert event.member is not None
    assert event.member.metadata == {"device": "none", "load": 3, "devices": ["H100", "H100"]}
    assert members[0].get("n1") == event.member
    with pytest.raises(MembershipError, match="shorten it"):
        await members[1].set_metadata(text="x" * 1000)


async def test_a_death_is_told_and_kept(group: Group) -> None:
    """Event `dead`; the others stay alive."""
    members = await three(group)
    events = members[0].events()
    await group.kill("n2")
    event = await next_of(events, "dead", "n2")
    assert event.member is not None
    assert event.member.observers >= 1
    found = members[0].get("n2")
    assert found is not None
    assert found.state is State.DEAD
    assert [m.id for m in members[0].members(state=State.ALIVE)] == ["n0", "n1"]


async def test_a_farewell_is_told_and_is_no_death(group: Group) -> None:
    """Event `left`; leaving twice is leaving once."""
    members = await three(group)
    events = members[0].events()
    leaving = asyncio.gather(members[2].leave(), members[2].leave())
    event = await next_of(events, "left", "n2")
    await leaving
    assert event.member is not None
    assert event.member.state is State.LEFT
    await group.kill("n2")
    await asyncio.sleep(0.2)
    assert members[0].members(state=State.DEAD) == []


async def test_a_restart_is_a_death_of_the_old_boot_and_a_joining_of_the_new(group: Group) -> None:
    """Whoever holds something for the old boot learns that it ended."""
    members = await three(group)
    events = members[0].events()
    await group.kill("n2")
    await next_of(events, "dead", "n2")
    again = await group.add("n2", "boot-2")
    event = await next_of(events, "joined", "n2")
    assert event.member is not None
    assert event.member.boot_id == "boot-2"
    found = members[1].get("n2")
    await until(lambda: len(again.members(state=State.ALIVE)) == 3)
    assert found is not None


async def test_a_false_hint_costs_nothing(group: Group) -> None:
    """The hinted member answers and stays."""
    members = await three(group)
    members[0].hint_suspect("n1", "its stream broke")
    members[0].hint_suspect("nobody", "never existed")
    await asyncio.sleep(0.3)
    assert len(members[0].members(state=State.ALIVE)) == 3


async def test_keys_rotate_without_an_event(group: Group) -> None:
    """Install, use, remove, on each member in turn."""
    members = await three(group)
    subscriptions = [member.events() for member in members]
    key = secrets.token_bytes(32)
    for member in members:
        await member.install_key("second", key)
    for member in members:
        await member.use_key("second")
    await asyncio.sleep(0.3)
    for member in members:
        await member.remove_key("first")
        with pytest.raises(MembershipError, match="in use"):
            await member.remove_key("second")
        with pytest.raises(MembershipError, match="install it"):
            await member.use_key("third")
    await asyncio.sleep(0.3)
    for member, events in zip(members, subscriptions, strict=True):
        assert len(member.members(state=State.ALIVE)) == 3
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(aiter(events)), 0.01)


async def test_every_subscriber_hears_everything(group: Group) -> None:
    """Subscriptions do not share a queue."""
    members = await three(group)
    one, other = members[0].events(), members[0].events()
    await group.add("n3")
    for events in (one, other):
        await next_of(events, "joined", "n3")


async def test_a_slow_subscriber_gets_one_resync_in_place_of_what_it_missed() -> None:
    """The queue is bounded."""
    hub = Hub(queue_max=10)
    events = hub.subscribe()
    for _ in range(25):
        hub.publish(Event("alive", None))
    hub.close()
    kinds = [event.kind async for event in events]
    assert kinds.count("resync") >= 1
    assert len(kinds) <= 10
