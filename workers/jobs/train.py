"""`train`: a net from a window of shards, resumable from its last checkpoint on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workqueue.schema import TrainPayload, TrainResult

if TYPE_CHECKING:
    from pathlib import Path

    from workers.jobs.context import Context


class Reached(msgspec.Struct, frozen=True):
    """The cursor: a stored checkpoint."""

    checkpoint: str = ""
    step: int = 0
    milli_s: int = 0


def run(context: Context, payload: TrainPayload) -> TrainResult:
    """Train until the last step; a stop keeps the last checkpoint."""
    engine.begin(context, payload.rules_version)
    if not payload.shards:
        raise JobError("train.no_data", "the job names no shards")
    reached = msgspec.convert(context.cursor, Reached)
    shards = []
    for index, sha256 in enumerate(payload.shards):
        shards.append(context.fetch(sha256))
        context.progress(fetched=index + 1, shards=len(payload.shards))

    def keep(path: Path, step: int) -> None:
        ref = context.publish(path, "checkpoint")
        context.checkpoint({"checkpoint": ref.sha256, "step": step})

    summary = engine.load("training").train(
        _spec(context, payload),
        shards,
        context.work,
        parent=engine.weights(context, payload.parent),
        resume=engine.weights(context, reached.checkpoint),
        progress=engine.tell(context),
        should_stop=context.should_stop,
        on_checkpoint=keep,
    )
    if summary.steps < payload.steps:
        raise Stopped
    return _result(context, payload, summary)


def _spec(context: Context, payload: TrainPayload) -> Any:
    return engine.load("training").TrainSpec(
        board=payload.board,
        players=payload.players,
        variant=payload.variant,
        steps=payload.steps,
        seed=payload.seed,
        size=payload.size,
        parent_config=payload.parent_config,
        batch_size=payload.batch_size,
        learning_rate=payload.learning_rate_micro / 1_000_000,
        checkpoint_steps=payload.checkpoint_steps,
        heldout=payload.heldout_milli / 1000,
        threads=context.threads,
        device=context.device,
    )


def _result(context: Context, payload: TrainPayload, summary: Any) -> TrainResult:
    manifest = msgspec.json.decode(summary.manifest.read_bytes())
    curves = context.publish(summary.curves, "curves").sha256 if summary.curves else ""
    model = context.publish(summary.weights, "weights")
    return TrainResult(
        model=model.sha256,
        size_bytes=model.size_bytes,
        steps=summary.steps,
        samples=summary.samples,
        loss_milli=engine.milli(summary.loss),
        policy_loss_milli=engine.milli(summary.policy_loss),
        value_loss_milli=engine.milli(summary.value_loss),
        heldout_loss_milli=engine.milli(summary.heldout_loss),
        seconds_milli=engine.milli(summary.seconds),
        manifest=msgspec.Raw(msgspec.msgpack.encode(manifest | {"data": list(payload.shards)})),
        curves=curves,
    )


KIND = Kind(TrainPayload, TrainResult, run)
