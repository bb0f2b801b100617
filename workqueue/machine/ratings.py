"""Elo for display, in integers: the same on every machine, and a pure function of the match log.

Expected score 1/(1+10^(-d/400)) (Elo 1978, §1.4) comes from a table of thousandths that is computed in decimal
arithmetic. K is 40 for a player's first 30 games, then 32, and 16 from 2400 on. With more than two players every pair
of seats counts as a game with K/(n-1). The random player is pinned, so that the scale does not drift.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, localcontext

from workqueue.machine.state import Match, Rating

START_MILLI = 1_500_000
FLOOR_MILLI = 100_000
CEILING_MILLI = 4_000_000
PINNED = {"none:random:-": 400_000}
_SPAN = 800


def _table() -> tuple[int, ...]:
    with localcontext() as context:
        context.prec = 30
        ten = Decimal(10)
        return tuple(int(1000 / (1 + ten ** (Decimal(-d) / 400)) + Decimal("0.5")) for d in range(_SPAN + 1))


_EXPECTED = _table()


def expected_milli(difference_milli: int) -> int:
    """Return the expected score, in thousandths, of a player rated `difference_milli` above its opponent."""
    points = min(_SPAN, abs(difference_milli) // 1000)
    return _EXPECTED[points] if difference_milli >= 0 else 1000 - _EXPECTED[points]


def start_of(player: str) -> int:
    """Return the rating that a player begins with."""
    return PINNED.get(player, START_MILLI)


def k_factor(rating: Rating) -> int:
    """Return K of a player."""
    if rating.games < 30:
        return 40
    return 16 if rating.elo_milli >= 2_400_000 else 32


def rate(table: dict[str, Rating], match: Match) -> None:
    """Enter one match; every pair of different players is scored against the ratings before the match."""
    seats = match.seats
    for seat in seats:
        table.setdefault(seat, Rating(start_of(seat)))
    before = {seat: table[seat].elo_milli for seat in seats}
    factor = {seat: k_factor(table[seat]) for seat in seats}
    change = dict.fromkeys(seats, 0)
    for a, player in enumerate(seats):
        for b, other in enumerate(seats):
            if a == b or player == other:
                continue
            score = 1000 if match.ranks[a] < match.ranks[b] else 0 if match.ranks[a] > match.ranks[b] else 500
            change[player] += factor[player] * (score - expected_milli(before[player] - before[other]))
            rating = table[player]
            rating.wins += score == 1000
            rating.draws += score == 500
            rating.losses += score == 0
    for player in dict.fromkeys(seats):
        rating = table[player]
        rating.games += 1
        if player not in PINNED:
            moved = rating.elo_milli + change[player] // (len(seats) - 1)
            rating.elo_milli = max(FLOOR_MILLI, min(CEILING_MILLI, moved))


def recompute(matches: Iterable[Match]) -> dict[str, dict[str, Rating]]:
    """Return the ratings of every config from the match log alone."""
    ratings: dict[str, dict[str, Rating]] = {}
    for match in matches:
        if not match.revoked:
            rate(ratings.setdefault(match.config, {}), match)
    return ratings
