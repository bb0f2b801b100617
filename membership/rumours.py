"""What a member makes of statements about others: the state changes of SWIM with suspicion, and burial by proof.

Rules. Only a member raises its incarnation. A statement about an older incarnation is void. An accusation of death or
departure, whoever brings it, opens a challenge; only a challenge that this member itself sees unanswered buries. So one
member's lie about another is a suspicion, never more.
"""

from __future__ import annotations

from collections.abc import Callable

from membership.local import Local
from membership.messages import LEAP_MAX, Accusation, Alive, Entry, Gossip, Verdict
from membership.ring import Ring
from membership.suspicion import Suspicion
from membership.swim import MemberState, Record, record_of

Challenge = Callable[[Record, Verdict], None]


class Rumours:
    """Applies news to the roster and runs the suspicions."""

    def __init__(self, local: Local, challenge: Challenge, ring: Ring) -> None:
        self._local = local
        self._challenge = challenge
        self._ring = ring
        self._suspicions: dict[str, Suspicion] = {}
        self._tombstones: dict[str, tuple[int, int]] = {}  # id -> incarnation, buried at

    def apply(self, entry: Entry, source: str, *, proven_by: str | None = None) -> None:
        """Apply one statement; `proven_by` is the member that just answered our challenge with it."""
        known = self._local.roster.find(entry.id)
        if known is not None and entry.incarnation > known.incarnation + LEAP_MAX:
            self._local.counters["incarnation leapt"] += 1  # to refute it would use the range up
        elif isinstance(entry, Alive):
            self._hear_alive(entry)
        elif entry.id == self._local.id:
            self._hear_own_death(entry, source)
        else:
            self._hear_accusation(entry, proven=proven_by == entry.id)

    def suspect(self, record: Record, accuser: str) -> None:
        """Begin or confirm the suspicion of a member."""
        if record.status == "suspect":
            self._confirm(record, accuser)
            return
        if record.gone or record.node_id == self._local.id:
            return
        local = self._local
        suspicion = Suspicion(local.timing, local.roster.present, local.now_ms, accuser)
        self._suspicions[record.node_id] = suspicion
        record = local.roster.change(
            record, state=MemberState.SUSPECT, since_ms=local.now_ms, accusers=frozenset([accuser])
        )
        local.notify("suspect", record)
        local.news.add(record.entry(accuser))
        self._watch(record.node_id, suspicion)
        if local.random.random() < 2 * (local.timing.confirmations + 1) / local.roster.present:
            self._ring.urge(record.node_id)  # a few members look for themselves at once; their view confirms or refutes

    def bury(self, record: Record, verdict: Verdict) -> None:
        """Hold a member for dead or departed."""
        local = self._local
        if record.gone or record.node_id == local.id:
            return
        self._suspicions.pop(record.node_id, None)
        left = verdict is Verdict.LEFT
        accusers = record.accusers if left else record.accusers | {local.id}
        record = local.roster.change(
            record, state=MemberState.DEAD, left=left, since_ms=local.now_ms, accusers=accusers
        )
        local.notify("left" if left else "dead", record)
        local.news.add(record.entry(local.id))

    def absolve(self, record: Record) -> None:
        """Give a suspect that answered a challenge time to refute by itself."""
        suspicion = self._suspicions.get(record.node_id)
        if suspicion is not None:
            suspicion.not_before_ms = self._local.now_ms + self._local.timing.verify_ms + self._local.timing.period_ms
            self._watch(record.node_id, suspicion)

    def shift(self, slept_ms: int) -> None:
        """Give every suspect the time back that this process slept."""
        local = self._local
        for node_id, suspicion in self._suspicions.items():
            suspicion.started_ms += slept_ms
            suspicion.not_before_ms = local.now_ms + local.timing.verify_ms + local.timing.period_ms
            self._watch(node_id, suspicion)

    def reap(self) -> None:
        """Forget those long gone; remember their incarnation so that old news cannot raise them."""
        local, timing = self._local, self._local.timing
        for record in local.roster.gone():
            keep_ms = timing.reap_left_ms if record.left else timing.reap_dead_ms
            if record.node_id != local.id and local.now_ms - record.since_ms > keep_ms:
                self._tombstones[record.node_id] = (record.incarnation, local.now_ms)
                local.roster.drop(record)
                local.news.forget(record.node_id)
        for node_id, (_, buried_ms) in list(self._tombstones.items()):
            if local.now_ms - buried_ms > timing.tombstone_ms or len(self._tombstones) > timing.members_max:
                del self._tombstones[node_id]

    def _hear_alive(self, entry: Alive) -> None:
        local = self._local
        record = local.roster.find(entry.id)
        if entry.id == local.id:
            me = local.roster.me
            foreign = entry.incarnation == me.incarnation and entry.boot_id != me.boot_id
            if (entry.incarnation > me.incarnation or foreign) and not local.leaving:
                local.counters["own id taken"] += 1  # an older boot's news, or two nodes under one id
                local.refute(entry.incarnation)
        elif record is None:
            self._meet(entry)
        elif entry.incarnation > record.incarnation:
            self._renew(record, entry)

    def _meet(self, entry: Alive) -> None:
        local = self._local
        if self._tombstones.get(entry.id, (0, 0))[0] >= entry.incarnation:
            return
        if len(local.roster.ids) >= local.timing.members_max:
            local.counters["roster full"] += 1
            return
        local.notify("joined", local.roster.put(record_of(entry, local.now_ms)))
        local.news.add(entry)
        self._ring.meet(entry.id)

    def _renew(self, record: Record, entry: Alive) -> None:
        local = self._local
        self._suspicions.pop(record.node_id, None)
        renewed = record_of(entry, local.now_ms)
        if record.boot_id != renewed.boot_id:
            if not record.gone:
                local.notify("dead", local.roster.change(record, state=MemberState.DEAD, since_ms=local.now_ms))
            local.notify("joined", local.roster.put(renewed))
        elif record.status == "alive":
            renewed.since_ms = record.since_ms
            local.roster.put(renewed)
            if renewed.member() != record.member():
                local.notify("updated", renewed)
        else:
            local.notify("joined" if record.left else "alive", local.roster.put(renewed))
        local.news.add(entry)

    def _hear_own_death(self, entry: Accusation, source: str) -> None:
        local = self._local
        if not local.leaving and entry.incarnation >= local.roster.me.incarnation:
            if entry.verdict is Verdict.SUSPECT:
                local.worsen(1)
            local.refute(entry.incarnation)
        self.answer_accuser(source)

    def answer_accuser(self, source: str) -> None:
        """Tell the bringer of an accusation at once how things stand."""
        self._local.post(source, Gossip(), [self._local.myself()])

    def _hear_accusation(self, entry: Accusation, *, proven: bool) -> None:
        local = self._local
        record = local.roster.find(entry.id)
        if record is None or entry.incarnation < record.incarnation:
            return
        if record.gone:
            self._join_accusers(record, entry)
            return
        if entry.incarnation > record.incarnation:
            record = local.roster.change(record, incarnation=entry.incarnation)
        if entry.verdict is Verdict.SUSPECT:
            self.suspect(record, entry.accuser)
        elif entry.verdict is Verdict.LEFT and proven:
            self.bury(record, Verdict.LEFT)
        elif entry.verdict is Verdict.LEFT:
            self._challenge(record, Verdict.LEFT)
        else:
            self.suspect(record, entry.accuser)
            self._challenge(local.roster.find(entry.id) or record, Verdict.DEAD)

    def _join_accusers(self, record: Record, entry: Accusation) -> None:
        if entry.verdict is Verdict.DEAD and not record.left and entry.accuser not in record.accusers:
            if len(record.accusers) > self._local.timing.confirmations:
                return
            record = self._local.roster.change(record, accusers=record.accusers | {entry.accuser})
            if len(record.accusers) == 2:  # what one saw is a hint, what two saw is worth acting on
                self._local.notify("updated", record)

    def _confirm(self, record: Record, accuser: str) -> None:
        suspicion = self._suspicions.get(record.node_id)
        if suspicion is not None and suspicion.confirm(accuser):
            record = self._local.roster.change(record, accusers=record.accusers | {accuser})
            self._local.news.add(record.entry(accuser))
            self._watch(record.node_id, suspicion)

    def _watch(self, node_id: str, suspicion: Suspicion) -> None:
        """Challenge the suspect so that the challenge ends with the suspicion."""
        local = self._local

        def check() -> None:
            record = local.roster.find(node_id)
            if self._suspicions.get(node_id) is not suspicion or record is None:
                return
            if local.now_ms >= suspicion.deadline_ms - local.timing.verify_ms:
                self._challenge(record, Verdict.DEAD)

        local.agenda.at(max(local.now_ms, suspicion.deadline_ms - local.timing.verify_ms), check)
