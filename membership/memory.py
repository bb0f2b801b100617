"""Membership in memory: the twin of gossip for tests, with a network whose failures the test decides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from membership.api import Event, EventKind, Member, MembershipError, Metadata, State, Value, select
from membership.hub import Hub, Subscription
from membership.keys import Keyring, read_key
from membership.settings import check_metadata


class MemoryNetwork:
    """What all in-memory members see alike, at once; `crash` and the like stand for failures."""

    def __init__(self, clock: Callable[[], int] = lambda: 0) -> None:
        self._clock = clock
        self._members: dict[str, Member] = {}
        self._hubs: dict[str, Hub] = {}
        self.hints: list[tuple[str, str]] = []

    def view(self) -> list[Member]:
        """Return all members."""
        return list(self._members.values())

    def find(self, node_id: str) -> Member | None:
        """Return one member."""
        return self._members.get(node_id)

    def join(self, member: Member, hub: Hub) -> None:
        """Let a member in; a former boot of the same node is dead by that."""
        former = self._members.get(member.id)
        if former is not None and former.boot_id != member.boot_id and former.state in (State.ALIVE, State.SUSPECT):
            self.change(member.id, "dead", state=State.DEAD)
        self._hubs[member.id] = hub
        self._members[member.id] = msgspec.structs.replace(member, since_ms=self._clock())
        self._publish("joined", member.id)

    def stop(self, node_id: str, boot_id: str) -> None:
        """Let a member end without a farewell, which the others see as its death."""
        member = self._members.get(node_id)
        if member is not None and member.boot_id == boot_id and member.state in (State.ALIVE, State.SUSPECT):
            self.crash(node_id)

    def crash(self, node_id: str) -> None:
        """Let a member die."""
        self.change(node_id, "dead", state=State.DEAD, observers=2)

    def suspect(self, node_id: str) -> None:
        """Let a member be suspected."""
        self.change(node_id, "suspect", state=State.SUSPECT, observers=1)

    def recover(self, node_id: str) -> None:
        """Let a member refute."""
        self.change(node_id, "alive", state=State.ALIVE, observers=0)

    def change(self, node_id: str, kind: EventKind, **fields: object) -> None:
        """Change a member and tell the others."""
        member = self._members.get(node_id)
        if member is None:
            raise MembershipError(f"No member {node_id!r} ever joined this network.")
        if fields.get("state", member.state) != member.state:
            fields["since_ms"] = self._clock()
        self._members[node_id] = msgspec.structs.replace(member, **fields)
        self._publish(kind, node_id)

    def _publish(self, kind: EventKind, node_id: str) -> None:
        event = Event(kind, self._members[node_id])
        for observer, hub in self._hubs.items():
            if observer != node_id:
                hub.publish(event)


class MemoryMembership:
    """One member of a `MemoryNetwork`; see `membership.api.Membership`."""

    def __init__(
        self,
        network: MemoryNetwork,
        node_id: str,
        boot_id: str = "boot-1",
        role: str = "voter",
        metadata: Metadata | None = None,
    ) -> None:
        self._network = network
        self._me = Member(
            id=node_id,
            boot_id=boot_id,
            role=role,
            address=f"memory:{len(network.view()) + 1}",
            metadata=dict(metadata or {}),
            state=State.ALIVE,
            via="gossip",
            since_ms=0,
            observers=0,
        )
        self._hub = Hub()
        self._keyring = Keyring()
        self._keyring.install("first", bytes(32))

    async def __aenter__(self) -> Self:
        self._network.join(self._me, self._hub)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._network.stop(self._me.id, self._me.boot_id)
        self._hub.close()

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the known members, this one included."""
        return select(self._network.view(), role, state)

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""
        return self._network.find(id)

    def events(self) -> Subscription:
        """Subscribe from now on."""
        return self._hub.subscribe()

    async def set_metadata(self, **values: Value) -> None:
        """Change own metadata."""
        me = self._network.find(self._me.id) or self._me
        merged: Metadata = {**me.metadata, **values}
        check_metadata(merged)
        self._network.change(self._me.id, "updated", metadata=merged)

    async def leave(self) -> None:
        """Say farewell."""
        me = self._network.find(self._me.id)
        if me is not None and me.state is not State.LEFT:
            self._network.change(self._me.id, "left", state=State.LEFT)

    def hint_suspect(self, id: str, reason: str) -> None:
        """Record the hint; in memory nothing is ever in doubt."""
        self._network.hints.append((id, reason))

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Accept packets under one more key."""
        self._keyring.install(key_id, read_key(key))

    async def use_key(self, key_id: str) -> None:
        """Seal own packets with an installed key."""
        self._keyring.use(key_id)

    async def remove_key(self, key_id: str) -> None:
        """Refuse packets under a key."""
        self._keyring.remove(key_id)
