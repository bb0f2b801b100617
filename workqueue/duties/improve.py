"""The improvement loop's duty: reads the views that the plan needs, and proposes what it decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import structlog

from config.loop import LoopSettings
from workqueue.duties import plan
from workqueue.machine.views import AliasStep, ConfigView, LoopView, Match, SettingsView, Shard
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext

log = structlog.get_logger()
MATCHES_MAX = 2_000


def settings_of(view: SettingsView) -> LoopSettings:
    """Return the typed settings of the view's dotted keys."""
    tree: dict[str, object] = {}
    for name, value in view.values.items():
        node = tree
        *path, last = name.split(".")
        for part in path:
            node = node.setdefault(part, {})  # type: ignore[assignment]  # PutSettings refuses keys below values
        node[last] = value
    return msgspec.convert(tree, LoopSettings)


class Improve:
    """Keeps every config of the loop supplied with games, trainings, tests and matches."""

    name = "improve"
    period_s = 1.0

    async def run(self, context: DutyContext) -> None:
        """Look at every config once."""
        view = await context.query_as(SettingsView, "settings")
        if not view.version:
            return  # the bootstrap duty comes first
        settings = settings_of(view)
        loop = await context.query_as(LoopView, "loop")
        now_ms = context.now_ms()
        rooms = plan.rooms(loop.configs, settings, loop.slots, now_ms)
        for config in loop.configs:
            if config.config in rooms:
                await self._improve(context, settings, config, rooms[config.config], now_ms)

    async def _improve(
        self, context: DutyContext, settings: LoopSettings, view: ConfigView, room: int, now_ms: int
    ) -> None:
        shards = await context.query_as(tuple[Shard, ...], "shards", config=view.config)
        aliases = await context.query_as(dict[str, tuple[AliasStep, ...]], "aliases")
        previous = _previous(aliases.get(f"champion/{view.config}", ()), view.champion)
        trials = {each.sha256: await self._trial(context, view, each.sha256) for each in view.candidates[-1:]}
        decisions = [
            *plan.candidates(view, settings, trials, now_ms),
            *plan.training(view, settings, shards, now_ms),
            *plan.selfplay(view, settings, room, now_ms),
            *plan.ladder(view, settings, previous, now_ms),
        ]
        if previous:
            matches = await self._matches(context, config=view.config, since_ms=view.champion_since_ms)
            decisions += plan.regression(view, settings, previous, matches)
        for decision in decisions:
            [outcome] = await context.propose(decision.command)
            what = type(decision.command).__name__
            log.info("loop.decided", config=view.config, what=what, why=decision.why, outcome=type(outcome).__name__)

    async def _trial(self, context: DutyContext, view: ConfigView, sha: str) -> plan.Trial:
        gauntlets = [plan.gauntlet_id(sha, k) for k in range(plan.TRIES_MAX)]
        duels = [plan.evaluation_id(sha, view.champion, k) for k in range(plan.TRIES_MAX)] if view.champion else []
        return plan.Trial(await self._facts(context, gauntlets), await self._facts(context, duels))

    async def _facts(self, context: DutyContext, names: list[str]) -> tuple[plan.JobFacts, ...]:
        facts = []
        for name in names:
            try:
                job = await context.query("job", job=name)
            except StreamError as error:
                if error.body.code != "not_found":
                    raise
                break
            done = job["state"] == "completed"
            facts.append(plan.JobFacts(name, job["state"], await self._matches(context, job=name) if done else ()))
        return tuple(facts)

    async def _matches(self, context: DutyContext, **args: object) -> tuple[Match, ...]:
        return await context.query_as(tuple[Match, ...], "matches", limit=MATCHES_MAX, **args)


def _previous(steps: tuple[AliasStep, ...], champion: str) -> str:
    """Return the champion before this one, if the last move was a promotion."""
    if not steps or steps[-1].evidence.rule in {"rollback", "regression"}:
        return ""
    return next((step.sha256 for step in reversed(steps) if step.sha256 != champion), "")


DUTY = Improve()
