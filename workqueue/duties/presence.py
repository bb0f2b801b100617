"""Ends the leases of workers that are confirmed dead, long before the leases would expire.

Membership hints; this confirms: a boot is dead when two members accuse it, or when its heartbeats to the leader have
stopped for the whole time to live and gossip does not see it alive. A false alarm costs one redone job, because the
attempt is fenced. At the start of a term every worker that registered as one that beats is expected to, because it may
have died together with the leader that heard it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from workqueue.machine.commands import EndBoot

if TYPE_CHECKING:
    from membership.api import Member
    from workqueue.duties.context import DutyContext

SETTLED_MS = 300  # a verdict younger than this may still be refuted
OBSERVERS_MIN = 2


def confirmed(member: Member | None, boot: str, now_ms: int) -> str:
    """Return why this boot is dead, or "" when that is not confirmed. Times are on the observer's monotonic clock."""
    if member is None:
        return ""
    if member.boot_id != boot:
        return ""  # the registry learns of a newer boot by its registration
    if member.state.value == "left":
        return "left"
    if member.state.value != "dead" or now_ms - member.since_ms < SETTLED_MS:
        return ""
    if member.via == "lease":
        return "heartbeats stopped"
    if member.observers >= OBSERVERS_MIN:
        return f"{member.observers} members found it dead"
    return ""


class Presence:
    """Looks at workers that hold leases."""

    name = "presence"
    period_s = 0.25

    def __init__(self) -> None:
        self._expected_term = 0

    async def run(self, context: DutyContext) -> None:
        """End the boots that are confirmed dead."""
        if context.membership is None:
            return
        if context.core.term != self._expected_term:
            await self._expect_all(context)
        now_ms = time.monotonic_ns() // 1_000_000
        suspects = [m for m in context.membership.members(role="worker") if m.state.value in {"dead", "left"}]
        if not suspects:
            return
        workers: list[dict[str, Any]] = await context.query("workers")
        live = {str(worker["id"]): str(worker.get("boot", "")) for worker in workers if worker.get("live", True)}
        for member in suspects:
            boot = live.get(member.id, "")
            reason = confirmed(member, boot, now_ms) if boot else ""
            if reason:
                await context.propose(EndBoot(member.id, boot, reason))

    async def _expect_all(self, context: DutyContext) -> None:
        term = context.core.term
        for worker in await context.query("workers"):
            if worker.get("live", True) and worker.get("beats"):
                context.front.presence.expect(str(worker["id"]), str(worker.get("boot", "")))
        self._expected_term = term


DUTY = Presence()
