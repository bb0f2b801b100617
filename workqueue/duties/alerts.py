"""Raises and ends alerts by the rules, and tells people: log, /status, webhooks.

What is up and what was sent is in the replicated state, so a new leader neither forgets nor repeats. Since when a
condition holds is remembered here only: a change of leaders delays an alert by its `after_ms` at most.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from config.errors import ConfigError
from workqueue.duties.improve import settings_of
from workqueue.duties.priority import able
from workqueue.duties.rules import CLOCK_MS_MAX, RULES, Picture, findings
from workqueue.errors import ClientError
from workqueue.http.standing import Standing, standing
from workqueue.machine.commands import SetAlert
from workqueue.machine.views import Alert, Event, Explanation, ModelRow, SettingsView, StatusView
from workqueue.webhooks import Message, deliver, urls_of

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext

log = structlog.get_logger()
EVENTS_MAX = 5_000
MODELS_MAX = 200
EXPLAINED_MAX = 20  # idle workers that are asked about at one look
OWNED = frozenset(rule.name for rule in RULES)
_STANDING = msgspec.json.Decoder(Standing)


class Alerts:
    """Looks at the whole cluster every few seconds."""

    name = "alerts"
    period_s = 5.0

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], int] = {}  # finding -> since when it holds
        self._progress: dict[str, tuple[object, int]] = {}  # running job -> what it told, and since when

    async def run(self, context: DutyContext) -> None:
        """Look once, raise and end alerts, and send what was not sent yet."""
        view = await context.query_as(SettingsView, "settings")
        if not view.version:
            return
        picture = await self._picture(context, view)
        await self._settle(context, picture)
        await self._send(context)

    async def _settle(self, context: DutyContext, picture: Picture) -> None:
        found = findings(picture)
        self._since = {name: self._since.get(name, picture.now_ms) for name in found}
        up = {(alert.name, alert.key): alert for alert in picture.alerts}
        for name, (detail, after_ms) in found.items():
            if name not in up and picture.now_ms - self._since[name] >= after_ms:
                await context.propose(SetAlert(*name, active=True, detail=detail))
                log.warning("alert.raised", alert=name[0], about=name[1], detail=detail)
        taken = True  # messages are
        for name, alert in up.items():
            if name not in found and alert.name in OWNED:
                if alert.sent and taken:
                    taken = await _tell(context, alert, active=False)
                await context.propose(SetAlert(*name, active=False))
                log.info("alert.ended", alert=name[0], about=name[1])

    async def _send(self, context: DutyContext) -> None:
        if not context.settings.webhook_files:
            return
        for alert in await context.query_as(tuple[Alert, ...], "alerts"):
            if alert.sent:
                continue
            if not await _tell(context, alert, active=True):
                return  # nobody takes messages now: the rules must not wait for that again and again
            await context.propose(SetAlert(alert.name, alert.key, active=True, sent=True))

    async def _picture(self, context: DutyContext, view: SettingsView) -> Picture:
        status = await context.query_as(StatusView, "status")
        _, events = await context.events(max(0, status.last_seq - EVENTS_MAX), EVENTS_MAX)
        now_ms = context.now_ms()
        return Picture(
            now_ms=now_ms,
            status=status,
            settings=settings_of(view),
            voters=tuple(voter.id for voter in context.settings.voters),
            reachable=frozenset({context.voter_id, *context.front.peers.reachable}),
            standings=await _standings(context),
            events=msgspec.convert(events, tuple[Event, ...]),
            models=await context.query_as(tuple[ModelRow, ...], "models", limit=MODELS_MAX),
            eligible=await _eligible(context, status),
            still_ms=self._still(status, now_ms),
            alerts=await context.query_as(tuple[Alert, ...], "alerts", silenced=True),
        )

    def _still(self, status: StatusView, now_ms: int) -> dict[str, int]:
        """Return since when each running job has told the same progress."""
        now = {row.id: (row.attempt, row.progress) for row in status.running}
        for name, told in now.items():
            if self._progress.get(name, (None, 0))[0] != told:
                self._progress[name] = (told, now_ms)
        self._progress = {name: self._progress[name] for name in now}
        return {name: since_ms for name, (_, since_ms) in self._progress.items()}


async def _tell(context: DutyContext, alert: Alert, *, active: bool) -> bool:
    """Send to all webhooks; returns whether at least one has it."""
    try:
        urls = urls_of(context.folder, context.settings.webhook_files)
    except ConfigError as error:
        log.warning("webhook.unusable", reason=str(error))
        return False
    message = Message(context.settings.cluster_id, alert.name, alert.key, alert.detail, active)
    errors = await deliver(urls, message)
    for failure in errors:
        log.warning("webhook.failed", reason=str(failure))
    return len(errors) < len(urls)


async def _standings(context: DutyContext) -> dict[str, tuple[Standing, int]]:
    """Ask every voter that answers; how far its clock is off is known to half of the call's time."""
    found = {context.voter_id: (await standing(context.front), 0)}
    for voter in context.front.peers.reachable:
        began = time.monotonic_ns()
        try:
            body = await context.front.holders.call(voter, "GET", "/v1/standing")
            told = _STANDING.decode(body)
        except (ClientError, msgspec.DecodeError) as error:
            log.info("standing.unknown", voter=voter, reason=str(error))
            continue
        half_ms = (time.monotonic_ns() - began) // 2_000_000
        off_ms = told.now_ms + half_ms - context.now_ms()
        found[voter] = (told, 0 if abs(off_ms) <= min(half_ms, CLOCK_MS_MAX * 5) else off_ms)
    return found


async def _eligible(context: DutyContext, status: StatusView) -> dict[str, str]:
    """Return the idle workers that could run an available job, with its kind."""
    if not status.jobs.get("available"):
        return {}
    idle = [worker for worker in able(status.workers) if not worker.running]
    found: dict[str, str] = {}
    for worker in idle[:EXPLAINED_MAX]:
        said: Any = await context.query_as(Explanation, "explain", worker=worker.id)
        fits = [label for label, reason in said.reasons.items() if reason == "fits"]
        if fits:
            found[worker.id] = fits[0]
    return found


DUTY = Alerts()
