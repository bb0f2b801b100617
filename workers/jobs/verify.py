"""`verify`: replays every game of a shard or of a match's records by the rules, or loads a model and looks at it.

Of self-play, games drawn by lot are played again from their seeds as well: by the player, budget and temperatures that
were asked for. A finding is a result, not a failure: whoever asked compares it with what was claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workers.jobs.selfplay import spec_of
from workqueue.schema import SelfplayPayload, VerifyPayload, VerifyResult

if TYPE_CHECKING:
    from pathlib import Path

    from workers.jobs.context import Context

DETAIL_MAX = 1000


def run(context: Context, payload: VerifyPayload) -> VerifyResult:
    """Say what is wrong, if anything is, and what the games really were."""
    engine.begin(context, payload.rules_version)
    given = [sha for sha in (payload.shard, payload.record, payload.model) if sha]
    if len(given) != 1:
        raise JobError("payload.invalid", "name a shard, a record or a model to verify, and only one")
    path = context.fetch(given[0])
    if payload.shard:
        return _shard(context, path, payload)
    return _record(context, path) if payload.record else _model(context, path)


def _shard(context: Context, path: Path, payload: VerifyPayload) -> VerifyResult:
    shards = engine.load("data.shards")
    try:
        shard = shards.load_shard(path)
        shards.replay(shard)
    except (shards.ShardError, ValueError, IndexError) as error:
        return VerifyResult(ok=False, detail=str(error)[:DETAIL_MAX])
    plies = tuple(int(count) for count in shard.plies)
    outcomes = tuple(tuple(int(rank) for rank in ranks) for ranks in shard.ranks)
    if detail := str(engine.load("data").verify(path).detail):  # targets that are no policies over legal moves
        return VerifyResult(ok=False, detail=detail[:DETAIL_MAX], outcomes=outcomes, plies=plies)
    found = VerifyResult(ok=True, games=len(plies), outcomes=outcomes, plies=plies)
    if payload.asked is None or not payload.again:
        return found
    games = sorted({lot % len(plies) for lot in payload.again})
    return _again(context, shard, payload.asked, games, found)


def _again(context: Context, shard: Any, asked: SelfplayPayload, games: list[int], found: VerifyResult) -> VerifyResult:
    """Add what comes of playing games again; a shard of other settings than were asked for is a finding."""
    before = shard.meta.seed - asked.seed  # how many games earlier attempts had stored
    same = (shard.meta.board, shard.meta.players, shard.meta.variant) == (asked.board, asked.players, asked.variant)
    if not same or shard.meta.player != asked.player.key or not 0 <= before < asked.games:
        detail = f"it names {shard.meta.player} and seed {shard.meta.seed}, other ones were asked for"
        return msgspec.structs.replace(found, ok=False, detail=detail[:DETAIL_MAX])
    weights = engine.model(context, asked.player.model)
    module = engine.load("selfplay.again")
    try:
        with engine.computing(context):
            told = module.agreement(
                spec_of(asked, before), shard, games, weights=weights, device=context.device,
                progress=engine.tell(context), should_stop=context.should_stop,
            )  # fmt: skip
    except engine.load("nets.store").ModelError as error:
        raise JobError("player.unusable", f"player {asked.player.key} cannot be made: {error}") from error
    if context.should_stop():
        raise Stopped
    found = msgspec.structs.replace(found, decisions=told.decisions, agreed=told.agreed)
    return msgspec.structs.replace(found, ok=False, detail=told.detail) if told.detail else found


def _record(context: Context, path: Path) -> VerifyResult:
    records = engine.load("rules.records")
    outcomes, plies = [], []
    try:
        games = msgspec.msgpack.decode(path.read_bytes(), type=list[bytes])
        for number, game in enumerate(games):
            read = records.read_record(game)
            outcomes.append(tuple(int(rank) for rank in read.result.ranks))
            plies.append(len(read.codes))
            context.progress(done=number + 1, total=len(games))
    except (msgspec.MsgspecError, engine.load("rules.errors").BadRecord) as error:
        return VerifyResult(ok=False, detail=f"game {len(plies)}: {error}"[:DETAIL_MAX])
    return VerifyResult(ok=True, games=len(plies), outcomes=tuple(outcomes), plies=tuple(plies))


def _model(context: Context, path: Path) -> VerifyResult:
    """Evaluate known positions: weights that load and answer with chances, alike on this device and the CPU."""
    detail = str(engine.load("nets").verify(path, context.device).detail)
    return VerifyResult(not detail, detail=detail[:DETAIL_MAX])


KIND = Kind(VerifyPayload, VerifyResult, run)
