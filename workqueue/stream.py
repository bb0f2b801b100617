"""The multiplexed stream: frames and calls, alike over a unix socket and over WebSocket messages.

A frame is a 4-byte big-endian length and the msgpack of `[id, op, body]`. A caller picks ids; the answer has the same
id and op "ok" or "error", in any order. Id 0 is a push that nobody asked for. An error's body is an `ErrorBody`.
"""

from __future__ import annotations

import asyncio
import struct
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_BYTES_MAX = 32 << 20
PUSH = 0
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)  # what decoding untrusted msgpack may raise
_HEADER = struct.Struct(">I")

Frame: TypeAlias = tuple[int, str, msgspec.Raw]
OnReply: TypeAlias = "Callable[[str, msgspec.Raw], None]"

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw]).decode
NIL = msgspec.Raw(b"\xc0")


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a call failed before the state machine answered. `code` is one of those in `StreamError`."""

    code: str
    message: str
    retry_ms: int = 0


class StreamError(Exception):
    """A call was answered with "error", or its connection ended before an answer came.

    Codes: unavailable (nothing took effect), not_leader (nothing took effect), unknown (may have taken effect), closed
    (the connection ended; may have taken effect), forbidden, unauthorized, malformed, too_large, limit.
    """

    def __init__(self, code: str, message: str, retry_ms: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.retry_ms = retry_ms

    @property
    def body(self) -> ErrorBody:
        """The error as it travels."""
        return ErrorBody(self.code, str(self), self.retry_ms)


class FrameError(Exception):
    """Bytes that are not frames: the connection must be closed."""


def pack(frame_id: int, op: str, body: object) -> bytes:
    """Return one frame; a `msgspec.Raw` body is copied as it is."""
    data = _encode((frame_id, op, body))
    return _HEADER.pack(len(data)) + data


class Splitter:
    """Cuts a stream of bytes into frames; what is incomplete waits for the next bytes.

    One that is forgiving leaves out a frame that is nested too deeply, whose caller waits in vain: on a connection that
    serves many, one of them must not end it for all.
    """

    def __init__(self, bytes_max: int = FRAME_BYTES_MAX, *, forgiving: bool = False) -> None:
        self._rest = b""
        self._forgiving = forgiving
        self._bytes_max = bytes_max

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that are complete now; raises FrameError."""
        if self._rest:
            data = self._rest + data
        frames: list[Frame] = []
        view, at, end = memoryview(data), 0, len(data)
        while end - at >= 4:
            size = _HEADER.unpack_from(data, at)[0]
            if size > self._bytes_max:
                raise FrameError(f"a frame of {size} bytes is larger than {self._bytes_max}")
            if end - at - 4 < size:
                break
            try:
                frames.append(_decode(view[at + 4 : at + 4 + size]))
            except UNREADABLE as error:
                if isinstance(error, RecursionError) and self._forgiving:
                    at += 4 + size
                    continue
                raise FrameError(f"a frame is not [id, op, body]: {error}") from error
            at += 4 + size
        self._rest = data[at:] if at < end else b""
        return frames


_error_decode = msgspec.msgpack.Decoder(ErrorBody).decode


def error_of(body: msgspec.Raw) -> StreamError:
    """Return the error that an "error" frame carries."""
    try:
        found = _error_decode(body)
    except UNREADABLE:
        return StreamError("malformed", "the peer answered an error that cannot be read")
    return StreamError(found.code, found.message, found.retry_ms)


def settling(future: asyncio.Future[msgspec.Raw]) -> OnReply:
    """Return what settles a future by the answer of a call; one that nobody waits for any more stays as it is."""

    def settle(answer: str, reply: msgspec.Raw) -> None:
        if future.done():
            return
        if answer == "ok":
            future.set_result(reply)
        else:
            future.set_exception(error_of(reply))

    return settle


class Calls:
    """Calls in flight over one connection; frames written in the same turn of the loop travel in one write."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._pending: dict[int, OnReply] = {}
        self._out: list[bytes] = []
        self._next = 1
        self._closed: StreamError | None = None

    def send(self, op: str, body: object, on_reply: OnReply) -> int:
        """Send a call; `on_reply(op, body)` is called exactly once, also when the connection ends."""
        if self._closed:
            on_reply("error", msgspec.Raw(_encode(self._closed.body)))
            return 0
        call_id = self._next
        self._next += 1
        self._pending[call_id] = on_reply
        self.push(pack(call_id, op, body))
        return call_id

    def notify(self, op: str, body: object) -> None:
        """Send what needs no answer."""
        if not self._closed:
            self.push(pack(PUSH, op, body))

    def push(self, frame: bytes) -> None:
        """Write a whole frame with the others of this turn of the loop."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(frame)

    async def call(self, op: str, body: object = None) -> msgspec.Raw:
        """Send a call and return the body of its answer; raises StreamError."""
        future: asyncio.Future[msgspec.Raw] = self._loop.create_future()
        call_id = self.send(op, body, settling(future))
        try:
            return await future
        finally:
            self._pending.pop(call_id, None)

    def answer(self, frame: Frame) -> None:
        """Hand an answer to the call that waits for it; an answer nobody waits for is dropped."""
        waiting = self._pending.pop(frame[0], None)
        if waiting is not None:
            waiting(frame[1], frame[2])

    def close(self, reason: str) -> None:
        """End every call in flight with "closed"."""
        self._closed = self._closed or StreamError("closed", reason)
        ended = msgspec.Raw(_encode(self._closed.body))
        pending, self._pending = self._pending, {}
        for waiting in pending.values():
            waiting("error", ended)

    @property
    def in_flight(self) -> int:
        """How many calls wait for an answer."""
        return len(self._pending)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        if not self._closed:
            self._write(data)


class UnixLink(asyncio.Protocol):
    """A client's end of a unix-socket stream."""

    def __init__(self, on_push: Callable[[str, msgspec.Raw], None]) -> None:
        self._splitter = Splitter()
        self._on_push = on_push
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.calls: Calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to send."""
        self.transport = cast("asyncio.Transport", transport)
        self.calls = Calls(self.transport.write)

    def data_received(self, data: bytes) -> None:
        """Hand out answers and pushes."""
        for frame in self._splitter.feed(data):
            if frame[0] == PUSH:
                self._on_push(frame[1], frame[2])
            else:
                self.calls.answer(frame)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the calls in flight."""
        self.calls.close("the connection to the core ended" + (f": {exc}" if exc else ""))
        if not self.closed.done():
            self.closed.set_result(None)


def decode_as(kind: Any, body: msgspec.Raw) -> Any:
    """Decode a body; raises StreamError("malformed")."""
    try:
        return msgspec.msgpack.decode(body, type=kind)
    except UNREADABLE as error:
        raise StreamError("malformed", f"the body of the call is not understood: {error}") from error
