"""What voters say to each other: msgpack arrays with a tag, decoded into types; anything else closes the link."""

import msgspec


class _Message(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message between voters."""


class Append(_Message, frozen=True, tag=1):
    """The leader's entries after (prev_index, prev_term), and how far it has committed."""

    term: int
    commit_index: int
    prev_index: int
    prev_term: int
    entries: list[tuple[bytes, int, int]]


class Appended(_Message, frozen=True, tag=2):
    """A follower's answer: everything below next_index matches and is durable, or (reset) go back to it."""

    term: int
    next_index: int
    success: bool


class RequestVote(_Message, frozen=True, tag=3):
    """A candidate asks for a vote."""

    term: int
    last_index: int
    last_term: int


class Vote(_Message, frozen=True, tag=4):
    """A granted vote."""

    term: int


class PreVote(_Message, frozen=True, tag=5):
    """A voter that hears no leader asks whether an election would succeed, changing nothing anywhere."""

    term: int
    round: int
    last_index: int
    last_term: int


class PreVoteGranted(_Message, frozen=True, tag=6):
    """It would have this voter's vote; term is the answering voter's own."""

    term: int
    round: int


class Heartbeat(_Message, frozen=True, tag=7):
    """The leader lives, but the snapshot that the follower needs is not ready to be sent."""

    term: int


class SnapshotChunk(_Message, frozen=True, tag=8):
    """Bytes of a snapshot file from an offset."""

    term: int
    index: int
    last_term: int
    total: int
    offset: int
    data: bytes


class SnapshotReceived(_Message, frozen=True, tag=9):
    """All bytes of the snapshot up to an offset have been received."""

    term: int
    index: int
    offset: int


class Confirm(_Message, frozen=True, tag=10):
    """The leader asks whether it still is one (a read barrier)."""

    term: int
    round: int


class Confirmed(_Message, frozen=True, tag=11):
    """It still is."""

    term: int
    round: int


class TimeoutNow(_Message, frozen=True, tag=12):
    """The leader hands over: start an election at once."""

    term: int


class StateDigest(_Message, frozen=True, tag=13):
    """The digest of the sender's state just after applying an index."""

    index: int
    digest: bytes


Message = (
    Append
    | Appended
    | RequestVote
    | Vote
    | PreVote
    | PreVoteGranted
    | Heartbeat
    | SnapshotChunk
    | SnapshotReceived
    | Confirm
    | Confirmed
    | TimeoutNow
    | StateDigest
)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Message)
DecodeError = msgspec.DecodeError


def encode(message: Message) -> bytes:
    """Return the bytes of a message."""
    return _encoder.encode(message)


def decode(data: bytes | memoryview) -> Message:
    """Return the message in these bytes; DecodeError (ValidationError included) if there is none."""
    message: Message = _decoder.decode(data)
    return message
