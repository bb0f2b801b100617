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
from workqueue.sequential import Observed, Verdict, judge, points_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.jobs.context import Context

    Payload = TournamentPayload | GauntletPayload | EvaluatePayload


SIDE_BY_SIDE = 32  # games between two looks at the test and at whether to stop


def tournament(context: Context, payload: TournamentPayload) -> MatchesResult:
    """Games among all entrants."""
    return _run(context, payload, payload.entrants, payload.games, payload.format)


def gauntlet(context: Context, payload: GauntletPayload) -> MatchesResult:
    """Games of the candidate against each baseline."""
    entrants = (payload.candidate, *payload.baselines)
    return _run(context, payload, entrants, payload.games * len(payload.baselines), "gauntlet")


def evaluate(context: Context, payload: EvaluatePayload) -> MatchesResult:
    """A match that ends as soon as the sequential test decides."""
    return _run(context, payload, (payload.candidate, payload.champion), payload.games_max, "gauntlet")


def _run(context: Context, payload: Payload, entrants: Sequence[PlayerSpec], games: int, form: str) -> MatchesResult:
    engine.begin(context, payload.rules_version)
    if len({entrant.key for entrant in entrants}) < 2:
        raise JobError("match.one_player", "a match needs two different players")
    start = time.monotonic()
    module = engine.load("tournament.play")
    spec = module.MatchSpec(
        board=payload.board,
        players=payload.players,
        variant=payload.variant,
        games=games,
        seed=payload.seed,
        opening_plies=payload.opening_plies,
        format=form,
        job=context.job,
    )
    with engine.computing(context):
        made = [engine.player(context, each, payload.board, payload.players, payload.variant) for each in entrants]
    keys = [entrant.key for entrant in entrants]

    def enough(played: Sequence[Any]) -> bool:
        return context.should_stop() or _test(payload, keys, played).verdict != "undecided"

    played = module.play(spec, made, keys, progress=engine.tell(context), should_stop=enough, side_by_side=SIDE_BY_SIDE)
    verdict = _test(payload, keys, played)
    if context.should_stop() and len(played) < games and verdict.verdict == "undecided":
        raise Stopped
    if not played:
        raise JobError("match.no_games", "no game was played")
    record = _store_records(context, played)
    results = tuple(_game(payload, entrants, game, record, index) for index, game in enumerate(played))
    said = verdict.verdict if isinstance(payload, EvaluatePayload) else ""
    seconds = engine.milli(time.monotonic() - start)
    return MatchesResult(results, seconds, engine.rules_version(), said, engine.milli(verdict.llr))


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


def _test(payload: Payload, keys: Sequence[str], played: Sequence[Any]) -> Verdict:
    """The sequential test of an evaluate job; any other job is never decided early."""
    if not isinstance(payload, EvaluatePayload):
        return judge((), payload.players)
    games = [
        Observed(game.opening, points_of(keys[0], [keys[seat] for seat in game.seats], game.ranks)) for game in played
    ]
    return judge(
        games,
        payload.players,
        elo0=payload.elo0_milli / 1000,
        elo1=payload.elo1_milli / 1000,
        alpha=payload.alpha_milli / 1000,
        beta=payload.beta_milli / 1000,
    )


TOURNAMENT = Kind(TournamentPayload, MatchesResult, tournament)
GAUNTLET = Kind(GauntletPayload, MatchesResult, gauntlet)
EVALUATE = Kind(EvaluatePayload, MatchesResult, evaluate)
