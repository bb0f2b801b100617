"""`selfplay`: games of a player against itself, stored in shards as they finish."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workqueue.machine.commands import ArtifactRef
from workqueue.schema import SelfplayPayload, SelfplayResult, ShardRef

if TYPE_CHECKING:
    from pathlib import Path

    from workers.jobs.context import Context


class Played(msgspec.Struct):
    """What attempts so far have stored; the cursor."""

    games: int = 0
    plies: int = 0
    positions: int = 0
    milli_s: int = 0
    entropy_milli: int = 0  # weighted by positions
    wins: list[int] = []
    shards: list[ShardRef] = []
    resigned: int = 0
    controls: int = 0
    controls_wrong: int = 0


def run(context: Context, payload: SelfplayPayload) -> SelfplayResult:
    """Play what is left of the games; a stop keeps whole shards."""
    engine.begin(context, payload.rules_version)
    played = msgspec.convert(context.cursor, Played)
    played.wins = played.wins or [0] * payload.players
    for shard in played.shards:
        context.include(ArtifactRef(shard.sha256, shard.size_bytes, "shard"))
    should_stop, late = engine.stop_after(context, payload.max_seconds)
    if played.games < payload.games:
        try:
            with engine.computing(context):
                _play(context, payload, played, should_stop)
        except (ValueError, engine.load("nets.store").ModelError) as error:
            raise JobError("payload.invalid", f"{payload.player.key} cannot play: {error}") from error
    if context.should_stop() and not late() and played.games < payload.games:
        raise Stopped
    if not played.games:
        raise JobError("selfplay.no_games", f"no game ended within {payload.max_seconds} s; give the job more time")
    return SelfplayResult(
        games=played.games,
        plies=played.plies,
        positions=played.positions,
        seconds_milli=played.milli_s,
        shards=tuple(played.shards),
        wins=tuple(played.wins),
        player_key=payload.player.key,
        rules_version=engine.rules_version(),
        policy_entropy_milli=played.entropy_milli // max(played.positions, 1),
        resigned=played.resigned,
        controls=played.controls,
        controls_wrong=played.controls_wrong,
    )


def _play(context: Context, payload: SelfplayPayload, played: Played, should_stop: Any) -> None:
    start = time.monotonic()

    def keep(path: Path, info: Any) -> None:
        ref = context.publish(path, "shard")
        played.shards.append(ShardRef(ref.sha256, ref.size_bytes, info.games, info.positions))
        played.games += info.games
        played.plies += info.plies
        played.positions += info.positions
        played.entropy_milli += engine.milli(info.policy_entropy) * info.positions
        played.resigned += info.resigned
        played.controls += info.controls
        played.controls_wrong += info.controls_wrong
        played.wins = [sum(pair) for pair in zip(played.wins, info.wins, strict=True)]
        played.milli_s += engine.milli(time.monotonic() - start) - told[0]
        told[0] = engine.milli(time.monotonic() - start)
        context.checkpoint(msgspec.to_builtins(played))
        context.progress(games=played.games, of=payload.games, positions=played.positions)

    told = [0]
    module = engine.load("selfplay")
    module.play(
        spec_of(payload, played.games, context.job),
        context.work,
        weights=engine.model(context, payload.player.model),
        device=context.device,
        progress=engine.tell(context),
        should_stop=should_stop,
        on_shard=keep,
        batches=context.batches,
    )


def spec_of(payload: SelfplayPayload, games: int, job: str = "") -> Any:
    """Return what the engine is to play once `games` are stored: a later attempt has another seed, for other games."""
    return engine.load("selfplay").SelfplaySpec(
        board=payload.board,
        players=payload.players,
        variant=payload.variant,
        player=engine.player_config(payload.player),
        player_key=payload.player.key,
        job=job,
        games=payload.games - games,
        seed=payload.seed + games,
        simulations_fast=payload.simulations_fast or 8,
        full_share=payload.full_share_milli / 1000,
        temperature=payload.temperature,
        temperature_start=payload.temperature_start_milli / 1000,
        temperature_end=payload.temperature_end_milli / 1000,
        temperature_plies=payload.temperature_plies,
        opening_plies=payload.opening_plies,
        shard_seconds=payload.shard_seconds,
        batch_games=payload.batch_games,
        resign_below=payload.resign_below_milli / 1000,
        resign_run=payload.resign_run,
        control_share=payload.control_share_milli / 1000,
        keep=payload.keep,
    )


KIND = Kind(SelfplayPayload, SelfplayResult, run)
