"""A small state machine to try a cluster with: a map of keys to values, commands answered once.

The simulation, the fault programs and the benchmarks replicate it; it also shows how the contract is kept.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec

from consensus.entry import VERSION

_CHUNK_KEYS = 10_000


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One operation of one client; its sequence numbers grow by one, and a repeated one gets its first outcome."""

    client: str
    seq: int
    op: Literal["put", "get", "add"]  # add: append to the value, and return the whole
    key: str
    value: bytes = b""


class _State(msgspec.Struct, array_like=True):
    """What a chunk of a snapshot holds."""

    values: dict[str, bytes]
    answered: dict[str, tuple[int, bytes | None]]
    chain: bytes
    applied: int


class Ledger:
    """Keys, values, the last answer to each client, and a hash chain over all entries."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.answered: dict[str, tuple[int, bytes | None]] = {}
        self.chain = bytes(32)
        self.applied = 0  # commands that changed something or read for the first time
        self._decoder = msgspec.msgpack.Decoder(tuple[int, int, list[Command]])

    def apply(self, entry: bytes) -> Sequence[object]:
        """Apply an entry and return one outcome (value or None) per command; bytes that make no sense get none."""
        try:
            version, _now_ms, commands = self._decoder.decode(entry)
        except msgspec.DecodeError:
            return ["malformed"] * int.from_bytes(entry[12:16], "big")
        if version != VERSION:
            return ["version"] * len(commands)
        chain = hashlib.sha256(self.chain)
        chain.update(entry)
        self.chain = chain.digest()
        return [self._one(command) for command in commands]

    def _one(self, command: Command) -> bytes | None:
        client, seq = command.client, command.seq
        last = self.answered.get(client)
        if last is not None and seq <= last[0]:
            return last[1] if seq == last[0] else None
        outcome: bytes | None = None
        if command.op == "put":
            self.values[command.key] = command.value
        elif command.op == "get":
            outcome = self.values.get(command.key)
        else:
            outcome = self.values[command.key] = self.values.get(command.key, b"") + command.value
        self.answered[client] = (seq, outcome)
        self.applied += 1
        return outcome

    def snapshot(self) -> Iterator[bytes]:
        """Yield the state in chunks of many keys."""
        rest = _State({}, self.answered, self.chain, self.applied)
        yield msgspec.msgpack.encode(rest)
        keys = list(self.values)
        for at in range(0, len(keys), _CHUNK_KEYS):
            yield msgspec.msgpack.encode({k: self.values[k] for k in keys[at : at + _CHUNK_KEYS]})

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the state."""
        parts = iter(chunks)
        head = msgspec.msgpack.decode(next(parts), type=_State)
        self.values, self.answered, self.chain, self.applied = {}, head.answered, head.chain, head.applied
        for part in parts:
            self.values.update(msgspec.msgpack.decode(part, type=dict[str, bytes]))

    def digest(self) -> bytes:
        """Return the hash chain, which two replicas share only if they applied the same entries."""
        return self.chain
