"""Lets time pass: proposes Tick when a lease, lock or wait is due."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workqueue.machine.commands import Tick

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext


class Expire:
    """Proposes nothing while nothing is due, so that an idle cluster's log does not grow."""

    name = "expire"
    period_s = 0.1

    async def run(self, context: DutyContext) -> None:
        """Propose a Tick if something is due."""
        due_ms = context.core.next_due_ms
        if due_ms and due_ms <= context.now_ms():
            await context.propose(Tick())


DUTY = Expire()
