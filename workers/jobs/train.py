"""`train`: a net from a window of shards, resumable from its last checkpoint on any machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workqueue.schema import TrainPayload, TrainResult

if TYPE_CHECKING:
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

    module = engine.load("training.train")
    try:
        summary = _train(context, payload, module, shards, reached, keep)
    except module.Stopped as stopped:
        keep(stopped.checkpoint, stopped.step)
        raise Stopped from stopped
    except (engine.load("data.shards").ShardError, engine.load("nets.store").ModelError, ValueError) as error:
        raise JobError("train.unusable", f"the training cannot go on: {error}") from error
    return _result(context, payload, summary)


def _train(
    context: Context, payload: TrainPayload, module: Any, shards: list[Path], reached: Reached, keep: Any
) -> Any:
    return module.train(
        _spec(payload, module),
        shards,
        context.work,
        parent=engine.model(context, payload.parent),
        resume=engine.weights(context, reached.checkpoint),
        progress=engine.tell(context),
        should_stop=context.should_stop,
        on_checkpoint=keep,
        device=context.device,
    )


def _spec(payload: TrainPayload, module: Any) -> Any:
    return module.TrainSpec(
        board=payload.board,
        players=payload.players,
        variant=payload.variant,
        steps=payload.steps,
        seed=payload.seed,
        size=payload.size,
        parents=(payload.parent,) if payload.parent else (),
        batch_size=payload.batch_size,
        learning_rate=payload.learning_rate_micro / 1_000_000,
        checkpoint_steps=payload.checkpoint_steps,
        heldout=payload.heldout_milli / 1000,
        surprise=payload.surprise_milli / 1000,
    )


def _result(context: Context, payload: TrainPayload, summary: Any) -> TrainResult:
    manifest: dict[str, object] = msgspec.to_builtins(summary.manifest)
    curves = context.publish(Path(summary.curves), "curves").sha256
    model = context.publish(Path(summary.path), "weights")
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
