"""`verify`: replays every game of a shard or of a match's records by the rules, or loads a model and looks at it.

A finding is a result, not a failure: whoever asked compares it with what was claimed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError
from workqueue.schema import VerifyPayload, VerifyResult

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
        return _shard(path)
    return _record(context, path) if payload.record else _model(path)


def _shard(path: Path) -> VerifyResult:
    shards = engine.load("data.shards")
    try:
        shard = shards.load_shard(path)
        shards.replay(shard)
    except (shards.ShardError, ValueError, IndexError) as error:
        return VerifyResult(ok=False, detail=str(error)[:DETAIL_MAX])
    plies = tuple(int(count) for count in shard.plies)
    outcomes = tuple(tuple(int(rank) for rank in ranks) for ranks in shard.ranks)
    return VerifyResult(ok=True, games=len(plies), outcomes=outcomes, plies=plies)


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


def _model(path: Path) -> VerifyResult:
    probed = engine.load("nets.probe").verify(path)
    return VerifyResult(ok=not probed.detail, games=probed.games, detail=probed.detail[:DETAIL_MAX])


KIND = Kind(VerifyPayload, VerifyResult, run)
