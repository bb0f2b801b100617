"""What jobs of the built-in kinds may ask for: refused at the door, before a worker would find out.

The state machine takes whatever is of the right type, because logs hold what earlier versions let in.
"""

from __future__ import annotations

import msgspec

from workqueue.open_kinds import SchemaMismatch
from workqueue.schema import (
    BOARDS,
    KINDS,
    EvaluatePayload,
    ExportPayload,
    GauntletPayload,
    Schema,
    TournamentPayload,
    TrainPayload,
    VerifyPayload,
)
from workqueue.stream import UNREADABLE

_LEAST = {
    "games": 1, "games_max": 1, "steps": 1, "batch_size": 1, "learning_rate_micro": 1, "seconds": 1,
    "batch_games": 0, "checkpoint_steps": 0, "max_seconds": 0, "opening_plies": 0, "shard_seconds": 0,
    "simulations_fast": 0, "temperature_plies": 0,
}  # fmt: skip
_decoders = {kind: msgspec.msgpack.Decoder(payload) for kind, (payload, _) in KINDS.items()}


def check_bounds(kind: str, raw: msgspec.Raw) -> None:
    """Refuse a payload of a built-in kind that no worker could do anything with; raises SchemaMismatch."""
    try:
        payload = _decoders[kind].decode(raw)
    except UNREADABLE:
        return  # the state machine says why, and of which job
    if wrong := _wrong_value(payload) or _wrong_together(payload):
        raise SchemaMismatch(f"the payload of a `{kind}` job is refused: {wrong}")


def _wrong_value(payload: Schema) -> str:
    if (board := getattr(payload, "board", BOARDS[0])) not in BOARDS:
        return f"there is no board {board!r}; give one of {', '.join(BOARDS)}"
    for name, least in _LEAST.items():
        if (value := getattr(payload, name, least)) < least:
            return f"{name} is {least} or more, not {value}"
    return ""


def _wrong_together(payload: Schema) -> str:
    match payload:
        case TrainPayload(shards=()) | ExportPayload(shards=()):
            return "it names no shards"
        case VerifyPayload(shard="", model="", record=""):
            return "it names nothing to verify: give a shard, a model or a record"
        case TournamentPayload() if len({each.key for each in payload.entrants}) < 2:
            return "a tournament needs two different entrants"
        case GauntletPayload() if not {each.key for each in payload.baselines} - {payload.candidate.key}:
            return "a gauntlet needs a baseline that is not the candidate"
        case EvaluatePayload() if payload.candidate.key == payload.champion.key:
            return "candidate and champion are the same player"
        case EvaluatePayload() if not (0 < payload.alpha_milli < 500 and 0 < payload.beta_milli < 500):
            return "alpha_milli and beta_milli lie between 0 and 500"
        case EvaluatePayload() if payload.elo0_milli >= payload.elo1_milli:
            return "elo0_milli lies below elo1_milli"
        case _:
            return ""
