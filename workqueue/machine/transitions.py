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


# To look a member up in its class takes longer than most of what is done with it, a dozen times in the life of a job.
SCHEDULED, AVAILABLE, RUNNING, RETRYABLE, HELD, COMPLETED, FAILED, CANCELLED = State
ENDED = frozenset({COMPLETED, FAILED, CANCELLED})

TABLE: dict[tuple[State, Trigger], State] = {
    (SCHEDULED, Trigger.DUE): AVAILABLE,
    (SCHEDULED, Trigger.CANCEL): CANCELLED,
    (SCHEDULED, Trigger.HOLD): HELD,
    (SCHEDULED, Trigger.GIVE_UP): FAILED,
    (AVAILABLE, Trigger.CLAIM): RUNNING,
    (AVAILABLE, Trigger.CANCEL): CANCELLED,
    (AVAILABLE, Trigger.HOLD): HELD,
    (AVAILABLE, Trigger.GIVE_UP): FAILED,
    (RUNNING, Trigger.COMPLETE): COMPLETED,
    (RUNNING, Trigger.RELEASE): AVAILABLE,
    (RUNNING, Trigger.RETRY_LATER): RETRYABLE,
    (RUNNING, Trigger.GIVE_UP): FAILED,
    (RUNNING, Trigger.CANCEL): CANCELLED,
    (RUNNING, Trigger.HOLD): HELD,
    (RETRYABLE, Trigger.DUE): AVAILABLE,
    (RETRYABLE, Trigger.CANCEL): CANCELLED,
    (RETRYABLE, Trigger.HOLD): HELD,
    (RETRYABLE, Trigger.GIVE_UP): FAILED,
    (HELD, Trigger.UNHOLD): SCHEDULED,
    (HELD, Trigger.CANCEL): CANCELLED,
    (FAILED, Trigger.RETRY): SCHEDULED,
    (CANCELLED, Trigger.RETRY): SCHEDULED,
}


def diagram() -> str:
    """Return the table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> scheduled"]
    lines += [f"    {source} --> {target}: {trigger}" for (source, trigger), target in TABLE.items()]
    lines += [f"    {state} --> [*]" for state in sorted(ENDED)]
    return "\n".join(lines)
