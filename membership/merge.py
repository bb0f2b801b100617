"""One view of both kinds of members: those who gossip and those who beat on a stream of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from membership.api import Event, EventKind, Member, Membership, State, Value, select
from membership.hub import Hub, Subscription

_BOOTS_KEPT = 8
_KINDS: dict[State, EventKind] = {
    State.ALIVE: "alive",
    State.SUSPECT: "suspect",
    State.LEFT: "left",
    State.DEAD: "dead",
}


class Merged:
    """Gossip and presence merged by node id; the newest boot wins; see `membership.api.Membership`.

    Newest is the boot that this observer met last. Two views of one boot: a farewell is final; else the one that holds
    it for present wins, as two roads to a member are one more than needed, and `via` says which it is. When both hold
    it for dead, both count as observers.
    """

    def __init__(self, gossip: Membership, presence: Membership) -> None:
        self._gossip = gossip
        self._presence = presence
        self._hub = Hub()
        self._boots: dict[str, list[str]] = {}
        self._shown: dict[str, Member] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        await self._gossip.__aenter__()
        await self._presence.__aenter__()
        for source in (self._gossip, self._presence):
            events = source.events()
            for member in source.members():
                self._meet(member)
                self._show(member.id)
            self._tasks.append(asyncio.create_task(self._follow(events)))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._presence.__aexit__(kind, error, trace)
        await self._gossip.__aexit__(kind, error, trace)
        self._hub.close()

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the known members, this one included."""
        ids = {member.id for source in (self._gossip, self._presence) for member in source.members()}
        merged = [member for node_id in ids if (member := self.get(node_id)) is not None]
        return select(merged, role, state)

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""
        by_gossip, by_lease = self._gossip.get(id), self._presence.get(id)
        if by_gossip is None or by_lease is None:
            return by_gossip or by_lease
        for member in (by_gossip, by_lease):
            self._meet(member)
        if by_gossip.boot_id != by_lease.boot_id:
            boots = self._boots[id]
            return max(by_gossip, by_lease, key=lambda member: boots.index(member.boot_id))
        if by_gossip.state is by_lease.state is State.DEAD:
            return msgspec.structs.replace(by_gossip, observers=by_gossip.observers + by_lease.observers)
        return by_lease if _rank(by_lease) > _rank(by_gossip) else by_gossip

    def events(self) -> Subscription:
        """Subscribe from now on."""
        return self._hub.subscribe()

    async def set_metadata(self, **values: Value) -> None:
        """Change own metadata, which gossip carries."""
        await self._gossip.set_metadata(**values)

    async def leave(self) -> None:
        """Say farewell by gossip."""
        await self._gossip.leave()

    def hint_suspect(self, id: str, reason: str) -> None:
        """Ask gossip for a probe."""
        self._gossip.hint_suspect(id, reason)

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Accept gossip under one more key."""
        await self._gossip.install_key(key_id, key)

    async def use_key(self, key_id: str) -> None:
        """Seal own gossip with an installed key."""
        await self._gossip.use_key(key_id)

    async def remove_key(self, key_id: str) -> None:
        """Refuse gossip under a key."""
        await self._gossip.remove_key(key_id)

    async def _follow(self, events: AsyncIterator[Event]) -> None:
        async for event in events:
            if event.member is None:
                self._hub.publish(event)
                continue
            self._meet(event.member)
            if self.get(event.member.id) is None:
                continue
            self._show(event.member.id, event)

    def _meet(self, member: Member) -> None:
        boots = self._boots.setdefault(member.id, [])
        if member.boot_id not in boots:
            boots.append(member.boot_id)
            del boots[:-_BOOTS_KEPT]

    def _show(self, node_id: str, event: Event | None = None) -> None:
        """Publish what changed in the merged view; what only one of the two roads lost is no event."""
        merged, shown = self.get(node_id), self._shown.get(node_id)
        if merged is None:
            return
        self._shown[node_id] = merged
        if event is None or event.member is None:
            return
        if shown is None or merged.boot_id != shown.boot_id:
            if shown is not None and shown.state in (State.ALIVE, State.SUSPECT):
                self._hub.publish(Event("dead", _dead(shown)))
            self._hub.publish(Event("joined", merged))
            if merged.state is not State.ALIVE:  # it changed again before its joining was told
                self._hub.publish(Event(_KINDS[merged.state], merged))
        elif merged.state != shown.state:
            self._hub.publish(Event(_KINDS[merged.state], merged))
        elif merged != shown:
            self._hub.publish(Event("updated", merged))


def _rank(member: Member) -> int:
    return {State.LEFT: 3, State.ALIVE: 2, State.SUSPECT: 1, State.DEAD: 0}[member.state]


def _dead(member: Member) -> Member:
    return msgspec.structs.replace(member, state=State.DEAD)
