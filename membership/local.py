"""What the parts of one member's protocol share: its roster, news, agenda, health and outbox."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TypeAlias

import msgspec

from membership.agenda import Agenda, Task
from membership.api import EventKind, Member
from membership.messages import (
    PACKET_BYTES_MAX,
    Accusation,
    Entry,
    Envelope,
    Message,
    encode,
)
from membership.news import News
from membership.settings import Timing
from membership.swim import Record, Roster

SEAL_BYTES = 64  # what sealing adds to an envelope, rounded up


class Send(msgspec.Struct, frozen=True):
    """Send one datagram."""

    address: str
    envelope: Envelope


class Stream(msgspec.Struct, frozen=True):
    """Send a challenge over a stream connection as well; hand its answer back like any datagram."""

    address: str
    envelope: Envelope


class Notify(msgspec.Struct, frozen=True):
    """Tell this member's users."""

    kind: EventKind
    member: Member


Action: TypeAlias = Send | Stream | Notify


class Local:
    """The state of one member; time enters by `now_ms`, effects leave by `outbox`."""

    def __init__(self, roster: Roster, timing: Timing, random: Random, now_ms: int) -> None:
        self.roster = roster
        self.timing = timing
        self.random = random
        self.now_ms = now_ms
        self.news = News(timing.retransmit_mult)
        self.agenda = Agenda()
        self.outbox: list[Action] = []
        self.health = 0  # Lifeguard's local health multiplier: 0 is healthy
        self.sleeps = 0  # how often this process was found to have slept
        self.leaving = False
        self.counters: Counter[str] = Counter()

    @property
    def id(self) -> str:
        """This member's node id."""
        return self.roster.me.node_id

    def after(self, delay_ms: float, task: Task) -> None:
        """Do a task later."""
        self.agenda.at(self.now_ms + round(delay_ms), task)

    def patient(self, interval_ms: int) -> int:
        """Stretch an interval while this member itself is unhealthy (Lifeguard, section IV-A)."""
        return interval_ms * (1 + self.health)

    def worsen(self, by: int) -> None:
        """Change the local health; negative is better."""
        self.health = max(0, min(self.timing.health_max, self.health + by))

    def sequence(self) -> int:
        """Return a number that nobody outside can guess."""
        return self.random.getrandbits(60)

    def post(self, address: str, message: Message, first: list[Entry] | None = None) -> None:
        """Send a message, filled up with news; `first` goes before all other news."""
        self.outbox.append(Send(address, self.envelope(message, first or [])))

    def stream(self, address: str, message: Message, first: list[Entry]) -> None:
        """Send a challenge by the second path."""
        self.outbox.append(Stream(address, self.envelope(message, first)))

    def envelope(self, message: Message, first: list[Entry]) -> Envelope:
        """Return a message with as much news as its packet holds."""
        bare = Envelope(self.id, message)
        room_bytes = PACKET_BYTES_MAX - SEAL_BYTES - len(encode(bare)) - 4
        news = self.news.take(room_bytes, self.roster.present, first)
        return Envelope(self.id, msgspec.structs.replace(message, news=news)) if news else bare

    def notify(self, kind: EventKind, record: Record) -> None:
        """Tell the users of this member about another."""
        self.outbox.append(Notify(kind, record.member()))

    def myself(self) -> Entry:
        """Return what this member says of itself."""
        return self.roster.me.entry(self.id)

    def refute(self, above: int) -> None:
        """Raise the own incarnation above an accusation."""
        me = self.roster.me
        me = self.roster.change(me, incarnation=max(me.incarnation, above) + 1)
        self.news.add(me.entry(self.id))

    def accusation(self, record: Record) -> list[Entry]:
        """Return what a suspect must hear to refute (Lifeguard's buddy system)."""
        entry = record.entry(self.id)
        return [entry] if isinstance(entry, Accusation) else []
