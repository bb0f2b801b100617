"""The improvement loop's duty: reads the views that the plan needs, and proposes what it decides.

Reading and deciding are apart from proposing, so that `rift loop plan` shows what the leader would do now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
import structlog

from config.loop import LoopSettings
from config.removed import recorded
from workqueue.duties import gate, plan, priority
from workqueue.machine.views import AliasStep, ConfigView, LoopView, Match, SettingsView, Shard, WorkerView

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext

T = TypeVar("T")
log = structlog.get_logger()
MATCHES_MAX = 2_000


class Source(Protocol):
    """Where views come from: a duty's context, or a client."""

    async def query_as(self, kind: type[T], name: str, /, **args: object) -> T:
        """Return a view, decoded as `kind`."""

    async def find(self, name: str, /, **args: object) -> Any:
        """Return a view as plain maps, None when there is no such thing."""


class Look(msgspec.Struct, frozen=True):
    """What all configs have in common at one moment."""

    now_ms: int
    settings: LoopSettings
    loop: LoopView
    workers: Sequence[WorkerView]
    aliases: Mapping[str, tuple[AliasStep, ...]]
    scores: Mapping[str, tuple[priority.Term, ...]]
    rooms: Mapping[str, priority.Room]

    def steps(self, config: str) -> tuple[AliasStep, ...]:
        """Return the moves of a config's champion."""
        return self.aliases.get(f"champion/{config}", ())


def settings_of(view: SettingsView) -> LoopSettings:
    """Return the typed settings of the view's dotted keys."""
    tree: dict[str, object] = {}
    for name, value in view.values.items():
        node = tree
        *path, last = name.split(".")
        for part in path:
            node = node.setdefault(part, {})  # type: ignore[assignment]  # PutSettings refuses keys below values
        node[last] = value
    return recorded(tree)


async def look(source: Source, now_ms: int) -> Look | None:
    """Read what all configs share; None before the settings of a new cluster are there."""
    view = await source.query_as(SettingsView, "settings")
    if not view.version:
        return None
    settings = settings_of(view)
    loop = await source.query_as(LoopView, "loop")
    workers = await source.query_as(tuple[WorkerView, ...], "workers")
    aliases = await source.query_as(dict[str, tuple[AliasStep, ...]], "aliases")
    scores = {
        each.config: priority.score(each, settings, aliases.get(f"champion/{each.config}", ()), now_ms)
        for each in loop.configs
    }
    rooms = priority.rooms(loop.configs, settings, scores, loop.slots, workers)
    return Look(now_ms, settings, loop, workers, aliases, scores, rooms)


async def decide(source: Source, seen: Look, view: ConfigView) -> list[plan.Decision]:
    """Return what a config needs now, read afresh where the common look does not say it."""
    settings, workers, now_ms = seen.settings, seen.workers, seen.now_ms
    shards: tuple[Shard, ...] = ()
    tries: tuple[plan.JobFacts, ...] = ()
    if not view.live.get("train") and not view.candidates:  # else there is nothing to decide about training
        shards = await source.query_as(tuple[Shard, ...], "shards", config=view.config)
        tries = await facts(source, [plan.training_id(view, k) for k in range(plan.TRIES_KEPT)])
    trials = {each.sha256: await _trial(source, view, each.sha256) for each in view.candidates[-1:]}
    before = previous(seen.steps(view.config), view.champion)
    return [
        *gate.candidates(view, settings, trials, now_ms, workers),
        *plan.training(view, settings, shards, now_ms, tries, workers),
        *plan.selfplay(view, settings, seen.rooms[view.config], now_ms),
        *gate.ladder(view, settings, before, now_ms, workers),
    ]


async def _trial(source: Source, view: ConfigView, sha: str) -> plan.Trial:
    gauntlets = [gate.gauntlet_id(sha, k) for k in range(plan.TRIES_MAX)]
    duels = [gate.evaluation_id(sha, view.champion, k) for k in range(plan.TRIES_MAX)] if view.champion else []
    return plan.Trial(await facts(source, gauntlets), await facts(source, duels))


async def facts(source: Source, names: Sequence[str]) -> tuple[plan.JobFacts, ...]:
    """Return what became of jobs, up to the first that does not exist."""
    found = []
    for name in names:
        job = await source.find("job", job=name)
        if job is None:
            break
        done = job["state"] == "completed" and job["kind"] != "train"
        matches = await matches_of(source, job=name) if done else ()
        workers = tuple(str(cause["worker"]) for cause in job["causes"])
        if job["state"] == "cancelled":
            workers = (*workers, str(job["worker"]))
        found.append(plan.JobFacts(name, job["state"], matches, job["reason"], workers))
    return tuple(found)


async def matches_of(source: Source, **args: object) -> tuple[Match, ...]:
    """Return matches, oldest first."""
    return await source.query_as(tuple[Match, ...], "matches", limit=MATCHES_MAX, **args)


def previous(steps: Sequence[AliasStep], champion: str) -> str:
    """Return the champion before this one, if the last move was a promotion."""
    if not steps or steps[-1].evidence.rule in {"rollback", "regression"}:
        return ""
    return next((step.sha256 for step in reversed(steps) if step.sha256 != champion), "")


class Improve:
    """Keeps every config of the loop supplied with games, trainings, tests and matches."""

    name = "improve"
    period_s = 1.0

    async def run(self, context: DutyContext) -> None:
        """Look at every config once."""
        seen = await look(context, context.now_ms())
        if seen is None:
            return  # the bootstrap duty comes first
        for view in seen.loop.configs:
            if view.config in seen.rooms:
                await carry_out(context, view.config, await decide(context, seen, view))


async def carry_out(context: DutyContext, config: str, decisions: Sequence[plan.Decision]) -> None:
    """Propose decisions in order, and log each with its reason and outcome."""
    for decision in decisions:
        [outcome] = await context.propose(decision.command)
        what = type(decision.command).__name__
        log.info("loop.decided", config=config, what=what, why=decision.why, outcome=type(outcome).__name__)


DUTY = Improve()
