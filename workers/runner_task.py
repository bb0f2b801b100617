"""What a runner is told about a lease."""

from __future__ import annotations

import msgspec


class Task(msgspec.Struct, frozen=True):
    """A lease as the runner gets it."""

    job: str
    attempt: int
    kind: str
    config: str
    payload: bytes  # msgpack
    cursor: bytes  # msgpack
    work: str
    outbox: str
    threads: int
