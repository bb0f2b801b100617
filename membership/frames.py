"""Frames between a gossip process and its clients: 4-byte length, then msgpack `[id, op, body]`."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from typing import Annotated, Any

import msgspec

_LENGTH = struct.Struct(">I")
FRAME_BYTES_MAX = 16 << 20  # a view of 20,000 members


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """A request (`op` = command), an answer ("ok", "error") or, under id 0, an event."""

    id: Annotated[int, msgspec.Meta(ge=0)]
    op: str
    body: Any = None  # decoded further by whoever knows the op


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Frame)


def pack(frame: Frame) -> bytes:
    """Return the bytes of a frame."""
    payload = _encoder.encode(frame)
    return _LENGTH.pack(len(payload)) + payload


async def read(reader: asyncio.StreamReader) -> Frame | None:
    """Return the next frame, or None at the end; raise ValueError for what is no frame."""
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length > FRAME_BYTES_MAX:
            raise ValueError(f"A frame of {length} bytes is longer than allowed ({FRAME_BYTES_MAX}).")
        return _decoder.decode(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection and wait until it is closed."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
