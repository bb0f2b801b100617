"""What the completion of a built-in kind of job does: data, models, matches, in the step that completes the job."""

from __future__ import annotations

from workqueue.machine.artifacts import add_reference, register
from workqueue.machine.commands import ArtifactRef, Evidence
from workqueue.machine.ledger import Ledger
from workqueue.machine.ratings import rate
from workqueue.machine.state import AliasStep, ConfigTotals, Job, Match, Model
from workqueue.schema import (
    EvaluatePayload,
    MatchesResult,
    Schema,
    SelfplayResult,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

WEIGHTS = "weights"
SHARD = "shard"


def totals_of(ledger: Ledger, config: str) -> ConfigTotals:
    """Return the totals of a config."""
    return ledger.state.totals.setdefault(config, ConfigTotals())


def apply_result(ledger: Ledger, job: Job, payload: Schema | None, result: Schema | None) -> None:
    """Enter a checked result."""
    match result:
        case SelfplayResult():
            _data(ledger, job, result)
        case TrainResult():
            _model(ledger, job, payload, result)
        case MatchesResult():
            _matches(ledger, job, payload, result)
        case _:
            pass


def _data(ledger: Ledger, job: Job, result: SelfplayResult) -> None:
    config = job.spec.config
    model = result.player_key.split(":", 1)[0]
    for shard in result.shards:
        artifact = register(ledger, ArtifactRef(shard.sha256, shard.size_bytes, SHARD), (), config)
        artifact.games, artifact.positions = shard.games, shard.positions
        artifact.worker = job.worker
        artifact.model = "" if model == "none" else model
        add_reference(artifact, f"data:{config}")
    totals = totals_of(ledger, config)
    totals.games += result.games
    totals.positions += result.positions
    totals.last_selfplay_ms = ledger.now_ms
    ledger.emit("data.added", config, games=result.games, positions=result.positions, job=job.spec.id)


def _model(ledger: Ledger, job: Job, payload: Schema | None, result: TrainResult) -> None:
    assert isinstance(payload, TrainPayload)
    config = job.spec.config
    parents = (payload.parent,) if payload.parent else ()
    add_model(ledger, config, result, parents, job)
    totals = totals_of(ledger, config)
    totals.trainings += 1
    totals.last_training_ms = ledger.now_ms
    totals.loss_milli = result.loss_milli


def add_model(ledger: Ledger, config: str, result: TrainResult, parents: tuple[str, ...], job: Job) -> None:
    """Register what a training made and point the candidate alias at it."""
    sha = result.model
    artifact = register(ledger, ArtifactRef(sha, result.size_bytes, WEIGHTS), (), config)
    add_reference(artifact, f"model:{sha}")
    if sha in ledger.state.models:
        return
    ledger.state.models[sha] = Model(
        sha,
        config,
        ledger.sharing.raw(result.manifest),
        result.size_bytes,
        parents,
        job.spec.id,
        job.worker,
        ledger.now_ms,
    )
    alias = f"candidate/{config}"
    step = AliasStep(sha, ledger.now_ms, ledger.actor, Evidence("trained"), f"job {job.spec.id}")
    ledger.state.aliases.setdefault(alias, []).append(step)
    ledger.emit("model.registered", sha, config=config, job=job.spec.id, loss_milli=result.loss_milli)


def _matches(ledger: Ledger, job: Job, payload: Schema | None, result: MatchesResult) -> None:
    config = job.spec.config
    purpose = payload.purpose if isinstance(payload, TournamentPayload) else job.spec.kind
    table = ledger.state.ratings.setdefault(config, {})
    new = 0
    for game in result.games:
        name = f"{config}/{game.id}"
        if name in ledger.match_ids:
            continue
        match = Match(
            name, config, game.seats, game.ranks, game.plies, game.reason, game.opening, purpose,
            job.spec.id, job.worker, ledger.now_ms, game.record, game.index,
        )  # fmt: skip
        ledger.sharing.match(match)
        ledger.match_ids[name] = len(ledger.matches)
        ledger.matches.append(match)
        rate(table, match)
        new += 1
        artifact = ledger.state.artifacts.get(game.record)
        if artifact is not None:
            add_reference(artifact, f"match:{config}")
    totals_of(ledger, config).matches += new
    detail: dict[str, str | int] = {"games": new, "job": job.spec.id, "purpose": purpose}
    if isinstance(payload, EvaluatePayload):
        detail |= {"verdict": result.verdict, "llr_milli": result.llr_milli}
    ledger.emit("matches.added", config, **detail)
