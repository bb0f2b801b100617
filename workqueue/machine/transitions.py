"""The life of a job: every state, every trigger, every allowed step; no other file decides what follows what.

A job is in exactly one state. Ended jobs (completed, failed, cancelled) leave only by an operator's Retry. `running`
is entered by a claim alone, so the number of claims is the attempt, and the attempt is the fencing number of a lease.
"""

from __future__ import annotations

import enum


class State(enum.StrEnum):
    """Where a job is."""

    SCHEDULED = "scheduled"  # waits for a time, for other jobs or for data
    AVAILABLE = "available"  # may be claimed
    RUNNING = "running"  # somebody holds the lease
    RETRYABLE = "retryable"  # an attempt failed; waits for its backoff
    HELD = "held"  # an operator keeps it from being claimed
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Trigger(enum.StrEnum):
    """What moves a job."""

    DUE = "due"  # its time, its dependencies and its data have come
    CLAIM = "claim"
    COMPLETE = "complete"
    RELEASE = "release"  # given back unharmed
    RETRY_LATER = "retry later"  # the attempt failed or its lease ended, more are allowed
    GIVE_UP = "give up"  # no attempt is left, or it waited too long
    CANCEL = "cancel"
    HOLD = "hold"
    UNHOLD = "unhold"
    RETRY = "retry"  # an operator's


ENDED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

TABLE: dict[tuple[State, Trigger], State] = {
    (State.SCHEDULED, Trigger.DUE): State.AVAILABLE,
    (State.SCHEDULED, Trigger.CANCEL): State.CANCELLED,
    (State.SCHEDULED, Trigger.HOLD): State.HELD,
    (State.SCHEDULED, Trigger.GIVE_UP): State.FAILED,
    (State.AVAILABLE, Trigger.CLAIM): State.RUNNING,
    (State.AVAILABLE, Trigger.CANCEL): State.CANCELLED,
    (State.AVAILABLE, Trigger.HOLD): State.HELD,
    (State.AVAILABLE, Trigger.GIVE_UP): State.FAILED,
    (State.RUNNING, Trigger.COMPLETE): State.COMPLETED,
    (State.RUNNING, Trigger.RELEASE): State.AVAILABLE,
    (State.RUNNING, Trigger.RETRY_LATER): State.RETRYABLE,
    (State.RUNNING, Trigger.GIVE_UP): State.FAILED,
    (State.RUNNING, Trigger.CANCEL): State.CANCELLED,
    (State.RUNNING, Trigger.HOLD): State.HELD,
    (State.RETRYABLE, Trigger.DUE): State.AVAILABLE,
    (State.RETRYABLE, Trigger.CANCEL): State.CANCELLED,
    (State.RETRYABLE, Trigger.HOLD): State.HELD,
    (State.RETRYABLE, Trigger.GIVE_UP): State.FAILED,
    (State.HELD, Trigger.UNHOLD): State.SCHEDULED,
    (State.HELD, Trigger.CANCEL): State.CANCELLED,
    (State.FAILED, Trigger.RETRY): State.SCHEDULED,
    (State.CANCELLED, Trigger.RETRY): State.SCHEDULED,
}


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> scheduled"]
    lines += [f"    {source} --> {target}: {trigger}" for (source, trigger), target in TABLE.items()]
    lines += [f"    {state} --> [*]" for state in sorted(ENDED)]
    return "\n".join(lines)
