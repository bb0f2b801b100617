"""What a rating is computed from: finished games of one config, as the match log keeps them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

RANDOM, HEURISTIC = "none:random:-", "none:heuristic:-"


class RatingError(ValueError):
    """Games that no rating can be computed from; the text says what to do."""


class MixedConfigs(RatingError):
    """Games of several configs: their ratings are on different scales."""


class Disconnected(RatingError):
    """Players whose results do not tie them to the others."""


class RatedGame(msgspec.Struct, frozen=True):
    """One finished game: players by seat and their ranks, 1 the best, equal ranks tied."""

    config: str
    seats: tuple[str, ...]
    ranks: tuple[int, ...]
    worker: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if len(self.seats) != len(self.ranks) or not 2 <= len(self.seats) <= 4:
            raise RatingError(f"game {self.id or '?'}: a game has 2 to 4 seats and a rank for each")


def rated(matches: Iterable[Mapping[str, Any]], config: str = "") -> list[RatedGame]:
    """Return the games of a match log that count, oldest first: revoked ones do not, one id counts once.

    Raises RatingError for entries that are no matches.
    """
    games: dict[str, RatedGame] = {}
    for number, match in enumerate(matches):
        if match.get("revoked") or (config and match.get("config") != config):
            continue
        try:
            game = RatedGame(
                str(match["config"]),
                tuple(str(seat) for seat in match["seats"]),
                tuple(int(rank) for rank in match["ranks"]),
                str(match.get("worker", "")),
                str(match.get("id", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise RatingError(f"entry {number} of the match log is no match: {error}") from error
        games.setdefault(game.id or f"#{number}", game)
    return list(games.values())


def config_of(games: Iterable[RatedGame]) -> str:
    """Return the one config of the games; raises MixedConfigs or, without games, RatingError."""
    found = sorted({game.config for game in games})
    if not found:
        raise RatingError("there are no games to rate")
    if len(found) > 1:
        raise MixedConfigs(f"games of {', '.join(found)} cannot share a scale: rate one config at a time")
    return found[0]
