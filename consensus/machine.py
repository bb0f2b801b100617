"""The contract between the replicated log and what it replicates: bytes in, outcomes out."""

from collections.abc import Iterable, Sequence
from typing import Protocol


class StateMachine(Protocol):
    """A deterministic state machine.

    Its state after index n is a function of the entries up to n alone: no clock, no chance, no hash order.
    Retried commands carry request ids, by which the machine returns the first outcome again.
    """

    def apply(self, entry: bytes) -> Sequence[object]:
        """Apply an entry (see `consensus.entry`) and return one outcome per command; never raise."""
        ...

    def snapshot(self) -> Iterable[bytes]:
        """Yield the whole state as chunks of at most a few MiB; called in a forked child."""
        ...

    def restore(self, chunks: Iterable[bytes]) -> None:
        """Replace the whole state by that of a snapshot."""
        ...

    def digest(self) -> bytes:
        """Return a digest of the state, equal on all replicas that applied the same entries.

        It is called on the voter's only thread every `digest_every` entries, so keep it under a millisecond.
        """
        ...
