"""One object for equal values, so that a million waiting jobs and millions of matches fit into memory.

What a decoder reads is a new object each time, and raw msgpack is a view that keeps its whole log entry alive.

The encoder leaves out a field that is the very object of its default. So a default stays as it is, and nothing else is
ever replaced by one: snapshots have the same bytes with and without sharing.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import TypeVar, cast

import msgspec
from msgspec.structs import force_setattr

from workqueue.machine.commands import JobSpec
from workqueue.machine.state import Match

_FIELDS = {field.name: field.default for field in msgspec.structs.fields(JobSpec)}
KNOWN_MAX = 10_000  # then it begins anew; what is shared stays so
SMALL_BYTES = 64  # raw values up to this size are often the same
SHARED = tuple((name, _FIELDS[name]) for name in ("kind", "config", "group", "requires", "retry", "conditions"))
OF_A_MATCH = ("config", "seats", "ranks", "reason", "opening", "purpose", "job", "worker", "record")

Value = TypeVar("Value", bound=Hashable)


class Sharing:
    """Values that were met before."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Hashable] = {}
        self._small: dict[bytes, msgspec.Raw] = {}

    def same(self, value: Value) -> Value:
        """Return the first object that was equal to `value`."""
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        return cast("Value", self._known.setdefault(value, value))

    def raw(self, value: msgspec.Raw) -> msgspec.Raw:
        """Return the same bytes, without the log entry or the snapshot around them."""
        if len(value) > SMALL_BYTES:
            return value.copy()
        data = bytes(value)
        known = self._small.get(data)
        if known is None:
            if len(self._small) >= KNOWN_MAX:
                self._small.clear()
            known = self._small[data] = value.copy()
        return known

    def spec(self, spec: JobSpec) -> None:
        """Have a job's description share what it has in common with others; it stays equal to itself."""
        known = self._known
        if len(known) >= KNOWN_MAX:
            known.clear()
        for name, default in SHARED:
            value = getattr(spec, name)
            if value is not default and (first := known.setdefault(value, value)) is not value:
                force_setattr(spec, name, first)
        if spec.payload is not _FIELDS["payload"]:
            force_setattr(spec, "payload", self.raw(spec.payload))

    def match(self, match: Match) -> None:
        """Have a match share what it has in common with others; it stays equal to itself."""
        known = self._known
        if len(known) >= KNOWN_MAX:
            known.clear()
        for name in OF_A_MATCH:
            value = getattr(match, name)
            if value and (first := known.setdefault(value, value)) is not value:
                setattr(match, name, first)
