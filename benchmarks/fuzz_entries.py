"""Entries that no voter would write: random bytes, wrong shapes, types and sizes, deep nesting, crossed ids."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec

from benchmarks.fuzz_author import ALL, IDS, Author

encode = msgspec.msgpack.Encoder().encode

HUGE = (1 << 40, 1 << 48, (1 << 48) + 1, 1 << 53, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63), -1, 0)
ODD: tuple[Any, ...] = (
    *HUGE, "", "x" * 300, "job1", "w1", "sha1", "*", None, [], {}, 1.5, True, float("nan"), float("inf"), b"\xff", b"",
    {"type": "Tick"}, [[]], {"": {}}, "\x00", "😀", msgspec.Raw(b"\xa2\xff\xfe"), msgspec.Raw(b"\xd6\x05\0\0\0\0"),
)  # fmt: skip


def nested(rng: random.Random) -> msgspec.Raw:
    """A value whose arrays or maps are nested, up to far deeper than any stack."""
    depth = rng.choice((10, 60, 63, 64, 65, 70, 150, 199, 201, 400, 800, 950, 3_000))
    opener, end = rng.choice(((b"\x91", b"\xc0"), (b"\x81\xa1k", b"\xc0"), (b"\x92\xc0", b"\xc3"), (b"\x91", b"")))
    return msgspec.Raw(opener * depth + end)


def anything(rng: random.Random, depth: int = 3) -> Any:
    """Return a random value."""
    match rng.randrange(8 if depth else 5):
        case 0:
            return rng.choice(ODD)
        case 1:
            return rng.getrandbits(rng.randrange(1, 65))
        case 2:
            return rng.choice(IDS)
        case 3:
            return rng.randbytes(rng.randrange(12))
        case 4:
            return rng.random()
        case 5 | 6:
            return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice((*IDS, "type", "jobs", "id")): anything(rng, depth - 1) for _ in range(rng.randrange(4))}


class Hostile:
    """A stream of hostile entries, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.author = Author(self.rng)
        self.now_ms = 1_700_000_000_000
        self.number = 0
        self.kinds: Counter[str] = Counter()
        self.makers = (
            self.crossed, self.crossed, self.crossed, self.crossed, self.crossed, self.noise, self.mutated,
            self.wrong_shape, self.wrong_types, self.huge, self.deep,
        )  # fmt: skip

    def __iter__(self) -> Hostile:
        return self

    def __next__(self) -> bytes:
        maker = self.rng.choice(self.makers)
        self.kinds[maker.__name__] += 1
        return maker()

    def _key(self) -> tuple[str, int]:
        """Mostly a new request; sometimes one that was there before, with another command."""
        self.number += 1
        old = self.rng.random() < 0.02
        return "c", self.rng.randrange(self.number) if old else self.number

    def _entry(self, *requests: object) -> bytes:
        self.now_ms += self.rng.choice((0, 1, 50, 700, 4_000))
        now_ms = self.now_ms if self.rng.random() < 0.98 else self.rng.choice(HUGE)
        return encode([1, now_ms, requests])

    def crossed(self) -> bytes:
        """Valid commands that name what is another's, or gone, or not there yet."""
        return self._entry(*([*self._key(), "a", self.author.command()] for _ in range(self.rng.randint(1, 3))))

    def noise(self) -> bytes:
        """Random bytes."""
        return self.rng.randbytes(self.rng.randrange(200))

    def mutated(self) -> bytes:
        """A valid entry with bytes changed, removed or added."""
        data, rng = bytearray(self.crossed()), self.rng
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(3):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1 if at < len(data):
                    del data[at : at + rng.randint(1, 5)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 5))
        return bytes(data)

    def wrong_shape(self) -> bytes:
        """Msgpack that is no entry, no request or no command."""
        odd = anything(self.rng)
        good = [*self._key(), "a", self.author.command()]
        shapes: tuple[Any, ...] = (odd, [1, 2, odd], [1, self.now_ms, [odd, good]], [odd, self.now_ms, [good]])
        more: tuple[Any, ...] = ([1, odd, [good]], [1, self.now_ms, [[*good[:3], odd]]], [1, 1, [[*good, odd]], odd])
        return encode(self.rng.choice((*shapes, *more)))

    def wrong_types(self) -> bytes:
        """A command whose fields are of any type, present or not."""
        kind = self.rng.choice(ALL)
        fields: dict[str, Any] = {"type": kind.__name__}
        known = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        for name in (*kind.__struct_fields__, *(("novel",) if self.rng.random() < 0.1 else ())):
            if self.rng.random() < 0.9:
                fields[name] = known[name] if name in known and self.rng.random() < 0.5 else anything(self.rng)
        return self._entry([*self._key(), "a", fields])

    def huge(self) -> bytes:
        """A valid command in which a number is beyond what is sensible."""
        value = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        self._replace(value, lambda old: isinstance(old, int), lambda: self.rng.choice(HUGE))
        return self._entry([*self._key(), "a", value])

    def deep(self) -> bytes:
        """A valid command in which something is nested deep."""
        value = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        self._replace(value, lambda old: not isinstance(old, dict | list), lambda: nested(self.rng))
        good = [*self._key(), "a", self.author.command()]
        return self._entry([*self._key(), "a", value], good)

    def _replace(self, value: Any, wanted: Any, make: Any) -> None:
        """Replace one leaf or several of a tree."""
        places: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for name, old in places:
            if isinstance(old, tuple):
                value[name] = old = list(old)
            if isinstance(old, dict | list):
                self._replace(old, wanted, make)
            elif name != "type" and wanted(old) and self.rng.random() < 0.4:
                value[name] = make()
