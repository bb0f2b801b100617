"""Who is asked whether it is alive: round-robin probes, indirect probes, hints, and the challenge before a burial."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from membership.local import Local
from membership.messages import Ack, Ping, PingRequest, Relayed, Verdict
from membership.ring import Ring
from membership.rumours import Rumours
from membership.swim import Record


class _Probe(msgspec.Struct, eq=False):
    """One probe of one member: direct, then indirect, then over."""

    target: str
    sleeps: int
    sequences: list[int] = []
    helpers: set[str] = set()
    nacks: set[str] = set()
    over: bool = False


class _Challenge(msgspec.Struct, eq=False):
    """Repeated challenges of one member before its burial."""

    target: str
    verdict: Verdict
    sleeps: int
    until_ms: int
    sequences: list[int] = []


class Prober:
    """Sends challenges and draws the conclusions."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self.rumours: Rumours  # set by the core, which ties the two together
        self.ring = Ring(local)
        self._waiting: dict[int, Callable[[], None]] = {}  # sequence -> what an answer of its target does
        self._targets: dict[int, str] = {}
        self._requests: dict[int, _Probe] = {}
        self._challenges: dict[str, _Challenge] = {}
        self._relays = 0

    def begin_round(self) -> None:
        """Probe the next member, and again a period later."""
        local = self._local
        if local.leaving:
            return
        local.after(local.patient(local.timing.period_ms) / local.timing.probes, self.begin_round)
        record = self.ring.next(local.roster)
        if record is not None:
            self.probe(record)

    def probe(self, record: Record) -> None:
        """Probe a member: direct, then through others, then suspect it."""
        local, timing = self._local, self._local.timing
        probe = _Probe(record.node_id, local.sleeps)
        self._ping(probe.sequences, record, lambda: self._answered(probe))
        local.after(local.patient(timing.probe_timeout_ms), lambda: self._ask_others(probe))
        local.after(local.patient(timing.period_ms), lambda: self._conclude(probe))

    def challenge(self, record: Record, verdict: Verdict) -> None:
        """Challenge a member until the time is up; bury it if it never answers."""
        local = self._local
        if record.node_id in self._challenges or record.gone:
            return
        until_ms = local.now_ms + local.timing.verify_ms * (1 + local.health // 2)
        challenge = _Challenge(record.node_id, verdict, local.sleeps, until_ms)
        self._challenges[record.node_id] = challenge
        sequence = self._expect(challenge.sequences, record.node_id, lambda: self._alive(challenge))
        local.stream(record.endpoint, Ping(sequence, record.node_id), local.accusation(record))
        self._challenge_again(challenge)

    def heard(self, ack: Ack, sender: str) -> bool:
        """Take an answer; return whether it proves that `sender` read our challenge."""
        if self._targets.get(ack.sequence) != sender:
            return False
        self._waiting[ack.sequence]()
        return True

    def relayed(self, answer: Relayed, sender: str) -> None:
        """Take the result of an indirect probe."""
        probe = self._requests.get(answer.sequence)
        if probe is None or sender not in probe.helpers:
            return
        if answer.answered:
            self._answered(probe)
        else:
            probe.nacks.add(sender)

    def relay(self, request: PingRequest, source: str) -> None:
        """Challenge a known member on another's behalf."""
        local = self._local
        target = local.roster.find(request.target)
        if target is None or target.node_id == local.id or self._relays >= local.timing.relays_max:
            return  # unknown targets are not probed: nobody uses us to send packets to arbitrary hosts
        self._relays += 1
        sequences: list[int] = []

        def done(*, answered: bool) -> None:
            if sequences:
                self._forget(sequences)
                self._relays -= 1
                local.post(source, Relayed(request.sequence, answered))

        self._ping(sequences, target, lambda: done(answered=True))
        local.after(local.timing.probe_timeout_ms * 0.8, lambda: done(answered=False))

    def slept(self) -> None:
        """Void what was under way while this process slept; challenges start anew."""
        for challenge in list(self._challenges.values()):
            self._forget(challenge.sequences)
        self._challenges.clear()

    def _expect(self, sequences: list[int], target: str, answered: Callable[[], None]) -> int:
        sequence = self._local.sequence()
        sequences.append(sequence)
        self._waiting[sequence] = answered
        self._targets[sequence] = target
        return sequence

    def _ping(self, sequences: list[int], record: Record, answered: Callable[[], None]) -> None:
        sequence = self._expect(sequences, record.node_id, answered)
        self._local.post(record.endpoint, Ping(sequence, record.node_id), self._local.accusation(record))

    def _forget(self, sequences: list[int]) -> None:
        for sequence in sequences:
            self._waiting.pop(sequence, None)
            self._targets.pop(sequence, None)
            self._requests.pop(sequence, None)
        sequences.clear()

    def _answered(self, probe: _Probe) -> None:
        if not probe.over:
            self._end(probe)
            self._local.worsen(-1)

    def _end(self, probe: _Probe) -> None:
        probe.over = True
        self._forget(probe.sequences)

    def _ask_others(self, probe: _Probe) -> None:
        local = self._local
        record = local.roster.find(probe.target)
        if probe.over or record is None or probe.sleeps != local.sleeps:
            return
        helpers = local.roster.sample(
            local.random, local.timing.indirect, lambda r: r.status == "alive" and r.node_id != probe.target
        )
        sequence = local.sequence()
        probe.sequences.append(sequence)
        self._requests[sequence] = probe
        probe.helpers = {helper.node_id for helper in helpers}
        for helper in helpers:
            local.post(helper.endpoint, PingRequest(sequence, probe.target))
        self._ping(probe.sequences, record, lambda: self._answered(probe))  # one direct packet may just have been lost

    def _conclude(self, probe: _Probe) -> None:
        local = self._local
        if probe.over:
            return
        self._end(probe)
        record = local.roster.find(probe.target)
        if record is None or record.gone or probe.sleeps != local.sleeps or local.leaving:
            return  # a member that slept itself draws no conclusion
        missing = len(probe.helpers) - len(probe.nacks)
        local.worsen(missing if probe.helpers else 1)  # helpers that did not even say no: the fault may be ours
        self.rumours.suspect(record, local.id)

    def _challenge_again(self, challenge: _Challenge) -> None:
        local = self._local
        if self._challenges.get(challenge.target) is not challenge:
            return
        record = local.roster.find(challenge.target)
        if record is None or record.gone or local.leaving:
            self._withdraw(challenge)
        elif local.now_ms >= challenge.until_ms:
            self._withdraw(challenge)
            suspected = record.status == "suspect"
            if challenge.verdict is Verdict.LEFT or suspected:
                self.rumours.bury(record, challenge.verdict)
        else:
            self._ping(challenge.sequences, record, lambda: self._alive(challenge))
            local.after(local.timing.verify_gap_ms, lambda: self._challenge_again(challenge))

    def _alive(self, challenge: _Challenge) -> None:
        self._withdraw(challenge)
        record = self._local.roster.find(challenge.target)
        if record is not None:
            self.rumours.absolve(record)

    def _withdraw(self, challenge: _Challenge) -> None:
        self._challenges.pop(challenge.target, None)
        self._forget(challenge.sequences)
