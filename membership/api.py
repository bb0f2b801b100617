"""What membership offers: members, their states, and the events that tell of a change.

Membership is a hint. It ends nobody's lease: whoever acts on a `dead` event confirms it first.
"""

from __future__ import annotations

import enum
import secrets
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, Self, TypeAlias

import msgspec

from config.errors import AppError

Value: TypeAlias = str | int | float | list[str | int | float]
Metadata: TypeAlias = dict[str, Value]
EventKind: TypeAlias = Literal["joined", "alive", "suspect", "dead", "left", "updated", "resync"]


class MembershipError(AppError):
    """A membership command that cannot be carried out; the sentence says what to do."""


class State(enum.StrEnum):
    """What an observer holds of a member; LEFT and DEAD are final for that boot id unless it speaks again."""

    ALIVE = "alive"
    SUSPECT = "suspect"
    LEFT = "left"
    DEAD = "dead"


class Member(msgspec.Struct, frozen=True):
    """One boot of one node as this observer sees it."""

    id: str
    boot_id: str
    role: str  # "voter" or "worker"
    address: str  # "host:port" that others reach it at; empty when it has no inbound port
    metadata: Metadata
    state: State
    via: str  # "gossip" or "lease"
    since_ms: int  # when the state began, on the observer's monotonic clock
    observers: int  # distinct members that accuse it, this one included; 0 while alive


class Event(msgspec.Struct, frozen=True):
    """A change of one member; `resync` (no member) says that events were lost: read `members()` again."""

    kind: EventKind
    member: Member | None


class Events(Protocol):
    """The events of one subscriber; ends when the membership closes."""

    def __aiter__(self) -> Self:
        """Return this."""

    async def __anext__(self) -> Event:
        """Wait for the next one."""

    def close(self) -> None:
        """Stop listening; whoever does not gathers events."""


class Membership(Protocol):
    """The view of one observer; an async context manager that takes part while it is open."""

    async def __aenter__(self) -> Self:
        """Begin to take part."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop without a farewell; call `leave` first for a graceful end."""

    def members(self, role: str | None = None, state: State | None = None) -> list[Member]:
        """Return the known members, this one included, by id."""

    def get(self, id: str) -> Member | None:
        """Return the newest boot of a node."""

    def events(self) -> Events:
        """Subscribe from now on; the queue is bounded, and an overflow leaves one `resync`."""

    async def set_metadata(self, **values: Value) -> None:
        """Change some of this member's own metadata and tell the others."""

    async def leave(self) -> None:
        """Tell the others that this member goes of its own will; idempotent."""

    def hint_suspect(self, id: str, reason: str) -> None:
        """Ask for an immediate probe of a member; a false hint costs nothing more."""

    async def install_key(self, key_id: str, key: Path | str | bytes) -> None:
        """Accept packets under one more key."""

    async def use_key(self, key_id: str) -> None:
        """Seal own packets with an installed key."""

    async def remove_key(self, key_id: str) -> None:
        """Refuse packets under a key; the key in use cannot be removed."""


def new_boot_id(wall_ms: int) -> str:
    """Return a boot id that sorts by the time of the boot."""
    return f"{wall_ms:012x}-{secrets.token_hex(4)}"


def select(members: list[Member], role: str | None, state: State | None) -> list[Member]:
    """Return the members of one role and state, by id."""
    chosen = [m for m in members if (role is None or m.role == role) and (state is None or m.state == state)]
    return sorted(chosen, key=lambda member: member.id)
