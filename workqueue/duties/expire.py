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
        if context.core.due:  # by the log's time, which may be ahead of or behind this machine's
            await context.propose(Tick())


DUTY = Expire()
