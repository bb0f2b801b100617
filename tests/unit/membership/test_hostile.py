"""Whatever arrives, a member neither fails nor grows nor believes."""

from __future__ import annotations

from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from membership.api import State
from membership.core import Core
from membership.local import Send
from membership.messages import (
    BUCKETS,
    DIGEST_BYTES,
    PACKET_BYTES_MAX,
    Accusation,
    Ack,
    Alive,
    Envelope,
    Gossip,
    Message,
    Ping,
    PingRequest,
    Relayed,
    Sync,
    Verdict,
    View,
    decode,
    encode,
)
from membership.settings import Timing
from membership.simulation import World

names = st.sampled_from(["me", "a", "b", "c", "stranger", "x" * 64])
incarnations = st.integers(1, (1 << 62) - 1)
values = st.one_of(st.text(max_size=8), st.integers(-(1 << 40), 1 << 40), st.lists(st.integers(0, 9), max_size=3))
entries = st.one_of(
    st.builds(
        Alive,
        names,
        st.sampled_from(["boot-1", "boot-2"]),
        incarnations,
        st.sampled_from(["voter", "worker", ""]),
        st.sampled_from(["a:1", "b:1", "host:65535"]),
        st.dictionaries(st.text(max_size=8), values, max_size=3),
    ),
    st.builds(Accusation, names, incarnations, st.sampled_from(list(Verdict)), names),
)
news = st.lists(entries, max_size=6)
sequences = st.integers(0, (1 << 62) - 1)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ping, sequences, names, news),
    st.builds(Ack, sequences, news),
    st.builds(PingRequest, sequences, names, news),
    st.builds(Relayed, sequences, st.booleans(), news),
    st.builds(Gossip, news),
    st.builds(Sync, st.binary(min_size=DIGEST_BYTES, max_size=DIGEST_BYTES), news),
    st.builds(View, st.integers(0, (1 << BUCKETS) - 1), news),
)


@given(st.binary(max_size=1500))
def test_bytes_that_are_no_envelope_are_refused_with_one_kind_of_error(data: bytes) -> None:
    """Random bytes either decode to a valid envelope or raise ValueError, nothing else."""
    try:
        envelope = decode(data)
    except ValueError:
        return
    assert decode(encode(envelope)) == envelope


@given(st.recursive(st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=5), st.lists, max_leaves=20))
def test_wellformed_msgpack_of_another_shape_is_refused(value: object) -> None:
    """Type confusion ends at the decoder."""
    try:
        decode(msgspec.msgpack.encode(value))
    except (ValueError, OverflowError):
        return
    raise AssertionError("decoded")


@given(messages, names)
def test_every_message_survives_the_wire(message: Message, sender: str) -> None:
    """What is encoded is decoded to the same."""
    assert decode(encode(Envelope(sender, message))) == Envelope(sender, message)


@settings(max_examples=60)
@given(st.lists(st.tuples(names, messages, st.integers(0, 3000)), max_size=12), st.integers(0, 99))
def test_no_sequence_of_genuine_messages_breaks_a_member(story: list[tuple[str, Message, int]], seed: int) -> None:
    """A holder of the key who says anything: no error, no own death, bounded work, packets that fit."""
    core = Core(Alive("me", "boot-1", 1, "voter", "me:1", {}), ["a:1"], Timing(), Random(seed), 0)
    actions, now_ms = core.start(0), 0
    for sender, message, pause_ms in story:
        now_ms += pause_ms
        actions = core.receive(Envelope(sender, message), "source:1", now_ms) + core.tick(now_ms)
        for action in actions:
            if isinstance(action, Send):
                assert len(encode(action.envelope)) + 53 <= PACKET_BYTES_MAX
                assert decode(encode(action.envelope)) == action.envelope
        assert len(actions) < 200
    me = core.get("me")
    assert me is not None
    assert me.state is State.ALIVE
    assert len(core.members()) <= 6
    assert core._prober._relays <= Timing().relays_max


def test_an_insiders_lies_bury_nobody() -> None:
    """A member with the key that says of everyone, for a minute, that they are dead: suspicions, no death."""
    world = World(16, seed=3)
    world.run(2000)
    for _ in range(60):
        world.run(1000)
        for observer in range(1, 16):
            lies: list[Alive | Accusation] = [
                Accusation(f"m{victim}", 1_000_000 + 10_000, verdict, "m0")
                for victim in range(1, 16)
                for verdict in (Verdict.DEAD, Verdict.LEFT)
            ]
            world.inject(observer, Envelope("m0", Gossip(lies)), 0)
    world.run(10_000)
    assert {seen.kind for seen in world.seen} <= {"suspect", "alive"}
    assert world.holding("alive") == 16 * 15


def test_spoofed_senders_do_not_make_a_death_either() -> None:
    """Many accusers invented by one: the challenge is still answered."""
    world = World(8, seed=4)
    world.run(2000)
    for accuser in range(200):
        world.inject(
            1, Envelope(f"m{accuser % 8}", Gossip([Accusation("m3", 1_000_000, Verdict.DEAD, f"m{accuser}")])), 2
        )
        world.run(10)
    world.run(10_000)
    assert not [seen for seen in world.seen if seen.kind == "dead"]
    assert world.holding("alive") == 8 * 7
