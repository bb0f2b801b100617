"""Job kinds of a worker that invents results: the games it stores are honest, what it says of them is not."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.jobs import Kind, matches
from workqueue.schema import GauntletPayload, MatchesResult, TournamentPayload


def _turned(result: MatchesResult) -> MatchesResult:
    games = tuple(msgspec.structs.replace(game, ranks=tuple(reversed(game.ranks))) for game in result.games)
    return msgspec.structs.replace(result, games=games)


def tournament(context: Any, payload: TournamentPayload) -> MatchesResult:
    return _turned(matches.tournament(context, payload))


def gauntlet(context: Any, payload: GauntletPayload) -> MatchesResult:
    return _turned(matches.gauntlet(context, payload))


TOURNAMENT = Kind(TournamentPayload, MatchesResult, tournament)
GAUNTLET = Kind(GauntletPayload, MatchesResult, gauntlet)
