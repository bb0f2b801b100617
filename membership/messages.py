"""What members say to each other: messages, and the news (statements about members) that ride on them.

All travel as msgpack arrays with a leading tag. Lengths and ranges are part of the types, so that a packet which does
not satisfy them is refused while it is decoded.
"""

from __future__ import annotations

import enum
from typing import Annotated, TypeAlias

import msgspec

from membership.api import MembershipError, Value

PACKET_BYTES_MAX = 1200  # sealed, so that no link on the way fragments it
INCARNATION_MAX = 1 << 62
LEAP_MAX = 1 << 40  # what says more than this beyond the known incarnation is a lie (35 years of milliseconds)
BUCKETS = 32  # of the view digest
DIGEST_BYTES = 8 * BUCKETS

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Address = Annotated[str, msgspec.Meta(min_length=3, max_length=80)]
Incarnation = Annotated[int, msgspec.Meta(ge=1, lt=INCARNATION_MAX)]
Sequence = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]
Key = Annotated[str, msgspec.Meta(max_length=32)]


class Verdict(enum.IntEnum):
    """What an accusation says of a member."""

    SUSPECT = 1
    DEAD = 2
    LEFT = 3


class Alive(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A member about itself; only the member raises its incarnation."""

    id: Name
    boot_id: Name
    incarnation: Incarnation
    role: Annotated[str, msgspec.Meta(max_length=16)]
    address: Address
    metadata: dict[Key, Value]


class Accusation(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """A member about another (or, with LEFT, about itself): valid against this incarnation and older ones."""

    id: Name
    incarnation: Incarnation
    verdict: Verdict
    accuser: Name


Entry: TypeAlias = Alive | Accusation
News = Annotated[list[Entry], msgspec.Meta(max_length=64)]


class Ping(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """A challenge: only `target` answers, with the same sequence."""

    sequence: Sequence
    target: Name
    news: News = []


class Ack(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The answer of a challenge; its sequence proves that the challenge was read at that address."""

    sequence: Sequence
    news: News = []


class PingRequest(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Please challenge `target` on my behalf."""

    sequence: Sequence
    target: Name
    news: News = []


class Relayed(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The result of a challenge on another's behalf; `answered` false is Lifeguard's nack."""

    sequence: Sequence
    answered: bool
    news: News = []


class Gossip(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """News only."""

    news: News = []


class Sync(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """Anti-entropy: compare this digest of the sender's view with yours."""

    digest: Annotated[bytes, msgspec.Meta(min_length=DIGEST_BYTES, max_length=DIGEST_BYTES)]
    news: News = []


class View(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Members of the buckets that differ; `wanted` is a bit mask of buckets that the sender wants in return."""

    wanted: Annotated[int, msgspec.Meta(ge=0, lt=1 << BUCKETS)]
    news: News = []


Message: TypeAlias = Ping | Ack | PingRequest | Relayed | Gossip | Sync | View


class Envelope(msgspec.Struct, frozen=True, array_like=True):
    """A message and the node id of its sender."""

    sender: Name
    message: Message


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Envelope)


def encode(envelope: Envelope) -> bytes:
    """Return the bytes of an envelope."""
    return _encoder.encode(envelope)


def decode(data: bytes) -> Envelope:
    """Return the envelope in these bytes; raise msgspec.MsgspecError (a ValueError) when it is none."""
    return _decoder.decode(data)


def entry_bytes(entry: Entry) -> int:
    """Return the bytes that an entry takes inside a message."""
    return len(_encoder.encode(entry))


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of "host:port"."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise MembershipError(f"{address!r} is no address; write it as host:port, for example 10.0.0.4:7946.")
    return host.strip("[]"), int(port)
