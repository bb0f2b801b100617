"""What one event leads to, and when a worker may claim: pauses after failures, quarantine after many."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from workers import events as ev
from workqueue.machine.commands import Fault

if TYPE_CHECKING:
    from workers.attempts import Options


class Steps:
    """The instructions that one event leads to, in order."""

    def __init__(self) -> None:
        self.taken: list[ev.AnyInstruction] = []

    def add(self, instruction: ev.AnyInstruction) -> None:
        """Do this next."""
        self.taken.append(instruction)

    def note(self, event: str, **values: str | int) -> None:
        """Write a line to the log."""
        self.add(ev.Note(event, values))


class Pace:
    """Counts failures in a row; says when the next claim may go out and whether the machine is quarantined."""

    def __init__(self, options: Options, steps: Steps) -> None:
        self._options = options
        self._steps = steps
        self._failures = 0
        self._node_faults = 0
        self._chance = random.Random(options.seed)  # noqa: S311  spreads retries, guards nothing
        self.claim_after_ms = 0
        self.quarantined = False

    def backoff(self, times: int) -> int:
        """Exponential, between a half and the whole of its bound ("equal jitter")."""
        bound = min(self._options.backoff_ms << min(times - 1, 16), self._options.backoff_ms_max)
        return bound // 2 + self._chance.randrange(bound // 2 + 1)

    def succeeded(self) -> None:
        """Forget the failures: a job was done."""
        self._failures = self._node_faults = 0

    def refused(self, now: int, retry_ms: int) -> None:
        """Wait after a refused claim."""
        self._failures += 1
        self.claim_after_ms = now + max(retry_ms, self.backoff(self._failures))

    def failed(self, now: int, fault: Fault) -> None:
        """Wait after a failed attempt, unless it is the first; too many by the machine's fault quarantine it."""
        self._failures += 1
        self.claim_after_ms = now + (self.backoff(self._failures) if self._failures > 1 else 0)
        self._node_faults += fault is Fault.NODE
        if self._node_faults >= self._options.node_faults_max:
            self._node_faults = 0
            self.quarantine(f"{self._options.node_faults_max} failures of this machine in a row")

    def quarantine(self, reason: str) -> None:
        """Claim no more until an operator says so."""
        self.quarantined = True
        self._steps.add(ev.Quarantine(reason))
        self._steps.note("worker.quarantined", reason=reason)
