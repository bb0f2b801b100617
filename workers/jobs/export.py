"""`export`: positions of a window as NPZ or Parquet, one shard in memory at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workqueue.schema import ExportPayload, ExportResult

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from workers.jobs.context import Context


def run(context: Context, payload: ExportPayload) -> ExportResult:
    """Write all positions of the shards into one file."""
    engine.begin(context, payload.rules_version)
    if payload.format not in {"npz", "parquet"}:
        raise JobError("payload.invalid", f"the format {payload.format!r} is neither npz nor parquet")

    def shards() -> Iterator[Path]:
        for index, sha256 in enumerate(payload.shards):
            if context.should_stop():
                raise Stopped
            yield context.fetch(sha256)
            context.progress(shards=index + 1, of=len(payload.shards))

    path = context.work / f"export.{payload.format}"
    positions = int(engine.load("data").export(shards(), path, payload.board, payload.players, payload.format))
    ref = context.publish(path, "export")
    return ExportResult(ref.sha256, ref.size_bytes, positions)


KIND = Kind(ExportPayload, ExportResult, run)
