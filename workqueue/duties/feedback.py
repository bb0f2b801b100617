"""Lets data, losses and matches move a few settings of a config: reads them, and proposes what `tuning` decides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from workqueue.duties import tuning
from workqueue.duties.improve import look, settings_of
from workqueue.machine.commands import PutSettings
from workqueue.machine.views import ConfigView, ModelRow, QueueView, SettingsView

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext

log = structlog.get_logger()
RESULTS_MAX = 10
TRAININGS_MAX = 3


class Feedback:
    """Looks at every config that trains."""

    name = "feedback"
    period_s = 20.0

    async def run(self, context: DutyContext) -> None:
        """Propose one change of `tuning` for each config that needs one, with its reasons."""
        seen = await look(context, context.now_ms())
        if seen is None:
            return
        for view in seen.loop.configs:
            if view.config in seen.rooms and view.trainings:
                await self._tune(context, view)

    async def _tune(self, context: DutyContext, view: ConfigView) -> None:
        current = await context.query_as(SettingsView, "settings")
        settings = settings_of(current)
        data, trainings = await _data(context, view), await _trainings(context, view)
        moves = tuning.changes(view, settings, data, trainings)
        if not moves:
            return
        entries = tuning.applied(settings, view, moves)
        reason = "; ".join(f"{view.config} {move.key} {move.old} -> {move.new}: {move.why}" for move in moves)
        values = {"tuning": msgspec.Raw(msgspec.msgpack.encode(entries))}
        [outcome] = await context.propose(PutSettings(values, current.version, reason))
        log.info("loop.tuned", config=view.config, reason=reason, outcome=type(outcome).__name__)


async def _data(context: DutyContext, view: ConfigView) -> tuning.Data:
    """Add up the newest self-play results."""
    where = {"kind": "selfplay", "state": "completed", "config": view.config}
    total = (await context.query_as(QueueView, "queue", limit=0, **where)).total
    page = await context.query_as(QueueView, "queue", limit=RESULTS_MAX, offset=max(0, total - RESULTS_MAX), **where)
    results = [await _result(context, row.id) for row in page.jobs]
    positions = sum(each.get("positions", 0) for each in results if each.get("policy_entropy_milli"))
    entropy = sum(each.get("policy_entropy_milli", 0) * each.get("positions", 0) for each in results)
    wins = [each["wins"] for each in results if each.get("wins")]
    return tuning.Data(
        sum(each.get("games", 0) for each in results),
        entropy // positions if positions else 0,
        tuple(map(sum, zip(*wins, strict=True))) if wins else (),
    )


async def _trainings(context: DutyContext, view: ConfigView) -> list[tuning.Training]:
    """Return the newest trainings whose jobs are still at hand."""
    models = await context.query_as(tuple[ModelRow, ...], "models", config=view.config, limit=TRAININGS_MAX)
    found = []
    for model in models:
        result = await _result(context, model.job) if model.job else {}
        if result:
            losses = int(result.get("loss_milli", 0)), int(result.get("heldout_loss_milli", 0))
            found.append(tuning.Training(*losses, model.status, model.reason))
    return found


async def _result(context: DutyContext, name: str) -> dict[str, Any]:
    job = await context.find("job", job=name)
    result = job["result"] if job else None
    return result if isinstance(result, dict) else {}


DUTY = Feedback()
