"""The one door to swim-p2p 1.2.6: its member record, member list and transport seam, repaired by subclassing.

Kept: `Member` and `MemberState` (storage of one member), `MemberList` (storage and queries), `Transport` (the seam).
Replaced: identity is a node id and a boot id instead of an address; every mutator of the list, because the stock ones
let an observer raise another's incarnation and let a node accept its own death; the wall clock, because records carry
the observer's monotonic time. The stock protocol (failure detector, gossip service, node, transports) never runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NoReturn

from membership.api import Member, Metadata, State
from membership.messages import BUCKETS, Accusation, Alive, Entry, Verdict, split_address

with contextlib.redirect_stdout(io.StringIO()):  # importing swim prints four lines
    from swim.protocol.member import Member as SwimMember
    from swim.protocol.member import MemberList, MemberState
    from swim.transport.base import Transport as SwimTransport

__all__ = ["MemberState", "Record", "Roster", "SwimTransport", "record_of"]

_WIRE = {State.SUSPECT: Verdict.SUSPECT, State.DEAD: Verdict.DEAD, State.LEFT: Verdict.LEFT}


@dataclass(kw_only=True, eq=False)
class Record(SwimMember):  # type: ignore[misc, unused-ignore]
    """One member as stored; never changed in place, so that simulated observers can share one."""

    node_id: str
    boot_id: str
    role: str
    since_ms: int
    left: bool = False
    accusers: frozenset[str] = frozenset()

    @property
    def gone(self) -> bool:
        """Whether the member is dead or has left."""
        return bool(self.state is MemberState.DEAD)

    @property
    def status(self) -> State:
        """The state in our words; stock swim knows no LEFT."""
        if self.state is MemberState.DEAD:
            return State.LEFT if self.left else State.DEAD
        return State.SUSPECT if self.state is MemberState.SUSPECT else State.ALIVE

    @property
    def endpoint(self) -> str:
        """The address as "host:port"."""
        return str(self.address)

    def entry(self, accuser: str) -> Entry:
        """Return what `accuser` holds of this member as news."""
        verdict = _WIRE.get(self.status)
        if verdict is None:
            return Alive(self.node_id, self.boot_id, self.incarnation, self.role, self.endpoint, self.metadata)
        return Accusation(self.node_id, self.incarnation, verdict, accuser)

    def member(self) -> Member:
        """Return the public snapshot."""
        return Member(
            id=self.node_id,
            boot_id=self.boot_id,
            role=self.role,
            address=self.endpoint,
            metadata=self.metadata,
            state=self.status,
            via="gossip",
            since_ms=self.since_ms,
            observers=len(self.accusers),
        )


def record_of(alive: Alive, now_ms: int) -> Record:
    """Return the record of a member that says that it is alive."""
    metadata: Metadata = alive.metadata
    return Record(
        addr=split_address(alive.address),
        state=MemberState.ALIVE,
        incarnation=alive.incarnation,
        last_heartbeat=now_ms / 1000,  # given, because the stock default reads the wall clock
        last_state_change=now_ms / 1000,
        metadata=metadata,
        node_id=alive.id,
        boot_id=alive.boot_id,
        role=alive.role,
        since_ms=now_ms,
    )


class _Overlay(MutableMapping[str, Record]):
    """A mapping over a shared, frozen one: 10,000 simulated observers of 10,000 members fit in memory."""

    def __init__(self, below: dict[str, Record]) -> None:
        self._below = below
        self._above: dict[str, Record | None] = {}
        self._size = len(below)

    def __getitem__(self, key: str) -> Record:
        record = self._above[key] if key in self._above else self._below[key]
        if record is None:
            raise KeyError(key)
        return record

    def __setitem__(self, key: str, value: Record) -> None:
        self._size += key not in self
        self._above[key] = value

    def __delitem__(self, key: str) -> None:
        if key not in self:
            raise KeyError(key)
        self._size -= 1
        self._above[key] = None

    def __iter__(self) -> Iterator[str]:
        yield from (key for key in self._below if self._above.get(key, key) is not None)
        yield from (key for key, record in self._above.items() if key not in self._below and record is not None)

    def __len__(self) -> int:
        return self._size


class Roster(MemberList):  # type: ignore[misc, unused-ignore]
    """The member list, keyed by node id, with an incremental digest; only `put` and `drop` change it."""

    def __init__(self, me: Record, *, below: Roster | None = None) -> None:
        super().__init__(me.addr, None)
        self._me = me
        self._records: MutableMapping[str, Record] = {}
        self._parts = [0] * BUCKETS  # of the digest
        self._present = 0
        self._gone: dict[str, None] = {}  # in the order of their going, which a set would not keep
        self._ids: tuple[str, ...] | None = None
        if below is not None:
            self._stand_on(below)
        stock: Any = self._records  # the stock queries iterate over values, whatever the keys are
        self._members = stock
        self.put(me)

    @property
    def me(self) -> Record:
        """This member's own record."""
        return self._record(self._me.node_id)

    @property
    def present(self) -> int:
        """How many members, this one included, are alive or suspect."""
        return self._present

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all records, gone ones included."""
        if self._ids is None:
            self._ids = tuple(self._records)
        return self._ids

    @property
    def digest(self) -> bytes:
        """An order-free hash of who is present at which incarnation, by bucket of the id."""
        return b"".join(part.to_bytes(8, "big") for part in self._parts)

    def _stand_on(self, below: Roster) -> None:
        shared = below.records_by_id()
        self._records = _Overlay(shared)
        self._parts = [int.from_bytes(below.digest[8 * b : 8 * b + 8], "big") for b in range(BUCKETS)]
        self._present, self._ids = below.present, below.ids

    def records_by_id(self) -> dict[str, Record]:
        """Return the storage of a roster that is frozen from now on, for others to stand on."""
        assert isinstance(self._records, dict)  # overlays do not stack
        return self._records

    def find(self, node_id: str) -> Record | None:
        """Return the record of a node."""
        return self._records.get(node_id)

    def records(self) -> list[Record]:
        """Return all records."""
        return list(self._records.values())

    def gone(self) -> list[Record]:
        """Return the records of the dead and the departed."""
        return [self._records[node_id] for node_id in self._gone]

    def in_buckets(self, mask: int) -> list[Record]:
        """Return the records of the buckets in a bit mask."""
        return [record for record in self._records.values() if mask >> bucket_of(record.node_id) & 1]

    def put(self, record: Record) -> Record:
        """Store a record in place of the node's former one."""
        former = self.find(record.node_id)
        if former is None:
            self._ids = None
        else:
            self._count(former, -1)
        self._records[record.node_id] = record
        self._count(record, 1)
        return record

    def change(self, record: Record, **fields: Any) -> Record:
        """Store a copy of a record with other fields."""
        return self.put(replace(record, **fields))

    def drop(self, record: Record) -> None:
        """Forget a node."""
        del self._records[record.node_id]
        self._count(record, -1)
        self._ids = None

    def sample(self, random: Random, count: int, fit: Callable[[Record], bool]) -> list[Record]:
        """Return up to `count` random records, this member's own excluded, that `fit`."""
        ids, chosen = self.ids, dict[str, Record]()
        if len(ids) <= 8 * count:
            fitting = [r for r in self.records() if r.node_id != self._me.node_id and fit(r)]
            return random.sample(fitting, min(count, len(fitting)))
        for _ in range(8 * count):  # cheap at any size; few misses, because most members fit
            record = self._record(random.choice(ids))
            if record.node_id != self._me.node_id and fit(record):
                chosen[record.node_id] = record
            if len(chosen) == count:
                break
        return list(chosen.values())

    def _record(self, node_id: str) -> Record:
        return self._records[node_id]

    def _count(self, record: Record, sign: int) -> None:
        if record.gone and sign > 0:
            self._gone[record.node_id] = None
        elif record.gone:
            del self._gone[record.node_id]
        else:
            self._present += sign
            self._parts[bucket_of(record.node_id)] ^= _hash(record.node_id, record.incarnation)

    def add_member(self, *_: object, **__: object) -> bool:
        """Add nothing: the stock constructor would add an address without a node id."""
        return False

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError("The stock mutators break incarnations; use put, change and drop.")

    async def _refuse_later(self, *_: object, **__: object) -> NoReturn:
        self._refuse()

    remove_member = cleanup_dead_members = force_resurrect_member = _refuse
    mark_alive = mark_suspect = mark_dead = _refuse_later
    merge_digest = update_heartbeat = update_incarnation = _refuse_later


def bucket_of(node_id: str) -> int:
    """Return the digest bucket of a node id."""
    return hashlib.blake2b(node_id.encode(), digest_size=1).digest()[0] % BUCKETS


def _hash(node_id: str, incarnation: int) -> int:
    return int.from_bytes(hashlib.blake2b(f"{node_id}\0{incarnation}".encode(), digest_size=8).digest(), "big")
