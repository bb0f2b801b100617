"""`tournament`, `gauntlet`, `evaluate`: games among players with paired openings and all permutations of seats."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Any

import msgspec

from workers.jobs import Kind, engine
from workers.jobs.context import JobError, Stopped
from workqueue.schema import (
    EvaluatePayload,
    GameResult,
    GauntletPayload,
    MatchesResult,
    PlayerSpec,
    TournamentPayload,
    config_key,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.jobs.context import Context

    Payload = TournamentPayload | GauntletPayload | EvaluatePayload


def tournament(context: Context, payload: TournamentPayload) -> MatchesResult:
    """Games among all entrants."""
    return _run(context, payload, payload.entrants, payload.games, {"format": payload.format})


def gauntlet(context: Context, payload: GauntletPayload) -> MatchesResult:
    """Games of the candidate against each baseline."""
    entrants = (payload.candidate, *payload.baselines)
    return _run(context, payload, entrants, payload.games * len(payload.baselines), {"format": "gauntlet"})


def evaluate(context: Context, payload: EvaluatePayload) -> MatchesResult:
    """A match that ends as soon as the sequential test decides."""
    test = {
        "format": "sequential",
        "elo0": payload.elo0_milli / 1000,
        "elo1": payload.elo1_milli / 1000,
        "alpha": payload.alpha_milli / 1000,
        "beta": payload.beta_milli / 1000,
    }
    return _run(context, payload, (payload.candidate, payload.champion), payload.games_max, test)


def _run(
    context: Context, payload: Payload, entrants: Sequence[PlayerSpec], games: int, more: dict[str, Any]
) -> MatchesResult:
    engine.begin(context, payload.rules_version)
    if len({entrant.key for entrant in entrants}) < 2:
        raise JobError("match.one_player", "a match needs two different players")
    start = time.monotonic()
    module = engine.load("tournament")
    spec = module.MatchSpec(
        board=payload.board,
        players=payload.players,
        variant=payload.variant,
        games=games,
        seed=payload.seed,
        opening_plies=payload.opening_plies,
        **more,
    )
    made = [
        engine.player(context, entrant, payload.board, payload.players, payload.variant, payload.seed + index)
        for index, entrant in enumerate(entrants)
    ]
    played = module.play(spec, made, progress=engine.tell(context), should_stop=context.should_stop)
    if context.should_stop() and len(played) < games and more["format"] != "sequential":
        raise Stopped
    if not played:
        raise Stopped if context.should_stop() else JobError("match.no_games", "no game was played")
    record = _store_records(context, played)
    results = tuple(_game(payload, entrants, game, record, index) for index, game in enumerate(played))
    verdict, llr = _judge(payload, entrants, results)
    return MatchesResult(results, engine.milli(time.monotonic() - start), engine.rules_version(), verdict, llr)


def _store_records(context: Context, played: Sequence[Any]) -> str:
    """All records of a job in one artifact: a msgpack list of game files."""
    path = context.work / "games"
    path.write_bytes(msgspec.msgpack.encode([bytes(game.record) for game in played]))
    return context.publish(path, "games").sha256


def _game(payload: Payload, entrants: Sequence[PlayerSpec], game: Any, record: str, index: int) -> GameResult:
    seats = tuple(entrants[place].key for place in game.seats)
    config = config_key(payload.board, payload.players)
    name = "\0".join((config, str(payload.seed), str(game.opening), *seats))
    return GameResult(
        id=hashlib.sha256(name.encode()).hexdigest()[:32],
        seats=seats,
        ranks=tuple(game.ranks),
        plies=game.plies,
        reason=game.reason,
        opening=str(game.opening),
        record=record,
        index=index,
    )


def _judge(payload: Payload, entrants: Sequence[PlayerSpec], results: Sequence[GameResult]) -> tuple[str, int]:
    """The sequential test's verdict and log-likelihood ratio, for evaluate jobs."""
    if not isinstance(payload, EvaluatePayload):
        return "", 0
    verdict = engine.load("rating").judge(
        [(game.opening, game.seats.index(entrants[0].key), game.ranks) for game in results],
        elo0=payload.elo0_milli / 1000,
        elo1=payload.elo1_milli / 1000,
        alpha=payload.alpha_milli / 1000,
        beta=payload.beta_milli / 1000,
    )
    return str(verdict.verdict), engine.milli(verdict.llr)


TOURNAMENT = Kind(TournamentPayload, MatchesResult, tournament)
GAUNTLET = Kind(GauntletPayload, MatchesResult, gauntlet)
EVALUATE = Kind(EvaluatePayload, MatchesResult, evaluate)
