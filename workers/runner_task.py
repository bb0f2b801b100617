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
    backend: str = "auto"  # what computes nets
    batches: str = ""  # file of the batch sizes that this machine is fast with
