"""Watches what the loop has made: champions that lose, promotions on revoked matches, trainings that do not move.

Since when a training has told the same progress is remembered here only; a new leader begins to count anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workqueue.duties import gate, plan
from workqueue.duties.improve import Look, carry_out, look, matches_of, previous
from workqueue.duties.rules import STUCK_MS
from workqueue.machine.views import ConfigView, QueueView

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext


class Watchdog:
    """Looks at every config, halted or not."""

    name = "watchdog"
    period_s = 10.0

    def __init__(self, stuck_ms: int = STUCK_MS) -> None:
        self._stuck_ms = stuck_ms
        self._told: dict[str, tuple[object, int]] = {}  # running training -> what it told, and since when

    async def run(self, context: DutyContext) -> None:
        """Look once."""
        seen = await look(context, context.now_ms())
        if seen is None:
            return
        for view in seen.loop.configs:
            if view.champion:
                await carry_out(context, view.config, await self._champion(context, seen, view))
        await self._trainings(context, seen)

    async def _champion(self, context: DutyContext, seen: Look, view: ConfigView) -> list[plan.Decision]:
        steps = seen.steps(view.config)
        decisions = []
        if steps[-1].evidence.match_ids:
            me = plan.challenger(view.champion, seen.settings).key
            revoked = [m.id for m in await matches_of(context, config=view.config, player=me) if m.revoked]
            decisions = gate.tainted(view, steps, frozenset(revoked))
        before = previous(steps, view.champion)
        if before and not decisions and not view.halted:
            matches = await matches_of(context, config=view.config, since_ms=view.champion_since_ms)
            decisions = gate.regression(view, seen.settings, before, matches)
        return decisions

    async def _trainings(self, context: DutyContext, seen: Look) -> None:
        if not any(view.running.get("train") for view in seen.loop.configs):
            self._told.clear()
            return
        page = await context.query_as(QueueView, "queue", kind="train", state="running")
        configs = {view.config: view for view in seen.loop.configs}
        now = {row.id: row for row in page.jobs}
        for row in page.jobs:
            told = (row.attempt, row.progress)
            if self._told.get(row.id, (None, 0))[0] != told:
                self._told[row.id] = (told, seen.now_ms)
        self._told = {name: self._told[name] for name in now}
        for name, (_, since_ms) in self._told.items():
            still_ms, row = seen.now_ms - since_ms, now[name]
            if still_ms > self._stuck_ms and row.config in configs:
                decision = plan.stuck(configs[row.config], name, row.worker, still_ms)
                await carry_out(context, row.config, [decision])


DUTY = Watchdog()
