"""Snapshots: msgpack sections with a length before each, so that a million jobs are written and read in pieces.

The first section names format and version. Sections of later versions may be added; one that is not known is an error,
because leaving it out would make replicas differ.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator

import msgspec

from workqueue.machine.ledger import Ledger
from workqueue.machine.settings import typed
from workqueue.machine.state import VERSION, Answer, Job, Match, State

FORMAT = "riftq-state"
PIECE = 5_000
_HEAD = struct.Struct("<I")
_encode = msgspec.msgpack.Encoder().encode


def write(ledger: Ledger, answers: Iterable[Answer]) -> Iterator[bytes]:
    """Yield the sections."""
    yield _section("format", [FORMAT, VERSION])
    yield _section("state", ledger.state)
    for piece in _pieces(ledger.jobs.values()):
        yield _section("jobs", piece)
    for piece in _pieces(ledger.matches):
        yield _section("matches", piece)
    for piece in _pieces(answers):
        yield _section("answers", piece)
    yield _section("end", None)


def _pieces(items: Iterable[object]) -> Iterator[list[object]]:
    iterator = iter(items)
    while piece := list(itertools.islice(iterator, PIECE)):
        yield piece


def _section(name: str, body: object) -> bytes:
    data = _encode([name, body])
    return _HEAD.pack(len(data)) + data


def _sections(chunks: Iterable[bytes]) -> Iterator[tuple[str, msgspec.Raw]]:
    decoder = msgspec.msgpack.Decoder(tuple[str, msgspec.Raw])
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        at = 0
        while len(buffer) - at >= _HEAD.size:
            (size,) = _HEAD.unpack_from(buffer, at)
            if len(buffer) - at - _HEAD.size < size:
                break
            data = bytes(memoryview(buffer)[at + _HEAD.size : at + _HEAD.size + size])
            at += _HEAD.size + size
            yield decoder.decode(data)
        del buffer[:at]
    if buffer:
        raise ValueError("the snapshot is cut off inside a section")


def read(chunks: Iterable[bytes]) -> tuple[Ledger, list[Answer]]:
    """Return the ledger and the remembered answers; raises ValueError (msgspec's errors are ValueErrors)."""
    ledger = Ledger()
    answers: list[Answer] = []
    names = []
    for name, body in _sections(chunks):
        names.append(name)
        match name:
            case "format":
                _check(msgspec.msgpack.decode(body))
            case "state":
                ledger.state = msgspec.msgpack.decode(body, type=State)
            case "jobs":
                ledger.jobs.update((job.spec.id, job) for job in msgspec.msgpack.decode(body, type=list[Job]))
            case "matches":
                ledger.matches += msgspec.msgpack.decode(body, type=list[Match])
            case "answers":
                answers += msgspec.msgpack.decode(body, type=list[Answer])
            case "end":
                pass
            case _:
                raise ValueError(f"the snapshot has a section `{name}` that this version does not know")
    if names[:1] != ["format"] or names[-1] != "end":
        raise ValueError("this is not a whole snapshot")
    ledger.settings = typed(ledger.state.settings)
    ledger.rebuild()
    return ledger, answers


def _check(header: object) -> None:
    if not isinstance(header, list) or len(header) != 2 or header[0] != FORMAT:
        raise ValueError("this is not a snapshot of the queue's state")
    if header[1] != VERSION:
        raise ValueError(f"the snapshot has version {header[1]}, this code knows {VERSION}")
