"""Messages between agent and runner: msgpack arrays behind a length of 4 bytes, over a socket pair."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    import asyncio
    import socket

_LENGTH = struct.Struct(">I")
FRAME_BYTES_MAX = 64 << 20
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Any]).decode


def pack(*parts: object) -> bytes:
    """One frame."""
    body = _encode(parts)
    return _LENGTH.pack(len(body)) + body


def receive(link: socket.socket) -> list[Any]:
    """Wait for the next frame; raises EOFError when the other side is gone. Blocks."""
    (length,) = _LENGTH.unpack(_exactly(link, _LENGTH.size))
    return _decode(_exactly(link, _bounded(length)))


async def read(reader: asyncio.StreamReader) -> list[Any]:
    """Wait for the next frame; raises asyncio.IncompleteReadError when the other side is gone."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    return _decode(await reader.readexactly(_bounded(length)))


def _bounded(length: int) -> int:
    if length > FRAME_BYTES_MAX:
        raise EOFError(f"a frame of {length} bytes is not one of ours")
    return length


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = link.recv(size - len(parts))
        if not part:
            raise EOFError("the agent is gone")
        parts += part
    return bytes(parts)
