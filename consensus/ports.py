"""What a voter asks of the world around it: links, timers, snapshots and whoever waits for an answer."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from consensus import messages as m
from consensus.errors import ConsensusError

Done = Callable[[Sequence[object] | None], None]  # outcomes, or None: the outcome is unknown
Answer = Callable[[Sequence[object] | None, ConsensusError | None], None]  # to a proposal
ReadAnswer = Callable[[int | None, ConsensusError | None], None]  # to a read barrier: the index to read at


class Outbox(Protocol):
    """Where messages go."""

    def send(self, node_id: str, data: bytes) -> bool:
        """Send to a voter; False if there is no link (a message may be lost even if True)."""
        ...

    def backlog(self, node_id: str) -> int | None:
        """Return the bytes waiting to be sent to a voter, or None if there is no link."""
        ...


class Snapshots(Protocol):
    """The leader's and the follower's side of snapshots, driven from the ticks of `Raft`."""

    def feed(self, node_id: str) -> bool:
        """Send a lagging voter more of the snapshot; False if there is nothing to send yet."""
        ...

    def forget(self, node_id: str) -> None:
        """Stop sending to this voter."""
        ...

    def tick(self) -> None:
        """Start, watch and publish snapshots of our own."""
        ...

    def chunk(self, node_id: str, message: m.SnapshotChunk) -> None:
        """Take a piece of the leader's snapshot."""
        ...

    def received(self, node_id: str, message: m.SnapshotReceived) -> None:
        """Take a follower's answer to a piece."""
        ...


class Confirmation(Protocol):
    """Hears whether a leader still led when it was asked."""

    def __call__(self, *, ok: bool) -> None:
        """Take the answer."""


class Timer(Protocol):
    """A callback to come."""

    def cancel(self) -> None:
        """Forget it."""
        ...


class Scheduler(Protocol):
    """The part of an event loop that a voter needs."""

    def call_soon(self, callback: Callable[..., object], *args: Any) -> object:
        """Call after the current callback."""
        ...

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any) -> Timer:
        """Call after so many seconds."""
        ...
