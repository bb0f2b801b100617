"""`verify`: re-play every game of a shard by the rules, or re-evaluate a model on known positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.jobs import Kind, engine
from workers.jobs.context import JobError
from workqueue.schema import VerifyPayload, VerifyResult

if TYPE_CHECKING:
    from workers.jobs.context import Context


def run(context: Context, payload: VerifyPayload) -> VerifyResult:
    """Say what is wrong, if anything is; a finding is a result, not a failure."""
    engine.begin(context, payload.rules_version)
    if bool(payload.shard) == bool(payload.model):
        raise JobError("payload.invalid", "name either a shard or a model to verify")
    if payload.shard:
        found = engine.load("data").verify(context.fetch(payload.shard), progress=engine.tell(context))
    else:
        found = engine.load("nets").verify(context.fetch(payload.model), context.device)
    return VerifyResult(not found.detail, int(found.games), str(found.detail)[:1000])


KIND = Kind(VerifyPayload, VerifyResult, run)
