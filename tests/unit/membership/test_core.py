"""Each state change of one member's protocol, step by step, without a clock or a network."""

from __future__ import annotations

from random import Random

import pytest

from membership.api import MembershipError, State
from membership.core import Core
from membership.local import Action, Notify, Send, Stream
from membership.messages import (
    Accusation,
    Ack,
    Alive,
    Entry,
    Envelope,
    Gossip,
    Message,
    Ping,
    PingRequest,
    Relayed,
    Sync,
    Verdict,
    View,
)
from membership.settings import Timing

TIMING = Timing()
START_MS = 1_000_000


def alive(node_id: str, incarnation: int = 1, boot_id: str = "boot-1", **metadata: str) -> Alive:
    return Alive(node_id, boot_id, incarnation, "worker", f"{node_id}:1", dict(metadata))


def accuse(node_id: str, verdict: Verdict, accuser: str = "b", incarnation: int = 1) -> Accusation:
    return Accusation(node_id, incarnation, verdict, accuser)


class Bench:
    """One member "me" that knows a, b, c; the test plays all the others."""

    def __init__(self, *known: str, seed: int = 1) -> None:
        self.now_ms = START_MS
        self.core = Core(alive("me"), [], TIMING, Random(seed), self.now_ms)
        self.actions: list[Action] = []
        self.answering: set[str] = set()
        self.hear("a", Gossip([alive(node_id) for node_id in known or ("a", "b", "c")]))
        self.take(self.core.start(self.now_ms))
        self.actions.clear()

    def take(self, actions: list[Action]) -> list[Action]:
        self.actions += actions
        for action in actions:
            if isinstance(action, Send | Stream) and isinstance(action.envelope.message, Ping):
                target = action.envelope.message.target
                if target in self.answering:
                    self.hear(target, Ack(action.envelope.message.sequence))
        return actions

    def hear(self, sender: str, message: Message, source: str | None = None) -> list[Action]:
        return self.take(self.core.receive(Envelope(sender, message), source or f"{sender}:1", self.now_ms))

    def tell(self, *entries: Entry, sender: str = "a") -> list[Action]:
        return self.hear(sender, Gossip(list(entries)))

    def wait(self, duration_ms: int) -> list[Action]:
        """Let time pass as a punctual event loop would."""
        before, end_ms = len(self.actions), self.now_ms + duration_ms
        while (due_ms := self.core.due_ms) is not None and due_ms <= end_ms:
            self.now_ms = max(self.now_ms, due_ms)
            self.take(self.core.tick(self.now_ms))
        self.now_ms = end_ms
        return self.actions[before:]

    def state(self, node_id: str) -> State | None:
        member = self.core.get(node_id)
        return None if member is None else member.state

    def incarnation(self, node_id: str) -> int:
        record = self.core._local.roster.find(node_id)
        assert record is not None
        return record.incarnation

    def kinds(self, node_id: str) -> list[str]:
        return [a.kind for a in self.actions if isinstance(a, Notify) and a.member.id == node_id]


def sends(actions: list[Action], kind: type, to: str | None = None) -> list[Send]:
    return [
        a
        for a in actions
        if isinstance(a, Send) and isinstance(a.envelope.message, kind) and (to is None or a.address == to)
    ]


def news_of(actions: list[Action]) -> list[Entry]:
    return [entry for a in actions if isinstance(a, Send | Stream) for entry in a.envelope.message.news]


def test_a_newcomer_joins_and_is_passed_on() -> None:
    """First news of a member is a join, and the news goes on to others."""
    bench = Bench()
    bench.answering |= {"a", "b", "c", "d"}
    bench.tell(alive("d", gpu="H100"))
    assert bench.kinds("d") == ["joined"]
    assert alive("d", gpu="H100") in news_of(bench.wait(TIMING.gossip_ms))


def test_every_member_is_probed_within_two_rounds() -> None:
    """Round-robin: the time until a member is probed again is bounded."""
    bench = Bench(*(f"n{i}" for i in range(10)), "a")
    bench.answering |= {f"n{i}" for i in range(10)} | {"a"}
    step_ms = TIMING.period_ms // TIMING.probes
    actions = bench.wait(2 * 12 * step_ms)
    probed = {send.address for send in sends(actions, Ping)}
    assert probed == {f"n{i}:1" for i in range(10)} | {"a:1"}


def test_a_silent_member_is_asked_through_others_before_it_is_suspected() -> None:
    """Direct, after the timeout indirect and direct again, at the period's end suspect."""
    bench = Bench()
    bench.core.hint("b", bench.now_ms)
    asked = bench.wait(TIMING.probe_timeout_ms)
    assert {s.address for s in sends(asked, PingRequest)} == {"a:1", "c:1"}
    assert bench.state("b") is State.ALIVE
    bench.wait(TIMING.period_ms - TIMING.probe_timeout_ms)
    assert bench.kinds("b") == ["suspect"]
    assert accuse("b", Verdict.SUSPECT, "me") in news_of(bench.wait(TIMING.gossip_ms))


def test_an_indirect_answer_clears_a_member() -> None:
    """A helper that reached it is enough, if it was asked."""
    bench = Bench()
    bench.core.hint("b", bench.now_ms)
    request = sends(bench.wait(TIMING.probe_timeout_ms), PingRequest)[0].envelope.message
    assert isinstance(request, PingRequest)
    bench.hear("stranger", Relayed(request.sequence, answered=True))
    bench.answering.add("c")
    bench.hear("a", Relayed(request.sequence, answered=True))
    bench.wait(TIMING.period_ms - TIMING.probe_timeout_ms)
    assert "suspect" not in bench.kinds("b")


def test_an_answer_from_another_member_or_with_another_sequence_counts_for_nothing() -> None:
    """Stale and foreign acknowledgements, which stock swim takes for a life sign."""
    bench = Bench()
    (ping,) = sends(bench.take(bench.core.hint("b", bench.now_ms)), Ping)
    message = ping.envelope.message
    assert isinstance(message, Ping)
    bench.hear("a", Ack(message.sequence))
    bench.hear("b", Ack(message.sequence + 1))
    bench.wait(TIMING.period_ms)
    assert bench.state("b") is State.SUSPECT


def test_missing_nacks_make_this_member_doubt_itself() -> None:
    """Lifeguard: helpers that say nothing at all point at our own network; a nack does not."""
    silent, nacked = Bench(), Bench()
    for bench in (silent, nacked):
        bench.take(bench.core.hint("b", bench.now_ms))
        for send in sends(bench.wait(TIMING.probe_timeout_ms), PingRequest):
            message = send.envelope.message
            if bench is nacked and isinstance(message, PingRequest) and message.target == "b":
                bench.hear(send.address[0], Relayed(message.sequence, answered=False))
        bench.wait(TIMING.period_ms - TIMING.probe_timeout_ms)
    assert silent.core.health > nacked.core.health


def test_an_unanswered_suspect_is_buried_after_a_last_challenge_by_both_paths() -> None:
    """Nobody is dead before our own challenges, datagram and stream, went unanswered."""
    bench = Bench()
    bench.answering |= {"a", "c"}
    bench.tell(accuse("b", Verdict.SUSPECT, "a"), accuse("b", Verdict.SUSPECT, "c"))
    bench.tell(accuse("b", Verdict.SUSPECT, "d"))
    before = bench.wait(2250 - TIMING.verify_ms - 1)
    assert not [a for a in before if isinstance(a, Stream)]
    assert bench.state("b") is State.SUSPECT
    challenged = bench.wait(TIMING.verify_ms + 1)
    assert [a.address for a in challenged if isinstance(a, Stream)] == ["b:1"]
    assert len(sends(challenged, Ping, "b:1")) >= TIMING.verify_ms // TIMING.verify_gap_ms
    bench.wait(TIMING.verify_ms * 4)  # longer while this member doubts its own health
    assert bench.kinds("b") == ["suspect", "dead"]
    member = bench.core.get("b")
    assert member is not None
    assert member.observers >= 3


def test_a_suspect_that_answers_the_last_challenge_is_given_time_to_refute() -> None:
    """An answer proves life, but only its own word raises its incarnation."""
    bench = Bench()
    bench.tell(*(accuse("b", Verdict.SUSPECT, who) for who in ("a", "c", "d")))
    bench.answering.add("b")
    bench.wait(10_000)
    assert bench.kinds("b") == ["suspect"]
    bench.tell(alive("b", 2), sender="b")
    assert bench.kinds("b") == ["suspect", "alive"]


def test_one_members_word_of_a_death_is_a_suspicion_only() -> None:
    """The lie of a member that holds the key: the accused answers our challenge and stays."""
    bench = Bench()
    bench.answering |= {"a", "b", "c"}
    bench.tell(accuse("b", Verdict.DEAD, "a", incarnation=50))
    bench.tell(accuse("c", Verdict.LEFT, "a", incarnation=50))
    bench.wait(5000)
    assert bench.kinds("b") == ["suspect"]
    assert bench.kinds("c") == []
    bench.tell(alive("b", 51), sender="b")
    assert bench.state("b") is State.ALIVE


def test_a_true_word_of_a_death_is_confirmed_at_once() -> None:
    """Who hears of a death does not wait for its own suspicion to run out."""
    bench = Bench()
    bench.tell(accuse("b", Verdict.DEAD, "c"))
    bench.wait(TIMING.verify_ms)
    assert bench.kinds("b") == ["suspect", "dead"]


def test_a_second_observer_of_a_death_is_told() -> None:
    """What one saw is a hint; what two saw is worth acting on."""
    bench = Bench("a", "b")
    bench.core._local.timing = TIMING
    record = bench.core._local.roster.find("b")
    assert record is not None
    bench.core._rumours.bury(record, Verdict.DEAD)
    bench.tell(accuse("b", Verdict.DEAD, "a"))
    assert bench.kinds("b")[-1] == "updated"
    member = bench.core.get("b")
    assert member is not None
    assert member.observers == 2


@pytest.mark.parametrize("verdict", list(Verdict))
def test_the_accused_refutes_above_the_accusation_and_answers_the_accuser(verdict: Verdict) -> None:
    """No node accepts its own death; stock swim does."""
    bench = Bench()
    answer = bench.tell(accuse("me", verdict, "a", incarnation=7))
    assert alive("me", 8) in news_of(sends(answer, Gossip, "a:1"))  # type: ignore[arg-type]
    assert bench.state("me") is State.ALIVE


def test_a_stale_accusation_raises_nothing_but_is_answered() -> None:
    """Rumours of an older incarnation are void."""
    bench = Bench()
    bench.tell(accuse("me", Verdict.SUSPECT, incarnation=7))
    bench.tell(accuse("me", Verdict.SUSPECT, incarnation=3))
    assert bench.incarnation("me") == 8
    bench.tell(alive("b", 9), accuse("b", Verdict.DEAD, incarnation=8))
    assert bench.state("b") is State.ALIVE


def test_an_incarnation_far_beyond_the_known_one_is_a_lie() -> None:
    """Refuting it would use up the range of incarnations, after which nothing could be refuted."""
    bench = Bench()
    bench.tell(accuse("me", Verdict.DEAD, incarnation=1 << 61), alive("b", 1 << 61))
    assert (bench.incarnation("me"), bench.incarnation("b")) == (1, 1)
    assert bench.core.counters["incarnation leapt"] == 2


def test_old_word_of_life_does_not_raise_the_dead() -> None:
    """At the same incarnation, dead stays dead; a higher one is a refutation."""
    bench = Bench()
    bench.tell(accuse("b", Verdict.DEAD))
    bench.wait(TIMING.verify_ms)
    bench.tell(alive("b", 1))
    assert bench.state("b") is State.DEAD
    bench.tell(alive("b", 2))
    assert bench.kinds("b") == ["suspect", "dead", "alive"]


def test_a_new_boot_of_a_live_member_ends_the_old_one() -> None:
    """A restart faster than any suspicion still ends what the old boot held."""
    bench = Bench()
    bench.tell(alive("b", 2, "boot-2"))
    told = [(a.kind, a.member.boot_id) for a in bench.actions if isinstance(a, Notify) and a.member.id == "b"]
    assert told == [("dead", "boot-1"), ("joined", "boot-2")]


def test_a_member_that_finds_its_id_taken_goes_above() -> None:
    """After a restart with a clock that went back, own old news does not shadow the new boot."""
    bench = Bench()
    bench.tell(alive("me", 500, "older-boot"))
    assert bench.incarnation("me") == 501
    assert bench.core.counters["own id taken"] == 1


def test_metadata_changes_are_told_once() -> None:
    """An update is an event only if something changed."""
    bench = Bench()
    bench.tell(alive("b", 2, gpu="A100"))
    bench.tell(alive("b", 3, gpu="A100"))
    assert bench.kinds("b") == ["updated"]
    actions = bench.take(bench.core.set_metadata({"load": 3}, bench.now_ms)) + bench.wait(TIMING.gossip_ms)
    assert any(isinstance(e, Alive) and e.id == "me" and e.metadata == {"load": 3} for e in news_of(actions))
    with pytest.raises(MembershipError, match="shorten it"):
        bench.core.set_metadata({"text": "x" * 600}, bench.now_ms)


def test_a_farewell_is_believed_after_the_leaver_or_its_silence_confirms_it() -> None:
    """Both forms of proof: its own answer, or none."""
    spoken, silent = Bench(), Bench()
    for bench in (spoken, silent):
        challenge = sends(bench.tell(accuse("b", Verdict.LEFT, "b", 2), sender="b"), Ping, "b:1")[0]
        message = challenge.envelope.message
        assert isinstance(message, Ping)
        if bench is spoken:
            bench.hear("b", Ack(message.sequence, [accuse("b", Verdict.LEFT, "b", 2)]))
            assert bench.kinds("b") == ["left"]
    silent.wait(TIMING.verify_ms)
    assert silent.kinds("b") == ["left"]


def test_a_leaver_tells_everyone_and_answers_with_its_farewell() -> None:
    """The others can make sure while it lingers."""
    bench = Bench()
    actions = bench.take(bench.core.leave(bench.now_ms))
    assert {send.address for send in sends(actions, Gossip)} == {"a:1", "b:1", "c:1"}
    (answer,) = sends(bench.hear("a", Ping(5, "me")), Ack)
    assert accuse("me", Verdict.LEFT, "me", 2) in answer.envelope.message.news
    bench.tell(accuse("me", Verdict.DEAD, "a", 9))
    assert bench.incarnation("me") == 2
    assert not sends(bench.wait(5000), Ping)


def test_only_the_challenged_node_answers() -> None:
    """After a change of address a ping for the former holder is not answered."""
    bench = Bench()
    assert not sends(bench.hear("a", Ping(5, "someone")), Ack)
    assert sends(bench.hear("a", Ping(5, "me"), source="elsewhere:9"), Ack, "elsewhere:9")


def test_a_helper_asks_known_members_only_and_says_no_when_they_are_silent() -> None:
    """Nobody uses a member to send packets to arbitrary hosts."""
    bench = Bench()
    assert not bench.hear("a", PingRequest(7, "unknown"))
    bench.hear("a", PingRequest(8, "b"))
    answers = sends(bench.wait(TIMING.probe_timeout_ms), Relayed, "a:1")
    assert [a.envelope.message.answered for a in answers if isinstance(a.envelope.message, Relayed)] == [False]
    bench.answering.add("b")
    actions = bench.hear("a", PingRequest(9, "b"))
    assert any(
        isinstance(s.envelope.message, Relayed) and s.envelope.message.answered for s in sends(bench.actions, Relayed)
    )
    assert actions


def test_indirect_probes_for_others_are_bounded() -> None:
    """A flood of requests does not become a flood of probes."""
    bench = Bench()
    probes = [bench.hear("a", PingRequest(number, "b")) for number in range(500)]
    assert sum(len(sends(actions, Ping)) for actions in probes) == TIMING.relays_max


def test_a_process_that_slept_accuses_nobody() -> None:
    """Ten seconds stopped: the others were silent only because we did not listen."""
    bench = Bench()
    bench.tell(*(accuse("b", Verdict.SUSPECT, who) for who in ("a", "c", "d")))
    bench.take(bench.core.hint("c", bench.now_ms))
    bench.now_ms += 10_000
    bench.take(bench.core.tick(bench.now_ms))
    assert bench.state("b") is State.SUSPECT
    assert bench.state("c") is State.ALIVE
    assert bench.core.health > 0
    bench.answering |= {"a", "b", "c"}
    bench.wait(1500)
    assert "dead" not in bench.kinds("b") + bench.kinds("c")


def test_equal_views_exchange_one_digest_and_nothing_else() -> None:
    """Anti-entropy costs two packets while all agree."""
    bench = Bench()
    (reply,) = sends(bench.hear("a", Sync(bench.core._local.roster.digest)), View)
    assert reply.envelope.message == View(0)


def test_differing_views_exchange_the_buckets_that_differ() -> None:
    """Each learns what only the other knew."""
    here, there = Bench("a", "b", "c", "x"), Bench("a", "b", "c", "y")
    (reply,) = sends(here.hear("other", Sync(there.core._local.roster.digest), "there:1"), View)
    back = sends(there.hear("here", reply.envelope.message, "here:1"), View)
    for send in back:
        here.hear("other", send.envelope.message)
    assert here.state("y") is State.ALIVE
    assert there.state("x") is State.ALIVE


def test_the_long_dead_are_forgotten_and_old_news_does_not_bring_them_back() -> None:
    """A tombstone keeps the incarnation."""
    bench = Bench()
    bench.tell(accuse("b", Verdict.DEAD, incarnation=4))
    bench.answering |= {"a", "c"}
    bench.wait(TIMING.verify_ms)
    record = bench.core._local.roster.find("b")
    assert record is not None
    bench.core._local.now_ms += TIMING.reap_dead_ms + 1
    bench.core._rumours.reap()
    bench.now_ms = bench.core._local.now_ms
    assert bench.state("b") is None
    bench.tell(alive("b", 4))
    assert bench.state("b") is None
    bench.tell(alive("b", 5))
    assert bench.state("b") is State.ALIVE


def test_the_roster_is_bounded() -> None:
    """A member with the key cannot fill our memory with ghosts."""
    bench = Bench()
    bench.core._local.timing = Timing(members_max=10)
    for index in range(40):
        bench.tell(alive(f"ghost-{index}"))
    assert len(bench.core.members()) == 10
    assert bench.core.counters["roster full"] == 34


def test_a_dead_member_that_speaks_is_told_so_and_can_refute() -> None:
    """Neither side waits for anti-entropy."""
    bench = Bench()
    bench.tell(accuse("b", Verdict.DEAD))
    bench.wait(TIMING.verify_ms)
    told = news_of(bench.hear("b", Ping(1, "me")))
    assert accuse("b", Verdict.DEAD, "me") in told


def test_dead_members_are_knocked_at() -> None:
    """So that two halves of a parted group find each other without help."""
    bench = Bench()
    bench.answering |= {"a", "c"}
    bench.tell(accuse("b", Verdict.DEAD))
    actions = bench.wait(2 * TIMING.reconnect_ms)
    assert sends(actions, Sync, "b:1")
