"""Members behind NAT: present while their heartbeats arrive on a stream that they opened.

The voter that receives a beat calls `beat`; its timer calls `expire`. A beat answers a challenge in the only way open
to a member without an inbound port, so no beat within the time to live is this member's silence.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

import msgspec

from membership.api import Event, EventKind, Member, MembershipError, Metadata, State, Value, select
from membership.hub import Hub, Subscription

_BOOTS_KEPT = 8  # superseded boots a node, whose late beats are ignored
_GONE_KEPT_MS = 3_600_000
_MEMBERS_MAX = 20_000


class _Lease:
    def __init__(self, member: Member) -> None:
        self.member = member
        self.sequence = -1
        self.heard_ms = 0
        self.former_boots: list[str] = []


class Presence:
    """Who has beaten within the time to live; see `membership.api.Membership`."""

    def __init__(self, ttl_ms: int = 4000, *, role: str = "worker") -> None:
        if ttl_ms <= 0:
            raise MembershipError("The time to live of a heartbeat must be above zero.")
        self.ttl_ms = ttl_ms
        self._role = role
        self._leases: dict[str, _Lease] = {}
        self._hub = Hub()

    def beat(self, node_id: str, boot_id: str, seq: int, metadata: Metadata, now_ms: int) -> list[Event]:
        """Take a heartbeat; one of a superseded boot, or older than the last, changes nothing."""
        lease = self._leases.get(node_id)
        if lease is None:
            if len(self._leases) >= _MEMBERS_MAX:
                raise MembershipError(f"Presence holds {_MEMBERS_MAX} members; no more are taken.")
            lease = self._leases[node_id] = _Lease(self._member(node_id, boot_id, metadata, now_ms))
            lease.sequence, lease.heard_ms = seq, now_ms
            return self._tell(("joined", lease.member))
        if boot_id in lease.former_boots:
            return []
        if boot_id != lease.member.boot_id:
            return self._replace(lease, boot_id, seq, metadata, now_ms)
        if seq <= lease.sequence:
            return []
        lease.sequence, lease.heard_ms = seq, now_ms
        return self._refresh(lease, metadata, now_ms)

    def depart(self, node_id: str, boot_id: str, now_ms: int) -> list[Event]:
        """Take a farewell."""
        lease = self._leases.get(node_id)
        if lease is None or lease.member.boot_id != boot_id or lease.member.state is State.LEFT:
            return []
        return self._tell(self._turn(lease, State.LEFT, "left", now_ms))

    def expire(self, now_ms: int) -> list[Event]:
        """Suspect who is silent for half of the time to live, and hold for dead who is silent for all of it."""
        changes: list[tuple[EventKind, Member]] = []
        for node_id, lease in list(self._leases.items()):
            silent_ms, state = now_ms - lease.heard_ms, lease.member.state
            if state in (State.ALIVE, State.SUSPECT) and silent_ms >= self.ttl_ms:
                changes.append(self._turn(lease, State.DEAD, "dead", now_ms))
            elif state is State.ALIVE and 2 * silent_ms >= self.ttl_ms:
                changes.append(self._turn(lease, State.SUSPECT, "suspect", now_ms))
            elif state in (State.DEAD, State.LEFT) and now_ms - lease.member.since_ms > _GONE_KEPT_MS:
                del self._leases[node_id]
        return self._tell(*changes)

    def grant_again(self, now_ms: int) -> None:
        """Give every present member a whole time to live, as a new leader does before it may hold anyone for dead.

        Who was silent here is forgotten: its beats may have gone to another voter.
        """
        for node_id, lease in list(self._leases.items()):
            if lease.member.state is State.DEAD:
                del self._leases[node_id]
            lease.heard_ms = max(lease.heard_ms, now_ms)

    def expect(self, node_id: str, boot_id: str, now_ms: int) -> list[Event]:
        """Give a member that has not beaten here yet a whole time to live to do so."""
        if node_id in self._leases or len(self._leases) >= _MEMBERS_MAX:
            return []
        lease = self._leases[node_id] = _Lease(self._member(node_id, boot_id, {}, now_ms))
        lease.heard_ms = now_ms
        return self._tell(("joined", lease.member))

    def forget_silent(self, now_ms: int) -> None:
        """Forget who is silent for the time to live, for an observer that does not hear all beats."""
        for node_id, lease in list(self._leases.items()):
            if now_ms - lease.heard_ms >= self.ttl_ms:
                del self._leases[node_id]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hub.close()

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the members by heartbeat."""
        return select([lease.member for lease in self._leases.values()], role, state)

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""
        lease = self._leases.get(id)
        return None if lease is None else lease.member

    def events(self) -> Subscription:
        """Subscribe from now on."""
        return self._hub.subscribe()

    def hint_suspect(self, id: str, reason: str) -> None:
        """Do nothing: a member without an inbound port cannot be probed, only waited for."""

    async def set_metadata(self, **values: Value) -> None:
        """Refuse: presence observes, it is no member itself."""
        self._refuse()

    async def leave(self) -> None:
        """Do nothing: presence observes, it is no member itself."""

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Refuse: heartbeats travel on authenticated streams."""
        self._refuse()

    async def use_key(self, key_id: str) -> None:
        """Refuse: heartbeats travel on authenticated streams."""
        self._refuse()

    async def remove_key(self, key_id: str) -> None:
        """Refuse: heartbeats travel on authenticated streams."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise MembershipError("Presence has neither metadata nor keys of its own; ask the gossip beside it.")

    def _member(self, node_id: str, boot_id: str, metadata: Metadata, now_ms: int) -> Member:
        return Member(
            id=node_id,
            boot_id=boot_id,
            role=self._role,
            address="",
            metadata=metadata,
            state=State.ALIVE,
            via="lease",
            since_ms=now_ms,
            observers=0,
        )

    def _replace(self, lease: _Lease, boot_id: str, seq: int, metadata: Metadata, now_ms: int) -> list[Event]:
        former = lease.member
        lease.former_boots = [*lease.former_boots, former.boot_id][-_BOOTS_KEPT:]
        changes: list[tuple[EventKind, Member]] = []
        if former.state in (State.ALIVE, State.SUSPECT):
            changes.append(self._turn(lease, State.DEAD, "dead", now_ms))
        lease.member = self._member(former.id, boot_id, metadata, now_ms)
        lease.sequence, lease.heard_ms = seq, now_ms
        return self._tell(*changes, ("joined", lease.member))

    def _refresh(self, lease: _Lease, metadata: Metadata, now_ms: int) -> list[Event]:
        former = lease.member
        lease.member = msgspec.structs.replace(former, metadata=metadata)
        if former.state is State.LEFT:
            return []  # a beat that crossed the farewell
        if former.state is not State.ALIVE:
            return self._tell(self._turn(lease, State.ALIVE, "alive", now_ms))
        return self._tell(("updated", lease.member)) if metadata != former.metadata else []

    def _turn(self, lease: _Lease, state: State, kind: EventKind, now_ms: int) -> tuple[EventKind, Member]:
        observers = 1 if state in (State.SUSPECT, State.DEAD) else 0
        lease.member = msgspec.structs.replace(lease.member, state=state, since_ms=now_ms, observers=observers)
        return kind, lease.member

    def _tell(self, *changes: tuple[EventKind, Member]) -> list[Event]:
        events = [Event(kind, member) for kind, member in changes]
        for event in events:
            self._hub.publish(event)
        return events
