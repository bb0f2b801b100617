"""Openings of a match: each set has its own, because the same one twice would be the same games twice."""

from __future__ import annotations

from engine.tournament.play import Match, MatchSpec


def names(games: int, plies: int, seed: int = 1) -> list[list[str]]:
    spec = MatchSpec(board="square8", players=2, games=games, seed=seed, opening_plies=plies, format="gauntlet")
    match = Match(spec, [], ["a", "b"])
    match.players = [None, None]  # type: ignore[list-item]  # only their number is looked at
    return [[each.name for each, _ in due] for due in match.rounds([])]


def test_no_opening_comes_twice() -> None:
    """In a match as long as a sequential test may last, with openings as short as a few plies."""
    found = [name for due in names(1200, 3) for name in due]
    assert len(found) == 600
    assert len(set(found)) == 600


def test_where_there_are_too_few_openings_sets_have_names_of_their_own() -> None:
    """Without random plies every set begins alike."""
    found = [name for due in names(40, 0) for name in due]
    assert len(set(found)) == len(found) == 20


def test_the_same_seed_gives_the_same_openings() -> None:
    assert names(40, 4) == names(40, 4)
    assert names(40, 4) != names(40, 4, seed=2)
