"""How deep msgpack is nested: judged by its bytes alone, alike on every replica.

The decoder's own limit depends on how deep the program's stack is when it is called, so one replica would accept what
another refuses. What is nested deeper than `DEPTH_MAX` is therefore refused before or after decoding, by this measure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from workqueue.machine import commands as c

DEPTH_MAX = 64  # of a value that is kept as it came
REQUEST_DEPTH_MAX = 200  # of a whole request, well within what the decoder can do anywhere

# Bytes that may open an array or a map, and those that do so with no length behind them.
_OPENERS = bytes([*range(0x80, 0xA0), 0xDC, 0xDD, 0xDE, 0xDF])
_SIZES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}  # bytes of a length
_FIXED = {
    0xCA: 4, 0xCB: 8, 0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xD0: 1, 0xD1: 2, 0xD2: 4, 0xD3: 8,
    0xD4: 2, 0xD5: 3, 0xD6: 5, 0xD7: 9, 0xD8: 17,
}  # fmt: skip
_CONTAINERS = {0xDC: (2, 1), 0xDD: (4, 1), 0xDE: (2, 2), 0xDF: (4, 2)}  # bytes of the length, values an element


def is_deep(data: bytes, limit: int = DEPTH_MAX) -> bool:
    """Whether arrays and maps are nested deeper than `limit`; bytes that are not msgpack are not deep."""
    if len(data) <= limit or len(data) - len(data.translate(None, _OPENERS)) <= limit:
        return False  # there are not enough bytes that open anything
    try:
        return skip(data, 0, limit)[1] > limit
    except (IndexError, ValueError):
        return False


def skip(data: bytes, at: int, limit: int = 0) -> tuple[int, int]:
    """Return where the value at `at` ends and how deep it is, or where it gets deeper than a limit.

    Raises IndexError or ValueError when it is not whole.
    """
    open_: list[int] = [1]  # values still to come on each level
    deepest = 0
    while open_:
        if not open_[-1]:
            open_.pop()
            continue
        open_[-1] -= 1
        at, values = _step(data, at)
        if values >= 0:
            deepest = max(deepest, len(open_))
            if limit and deepest > limit:
                return at, deepest
            if values:
                open_.append(values)
    if at > len(data):
        raise ValueError("cut off")
    return at, deepest


def _step(data: bytes, at: int) -> tuple[int, int]:
    """Return what follows a header and its scalar, and how many values it opens, -1 when it is no container."""
    head = data[at]
    at += 1
    if head < 0x80 or head >= 0xE0 or head in {0xC0, 0xC2, 0xC3}:
        return at, -1
    if head < 0xA0:
        return at, (head & 15) * (2 if head < 0x90 else 1)
    if head < 0xC0:
        return at + (head & 31), -1
    if head in _FIXED:
        return at + _FIXED[head], -1
    if head in _SIZES:
        width = _SIZES[head]
        kind = 1 if 0xC7 <= head <= 0xC9 else 0  # an extension has its type behind the length
        return at + width + kind + int.from_bytes(data[at : at + width], "big"), -1
    if head in _CONTAINERS:
        width, each = _CONTAINERS[head]
        return at + width, int.from_bytes(data[at : at + width], "big") * each
    raise ValueError("not msgpack")


def split(entry: bytes) -> Iterator[bytes]:
    """Yield version, time and each request of an entry as bytes; raises IndexError or ValueError when it is not one."""
    at, values = _step(entry, 0)
    if values != 3 or entry[0] in {0x80, 0xDE, 0xDF}:
        raise ValueError("not an entry")
    for _ in range(2):
        start, (at, _) = at, skip(entry, at)
        yield entry[start:at]
    list_at = entry[at]
    at, values = _step(entry, at)
    if values < 0 or 0x80 <= list_at < 0x90 or list_at in {0xDE, 0xDF}:
        raise ValueError("the requests are no array")
    for _ in range(values):
        start, (at, _) = at, skip(entry, at)
        yield entry[start:at]
    if at != len(entry):
        raise ValueError("more than an entry")


_KEPT: dict[type[c.Command], Callable[[Any], Iterable[bytes]]] = {
    c.Enqueue: lambda command: [spec.payload for spec in command.jobs],
    c.Renew: lambda command: [raw for lease in command.leases for raw in (lease.progress, lease.cursor)],
    c.Complete: lambda command: [each.result for each in command.completions],
    c.Fail: lambda command: (command.cursor,),
    c.Release: lambda command: (command.cursor,),
    c.RegisterModel: lambda command: (command.manifest,),
    c.PutSettings: lambda command: command.values.values(),
}


def keeps_deep(command: c.Command) -> bool:
    """Whether a command brings a value, to be kept as it came, that is nested too deep."""
    kept = _KEPT.get(type(command))
    if kept is not None:
        for raw in kept(command):
            if len(raw) > DEPTH_MAX and is_deep(bytes(raw)):
                return True
    return False
