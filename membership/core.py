"""One member's protocol: messages, commands and time in, actions out. No clock, no socket, no event loop.

It is memberlist's form of SWIM (Das et al. 2002; Lifeguard, Dadgar et al. 2017) with one rule of its own: nobody is
buried on hearsay (see `membership.rumours`). The UDP service and the simulation drive the same code.
"""

from __future__ import annotations

from random import Random
from typing import assert_never

from membership.antientropy import AntiEntropy
from membership.api import Member, Metadata, Value
from membership.local import Action, Local
from membership.messages import (
    Ack,
    Alive,
    Envelope,
    Gossip,
    Message,
    Ping,
    PingRequest,
    Relayed,
    Sync,
    View,
)
from membership.probing import Prober
from membership.rumours import Rumours
from membership.settings import Timing, check_metadata
from membership.swim import MemberState, Roster, record_of

_FAREWELLS_MAX = 64  # members told directly; the rest hears it as gossip
_LATE_DEAD_MS = 15_000  # how long the newly dead still get gossip, so that they can refute
_REAP_MS = 5_000


class Core:
    """The protocol of one member; every method returns what is to be done."""

    def __init__(
        self,
        me: Alive,
        seeds: list[str],
        timing: Timing,
        random: Random,
        now_ms: int,
        *,
        below: Roster | None = None,
    ) -> None:
        self._local = Local(Roster(record_of(me, now_ms), below=below), timing, random, now_ms)
        self._prober = Prober(self._local)
        self._rumours = Rumours(self._local, self._prober.challenge, self._prober.ring)
        self._prober.rumours = self._rumours
        self._gossiping = False
        self._antientropy = AntiEntropy(self._local, [seed for seed in seeds if seed != me.address])

    @property
    def due_ms(self) -> int | None:
        """When `tick` has something to do."""
        return self._local.agenda.due_ms

    @property
    def joined(self) -> bool:
        """Whether another member has answered."""
        return self._antientropy.joined

    @property
    def health(self) -> int:
        """Lifeguard's local health multiplier; 0 is healthy."""
        return self._local.health

    @property
    def counters(self) -> dict[str, int]:
        """How often something odd happened."""
        return dict(self._local.counters)

    def start(self, now_ms: int) -> list[Action]:
        """Begin: join, probe, gossip."""
        local = self._local
        local.now_ms = now_ms
        if not local.roster.me.gone and local.roster.present == 1:
            local.news.add(local.myself())
        local.after(local.random.randrange(local.timing.period_ms), self._prober.begin_round)
        local.after(_REAP_MS, self._reap)
        self._antientropy.begin()
        return self._drain()

    def tick(self, now_ms: int) -> list[Action]:
        """Do what is due."""
        self._advance(now_ms)
        return self._drain()

    def receive(self, envelope: Envelope, source: str, now_ms: int) -> list[Action]:
        """Take a message; answers go back to `source`, whence it came."""
        self._advance(now_ms)
        if envelope.sender != self._local.id:
            proven_by = None
            if isinstance(envelope.message, Ack) and self._prober.heard(envelope.message, envelope.sender):
                proven_by = envelope.sender
            for entry in envelope.message.news:
                self._rumours.apply(entry, source, proven_by=proven_by)
            self._answer(envelope.message, envelope.sender, source)
        return self._drain()

    def set_metadata(self, values: Metadata, now_ms: int) -> list[Action]:
        """Change own metadata."""
        self._advance(now_ms)
        local = self._local
        me = local.roster.me
        merged: dict[str, Value] = {**me.metadata, **values}
        check_metadata(merged)
        me = local.roster.change(me, metadata=merged, incarnation=me.incarnation + 1)
        local.news.add(me.entry(local.id))
        return self._drain()

    def hint(self, node_id: str, now_ms: int) -> list[Action]:
        """Probe a member now."""
        self._advance(now_ms)
        record = self._local.roster.find(node_id)
        if record is not None and not record.gone and node_id != self._local.id:
            self._prober.probe(record)
        return self._drain()

    def leave(self, now_ms: int) -> list[Action]:
        """Say farewell; go on answering for `timing.linger_ms`."""
        self._advance(now_ms)
        local = self._local
        if not local.leaving:
            local.leaving = True
            me = local.roster.me
            me = local.roster.change(
                me, state=MemberState.DEAD, left=True, since_ms=now_ms, incarnation=me.incarnation + 1
            )
            local.news.add(me.entry(local.id))
            for record in local.roster.sample(local.random, _FAREWELLS_MAX, lambda r: not r.gone):
                local.post(record.endpoint, Gossip(), [local.myself()])
        return self._drain()

    def members(self) -> list[Member]:
        """Return every record."""
        return [record.member() for record in self._local.roster.records()]

    def get(self, node_id: str) -> Member | None:
        """Return one record."""
        record = self._local.roster.find(node_id)
        return None if record is None else record.member()

    def _advance(self, now_ms: int) -> None:
        """Move to `now_ms` and do what has become due, unless this process slept past it."""
        local = self._local
        due_ms = local.agenda.due_ms
        local.now_ms = max(local.now_ms, now_ms)
        if due_ms is not None and now_ms - due_ms > local.timing.stall_ms:
            slept_ms = now_ms - due_ms
            local.sleeps += 1
            local.worsen(min(3, 1 + slept_ms // local.timing.period_ms))
            self._prober.slept()
            self._rumours.shift(slept_ms)
        while (task := local.agenda.pop(local.now_ms)) is not None:
            task()

    def _answer(self, message: Message, sender: str, source: str) -> None:
        local = self._local
        match message:
            case Ping(sequence=sequence, target=target):
                if target == local.id:
                    local.post(source, Ack(sequence), [local.myself()] if local.leaving else None)
            case PingRequest():
                self._prober.relay(message, source)
            case Relayed():
                self._prober.relayed(message, sender)
            case Sync():
                self._antientropy.answer(message, source)
            case View():
                self._antientropy.receive(message, source)
            case Ack() | Gossip():
                pass
            case _:
                assert_never(message)
        self._warn(sender, source)

    def _warn(self, sender: str, source: str) -> None:
        """Tell a sender that we hold for suspect or dead what we hold, so that it can refute."""
        record = self._local.roster.find(sender)
        if record is not None and record.status == "dead":
            self._local.post(source, Gossip(), self._local.accusation(record))

    def _gossip(self) -> None:
        local = self._local
        self._gossiping = len(local.news) > 0
        if not self._gossiping:
            return
        local.after(local.timing.gossip_ms, self._gossip)
        fresh_ms = local.now_ms - _LATE_DEAD_MS
        for record in local.roster.sample(
            local.random, local.timing.fanout, lambda r: not r.gone or r.since_ms > fresh_ms
        ):
            local.post(record.endpoint, Gossip(), local.accusation(record))

    def _drain(self) -> list[Action]:
        if len(self._local.news) and not self._gossiping:
            self._gossiping = True
            self._local.after(self._local.timing.gossip_ms / 4, self._gossip)  # the first news is not kept waiting
        actions, self._local.outbox = self._local.outbox, []
        return actions

    def _reap(self) -> None:
        self._rumours.reap()
        self._local.after(_REAP_MS, self._reap)
