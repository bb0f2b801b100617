"""Job kinds of workers that cheat: one invents who won games that it played, one plays self-play by chance."""

from __future__ import annotations

from typing import Any

import msgspec

from workers.jobs import Kind, matches, selfplay
from workqueue.schema import GauntletPayload, MatchesResult, SelfplayPayload, SelfplayResult, TournamentPayload


def _turned(result: MatchesResult) -> MatchesResult:
    games = tuple(msgspec.structs.replace(game, ranks=tuple(reversed(game.ranks))) for game in result.games)
    return msgspec.structs.replace(result, games=games)


def tournament(context: Any, payload: TournamentPayload) -> MatchesResult:
    return _turned(matches.tournament(context, payload))


def gauntlet(context: Any, payload: GauntletPayload) -> MatchesResult:
    return _turned(matches.gauntlet(context, payload))


def by_chance(context: Any, payload: SelfplayPayload) -> SelfplayResult:
    """Play legal games with the right seeds and names, whose moves nearly nobody has thought about."""
    lazy = msgspec.structs.replace(payload, temperature="constant", temperature_start_milli=100_000)
    return selfplay.run(context, lazy)


SELFPLAY = Kind(SelfplayPayload, SelfplayResult, by_chance)
TOURNAMENT = Kind(TournamentPayload, MatchesResult, tournament)
GAUNTLET = Kind(GauntletPayload, MatchesResult, gauntlet)
