"""What the voters of the fault runs replicate: registers, counters and lists; each request counts once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from benchmarks.histories import chain
from consensus.entry import VERSION

CHUNK_KEYS = 2000


class Request(msgspec.Struct, frozen=True, array_like=True):
    """One operation; a client's numbers grow by one, and a repeated number gets its first result."""

    client: str
    number: int
    key: str
    kind: str  # put, get, swap, add, append
    argument: Any = None


class Objects:
    """Values by key (a list is kept whole), the last result of each client, and a hash chain over all entries."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.answered: dict[str, tuple[int, Any]] = {}
        self.digest_now = bytes(16)
        self._decoder = msgspec.msgpack.Decoder(tuple[int, int, list[Request]])

    def apply(self, entry: bytes) -> Sequence[object]:
        version, _now_ms, requests = self._decoder.decode(entry)
        assert version == VERSION
        self.digest_now = hashlib.blake2b(entry, key=self.digest_now, digest_size=16).digest()
        return [self._once(request) for request in requests]

    def _once(self, request: Request) -> Any:
        number, result = self.answered.get(request.client, (0, None))
        if request.number > number:
            result = self._do(request)
            self.answered[request.client] = (request.number, result)
        return result

    def _do(self, request: Request) -> Any:
        key, argument = request.key, request.argument
        match request.kind:
            case "put":
                self.values[key] = argument
            case "swap":
                swapped = self.values.get(key) == argument[0]
                if swapped:
                    self.values[key] = argument[1]
                return swapped
            case "add":
                self.values[key] = self.values.get(key, 0) + argument
            case "append":
                known = self.values.setdefault(key, {"items": [], "chain": (0, 0)})
                known["items"].append(argument)
                known["chain"] = chain(tuple(known["chain"]), argument)
            case _:
                pass  # a read
        return None if request.kind == "put" else self.look(key)

    def look(self, key: str) -> Any:
        """Return a key's value as `histories.step` knows it."""
        value = self.values.get(key)
        return value["chain"] if isinstance(value, dict) else value

    def snapshot(self) -> Iterator[bytes]:
        yield msgspec.msgpack.encode((self.answered, self.digest_now))
        keys = list(self.values)
        for at in range(0, len(keys), CHUNK_KEYS):
            yield msgspec.msgpack.encode({k: self.values[k] for k in keys[at : at + CHUNK_KEYS]})

    def restore(self, chunks: Iterable[bytes]) -> None:
        parts = iter(chunks)
        self.answered, self.digest_now = msgspec.msgpack.decode(next(parts), type=tuple[dict[str, Any], bytes])
        self.values = {}
        for part in parts:
            self.values.update(msgspec.msgpack.decode(part))

    def digest(self) -> bytes:
        return self.digest_now
