"""`benchmark`: games and evaluations a second of this worker, on a board and with a model."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from workers.canary import game_rate
from workers.jobs import Kind, engine
from workqueue.schema import BenchmarkPayload, BenchmarkResult, config_key

if TYPE_CHECKING:
    from workers.jobs.context import Context


def run(context: Context, payload: BenchmarkPayload) -> BenchmarkResult:
    """Measure for the given time, half of it each when there is a model."""
    engine.begin(context, "")
    key = config_key(payload.board, payload.players)
    seconds = payload.seconds / 2 if payload.model else payload.seconds
    rates = {f"games_s/{key}": game_rate(payload.board, payload.players, seconds)}
    context.progress(rates=rates)
    batches: dict[str, int] = {}
    if payload.model:
        nets, weights = engine.load("nets"), engine.model(context, payload.model)
        with engine.computing(context):
            start = time.monotonic()
            count = int(nets.count_evaluations(weights, context.device, seconds))
            rates[f"evals_s/{key}"] = engine.milli(count / (time.monotonic() - start))
            context.progress(rates=rates)
            sizes = nets.batch_sizes(weights, context.device, context.batches)
        batches = {str(name): int(size) for name, size in sizes.items()}
    return BenchmarkResult(rates, batches)


KIND = Kind(BenchmarkPayload, BenchmarkResult, run)
