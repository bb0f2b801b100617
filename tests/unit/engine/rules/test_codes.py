"""Distinct legal moves have distinct codes, and every code lies in the fixed policy layout."""

import numpy as np
import pytest

from engine.rules.cells import Words
from engine.rules.game import Game
from engine.rules.geometry import BOARDS, geometry
from engine.rules.kernels import Random, apply, draw, legal, new_game, seed_random, state_hash

CASES = [(board, players) for board in BOARDS for players in (2, 3, 4)]
POSITIONS = 100_000


def clashing_codes(board: str, players: int, positions: int, seed: int) -> tuple[int, int, int]:
    """Play random games over `positions` positions; return clashes, codes out of range and the longest list."""
    g = geometry(board, players, swap=players == 2).tables
    s: Words = np.zeros(g.state_words, dtype=np.int32)
    out: Words = np.zeros(g.max_legal, dtype=np.int32)
    rng: Random = np.zeros(1, dtype=np.int64)
    seed_random(rng, seed)
    new_game(s, g)
    clashes = outside = longest = 0
    for _ in range(positions):
        n = legal(s, g, out)
        if n == 0:
            new_game(s, g)
            continue
        codes = out[:n]
        clashes += n - len(np.unique(codes))
        outside += int(codes.min() < 0) + int(codes.max() >= g.policy_size)
        longest = max(longest, n)
        apply(s, g, int(codes[draw(rng, n)]))
    return clashes, outside, longest


@pytest.mark.parametrize(("board", "players"), CASES)
def test_codes_are_distinct(board: str, players: int) -> None:
    """A share of a hundred thousand positions for each board and count."""
    clashes, outside, longest = clashing_codes(board, players, POSITIONS // len(CASES), seed=players)
    assert (clashes, outside) == (0, 0)
    assert longest <= geometry(board, players).tables.max_legal


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("board", "players"), CASES)
def test_codes_are_distinct_on_a_million(board: str, players: int) -> None:
    """The same on a million positions: `python -m pytest -m soak tests/unit/engine/rules/test_codes.py`."""
    clashes, outside, _ = clashing_codes(board, players, 10 * POSITIONS // len(CASES) + 1, seed=100 + players)
    assert (clashes, outside) == (0, 0)


@pytest.mark.parametrize(("board", "players"), CASES)
def test_codes_name_distinct_moves(board: str, players: int) -> None:
    """Each code of a position is a move of its own in notation."""
    rng = np.random.default_rng(players)
    game = Game.new(board, players)
    for _ in range(120):
        if game.is_over:
            return
        moves = [str(move) for move in game.legal_moves()] if game.plies % 3 == 0 or rng.random() < 0.2 else []
        assert len(set(moves)) == len(moves)
        game.apply(int(rng.choice(game.legal_codes())))


def test_hashes_tell_positions_apart() -> None:
    """Among the positions of some hundred games no two different ones have the same hash."""
    rng = np.random.default_rng(4)
    seen: dict[int, str] = {}
    for _ in range(100):
        game = Game.new("square8", 2)
        while not game.is_over:
            key = state_hash(game.words, game.geometry.tables)
            assert 0 <= key < 1 << 63
            assert seen.setdefault(key, game.state()) == game.state()
            game.apply(int(rng.choice(game.legal_codes())))
    assert len(seen) > 10_000
