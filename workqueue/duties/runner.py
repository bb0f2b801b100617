"""Runs the duties while this voter leads: begins the term, then each duty at its own pace."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import random
from typing import TYPE_CHECKING

import structlog

import workqueue.duties
from workqueue.duties.context import Duty, DutyContext
from workqueue.machine.commands import BeginTerm
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workqueue.http.context import FrontContext

log = structlog.get_logger()


def all_duties() -> list[Duty]:
    """Return the duties of every module of this folder that has `DUTY`."""
    names = sorted(found.name for found in pkgutil.iter_modules(workqueue.duties.__path__))
    modules = [importlib.import_module(f"workqueue.duties.{name}") for name in names]
    return [module.DUTY for module in modules if hasattr(module, "DUTY")]


async def run_duties(front: FrontContext, duties: Sequence[Duty], now_ms: Callable[[], int]) -> None:
    """Run for ever; duties run only between the start and the end of this voter's terms as the leader."""
    core = front.core
    while True:
        while not core.leads:
            await core.changed()
        term = core.state.term
        try:
            await _begin(front, term)
        except StreamError as error:
            log.warning("duties.not_begun", term=term, reason=str(error))
            await asyncio.sleep(0.1)
            continue
        log.info("duties.begun", term=term)
        tasks = [asyncio.create_task(_repeat(duty, DutyContext(front, duty.name, now_ms))) for duty in duties]
        try:
            while (core.state.role, core.state.term) == ("leader", term):
                await core.changed()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        log.info("duties.ended", term=term)


async def _begin(front: FrontContext, term: int) -> None:
    """Every lease gets one more full term before it may expire; the key makes a repetition harmless."""
    await front.leader.router.call("barrier")
    request = front.leader.request(BeginTerm(term), key=(f"term-{front.settings.cluster_id}", term))
    await front.leader.propose_requests([request])


async def _repeat(duty: Duty, context: DutyContext) -> None:
    while True:
        try:
            await duty.run(context)
        except StreamError as error:
            log.info("duty.interrupted", duty=duty.name, reason=str(error))
        except Exception:
            log.exception("duty.failed", duty=duty.name)
        await asyncio.sleep(duty.period_s * random.uniform(0.9, 1.1))  # noqa: S311  spreads, guards nothing
