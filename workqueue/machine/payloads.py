"""What the machine reads of payloads and results of the built-in kinds."""

from __future__ import annotations

import re

import msgspec

from workqueue.machine.commands import Completion, JobSpec
from workqueue.machine.outcomes import Code, Refused
from workqueue.machine.state import Job
from workqueue.schema import (
    KINDS,
    EvaluatePayload,
    GauntletPayload,
    MatchesResult,
    Schema,
    SelfplayPayload,
    SelfplayResult,
    TournamentPayload,
    TrainPayload,
    TrainResult,
    VerifyPayload,
    config_key,
)

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError)
PLAYERS = range(2, 5)
_NAME = re.compile(r"[0-9a-f]{64}")

_payloads = {kind: msgspec.msgpack.Decoder(payload) for kind, (payload, _) in KINDS.items()}
_results = {kind: msgspec.msgpack.Decoder(result) for kind, (_, result) in KINDS.items()}


def read_payload(spec: JobSpec) -> Schema | Refused | None:
    """Return the payload of a built-in kind, None for an open kind, Refused when it does not fit."""
    decoder = _payloads.get(spec.kind)
    if decoder is None:
        return None
    try:
        payload = decoder.decode(spec.payload)
    except UNREADABLE as error:
        return Refused(Code.INVALID, f"the payload of job {spec.id} is not one of kind {spec.kind}: {error}")
    players = getattr(payload, "players", None)
    if players is None:
        return payload
    if players not in PLAYERS:
        return Refused(Code.INVALID, f"job {spec.id} is for {players} players; a game has 2 to 4")
    board = getattr(payload, "board", "")
    if spec.config != config_key(board, players):
        return Refused(Code.INVALID, f"job {spec.id} names config {spec.config!r} but its payload plays {board}")
    return payload


def rules_of(payload: Schema | None) -> str:
    """Return the rules version that a payload asks for."""
    return "" if payload is None else str(getattr(payload, "rules_version", ""))


def artifacts_of(payload: Schema | None) -> tuple[str, ...]:
    """Return the artifacts that must stay while a job with this payload lives."""
    match payload:
        case TrainPayload():
            return tuple(sha for sha in (*payload.shards, payload.parent) if sha)
        case SelfplayPayload():
            return (payload.player.model,) if payload.player.model else ()
        case TournamentPayload():
            return tuple(player.model for player in payload.entrants if player.model)
        case GauntletPayload():
            return (payload.candidate.model,) if payload.candidate.model else ()
        case EvaluatePayload():
            return tuple(player.model for player in (payload.candidate, payload.champion) if player.model)
        case VerifyPayload():
            player = payload.asked.player.model if payload.asked else ""
            return tuple(sha for sha in (payload.shard, payload.record, payload.model, player) if sha)
        case _:
            return ()


def named_in(raw: msgspec.Raw) -> set[str]:
    """Return whatever in a msgpack value could name an artifact: 64 hexadecimal digits, in keys and values alike."""
    try:
        left = [msgspec.msgpack.decode(raw)]
    except UNREADABLE:
        return set()
    found = set()
    while left:
        value = left.pop()
        if isinstance(value, str):
            if _NAME.fullmatch(value):
                found.add(value)
        elif isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            left += value
    return found


def read_result(job: Job, completion: Completion, payload: Schema | None) -> Schema | Refused | None:
    """Return the result of a built-in kind if it is one that the payload could have led to."""
    decoder = _results.get(job.spec.kind)
    if decoder is None or payload is None:
        return None
    try:
        result = decoder.decode(completion.result)
    except UNREADABLE as error:
        return _invalid(f"the result of job {job.spec.id} is not one of kind {job.spec.kind}: {error}")
    wrong = _mismatch(payload, result, {ref.sha256 for ref in completion.artifacts})
    return _invalid(f"the result of job {job.spec.id} is refused: {wrong}") if wrong else result


def _invalid(message: str) -> Refused:
    return Refused(Code.INVALID_RESULT, message)


def _mismatch(payload: Schema, result: Schema, stored: set[str]) -> str:
    rules = rules_of(payload)
    played = str(getattr(result, "rules_version", rules))
    if rules and played != rules:
        return f"it was made by rules version {played}, not {rules}"
    match payload, result:
        case SelfplayPayload(), SelfplayResult():
            return _selfplay(payload, result, stored)
        case TrainPayload(), TrainResult():
            if result.model not in stored:
                return "the weights are not among the stored artifacts"
            return "" if result.steps > 0 and result.samples > 0 else "nothing was trained"
        case _, MatchesResult():
            return _matches(payload, result, stored)
        case _:
            return ""


def _selfplay(payload: SelfplayPayload, result: SelfplayResult, stored: set[str]) -> str:
    if result.games <= 0 or result.positions <= 0:
        return "it holds no games"
    if result.player_key != payload.player.key:
        return f"it was played by {result.player_key}, not {payload.player.key}"
    if sum(shard.games for shard in result.shards) != result.games:
        return "its shards do not hold as many games as it claims"
    if len({shard.sha256 for shard in result.shards}) != len(result.shards):
        return "a shard is in it twice"
    missing = [shard.sha256 for shard in result.shards if shard.sha256 not in stored]
    return f"shard {missing[0]} is not among the stored artifacts" if missing else ""


def entrants_of(payload: Schema) -> set[str]:
    """Return the keys of the players that a matches job may report."""
    match payload:
        case TournamentPayload():
            return {player.key for player in payload.entrants}
        case GauntletPayload():
            return {payload.candidate.key, *(player.key for player in payload.baselines)}
        case EvaluatePayload():
            return {payload.candidate.key, payload.champion.key}
        case _:
            return set()


def _matches(payload: Schema, result: MatchesResult, stored: set[str]) -> str:
    players = int(getattr(payload, "players", 0))
    entrants = entrants_of(payload)
    if not result.games:
        return "it holds no games"
    for game in result.games:
        if len(game.seats) != players or len(game.ranks) != players or 1 not in game.ranks:
            return f"game {game.id} does not seat {players} ranked players"
        strangers = [seat for seat in game.seats if seat not in entrants]
        if strangers:
            return f"game {game.id} was played by {strangers[0]}, who was not asked for"
        if game.plies <= 0:
            return f"game {game.id} has no moves"
        if game.record not in stored:
            return f"the record of game {game.id} is not among the stored artifacts"
    if len({game.id for game in result.games}) != len(result.games):
        return "a game is in it twice"
    return ""
