"""Histories of operations, and whether some order of them explains every answer (linearizability).

The search is that of Wing and Gong (Testing and verifying concurrent objects, 1993, §4) with Lowe's memory of
configurations seen (Testing for linearizability, 2017, §4), one key at a time, since objects are independent
(Herlihy and Wing 1990, theorem 1). An operation without an answer may take effect at any time after its call, or never.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

MAX_CONFIGURATIONS = 3_000_000


class Op(NamedTuple):
    """What one client asked of one key, and what it heard; `returned` is infinite if it heard nothing."""

    client: str
    key: str
    kind: str  # put, get, swap, add, append
    argument: Any
    result: Any
    called: float  # seconds, one clock for all clients
    returned: float

    @property
    def answered(self) -> bool:
        """Whether the client heard the result."""
        return self.returned != math.inf


class Undecided(Exception):
    """The search would take too long."""


def chain(before: tuple[int, int], value: str) -> tuple[int, int]:
    """Return (length, checksum) of a list of which these were those before the value was appended."""
    return before[0] + 1, zlib.crc32(value.encode(), before[1])


def step(state: Any, op: Op) -> tuple[bool, Any]:
    """Return whether an operation may answer what it did in this state, and the state after it.

    A key is a register (None, then any value), a counter (None, then a number) or a list, known by (length, checksum).
    """
    match op.kind:
        case "put":
            expected, after = None, op.argument
        case "get":
            expected, after = state, state
        case "swap":
            expected = state == op.argument[0]
            after = op.argument[1] if expected else state
        case "add":
            expected = after = (state or 0) + op.argument
        case "append":
            expected = after = chain(state or (0, 0), op.argument)
        case other:
            raise ValueError(f"there is no operation {other!r}")
    return not op.answered or op.result == expected, after


def linearizable(ops: Sequence[Op], initial: Any = None) -> bool:
    """Whether there is an order of one key's operations, each between its call and its answer, that explains all.

    Raises Undecided after too many configurations.
    """
    ops = [op for op in ops if op.answered or op.kind != "get"]
    events = sorted([(op.called, 0, i) for i, op in enumerate(ops)] + [(op.returned, 1, i) for i, op in enumerate(ops)])
    end = len(events) + 1  # events are 1 … end - 1; 0 and end are the borders of the list of those left
    left, right = list(range(-1, end)), list(range(1, end + 2))
    answer_of = {i: at for at, (_, kind, i) in enumerate(events, 1) if kind}
    seen: set[tuple[int, Any]] = set()
    taken: list[tuple[int, Any]] = []
    done, state, at = 0, initial, right[0]
    while right[0] != end:
        _, kind, i = events[at - 1]
        if kind == 0:
            fits, after = step(state, ops[i])
            if fits and (configuration := (done | 1 << i, after)) not in seen:
                if len(seen) >= MAX_CONFIGURATIONS:
                    raise Undecided(f"more than {MAX_CONFIGURATIONS} configurations for key {ops[i].key}")
                seen.add(configuration)
                taken.append((at, state))
                done, state = configuration
                for gone in (at, answer_of[i]):
                    left[right[gone]], right[left[gone]] = left[gone], right[gone]
                at = right[0]
            else:
                at = right[at]
        else:  # an operation had to take effect before this: go back on the last choice
            if not taken:
                return False
            at, state = taken.pop()
            i = events[at - 1][2]
            done ^= 1 << i
            for back in (answer_of[i], at):
                left[right[back]] = right[left[back]] = back
            at = right[at]
    return True


def by_key(history: Iterable[Op]) -> dict[str, list[Op]]:
    """Return each key's operations."""
    keys: dict[str, list[Op]] = defaultdict(list)
    for op in history:
        keys[op.key].append(op)
    return keys


def violations(history: Iterable[Op]) -> list[str]:
    """Return the keys whose operations no order explains; raises Undecided."""
    return [key for key, ops in by_key(history).items() if not linearizable(ops)]
