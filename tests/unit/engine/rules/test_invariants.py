"""Invariants of the rules (§20) on random games and on constructed positions."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.rules import layout as lay
from engine.rules.actions import legal_codes
from engine.rules.errors import BadPosition
from engine.rules.game import Game, Rules
from engine.rules.geometry import BOARDS, geometry
from engine.rules.invariants import InvariantError, check_move, check_position
from engine.rules.kernels import apply, state_hash
from engine.rules.symmetry import (
    code_permutation,
    exact_symmetries,
    inverse,
    symmetries,
    symmetry_count,
    turn_codes,
    turn_state,
)

SMALL = ("square8", "hex8")


def play_checked(game: Game, seed: int, limit: int, *, from_play: bool = True) -> None:
    """Play at random and check every position and every move."""
    rng = np.random.default_rng(seed)
    check_position(game, from_play=from_play)
    for _ in range(limit):
        if game.is_over:
            return
        before = game.clone()
        move = game.move(int(rng.choice(game.legal_codes())))
        game.apply(move)
        check_move(before, move, game)
        check_position(game, from_play=from_play)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(SMALL), st.integers(2, 4), st.sampled_from(["spec", "asis"]), st.integers(0, 2**31))
def test_random_games_keep_the_invariants(board: str, players: int, variant: str, seed: int) -> None:
    """Every position and move of whole games on the small boards."""
    game = Game.new(board, players, Rules(swap=players == 2, variant=variant))
    play_checked(game, seed, 10_000)
    assert game.is_over


@settings(max_examples=6, deadline=None)
@given(st.sampled_from(["square19", "hexagonal"]), st.integers(2, 4), st.integers(0, 2**31))
def test_random_games_on_large_boards(board: str, players: int, seed: int) -> None:
    """The first plies on the large boards."""
    play_checked(Game.new(board, players), seed, 60)


@st.composite
def constructed(draw: st.DrawFn) -> Game:
    """A position that no game need have led to: any cells, hands and phase."""
    board, players = draw(st.sampled_from(SMALL)), draw(st.integers(2, 4))
    where = geometry(board, players)
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    filled = draw(st.floats(0.1, 0.9))
    shares = np.array(draw(st.sampled_from([(1, 1, 1), (1, 3, 1), (1, 2, 4), (0, 5, 1), (3, 1, 1)])), dtype=float)
    parts: tuple[list[str], list[str], list[str]] = ([], [], [])
    territory = [0] * players
    for cell in range(where.cells):
        if rng.random() > filled:
            continue
        kind = int(rng.choice(3, p=shares / shares.sum()))
        owner = int(rng.integers(players)) + 1
        if kind == 0:
            stack = rng.integers(1, players + 1, size=int(rng.integers(1, 5)))
            parts[0].append(f"{cell}:{''.join(map(str, stack))}")
        else:
            parts[kind].append(f"{cell}:{owner}")
            if kind == 2:
                territory[owner - 1] += 1
    hands = ",".join(str(draw(st.integers(0, 3))) for _ in range(players))
    phase = draw(st.sampled_from(["RP", "MV", "LP", "TP"]))
    text = (
        f"{phase}|{draw(st.integers(1, players))}|A|0|{hands}|{','.join('0' * players)}|"
        f"{','.join(map(str, territory))}|{'|'.join(','.join(p) for p in parts)}|-|-|-|"
        f"{draw(st.sampled_from(['00', '10', '11']))}|0|0,0,{'-' * players},0,0,0"
    )
    try:
        game = Game.from_state(text, board, players, Rules(variant=draw(st.sampled_from(["spec", "asis"]))))
    except BadPosition:
        assume(False)
        raise
    player = game.to_move
    assume(game.words[lay.HAND + player - 1] + game.words[lay.ON_BOARD + player - 1] > 0)
    return game


@settings(max_examples=150, deadline=None)
@given(constructed(), st.integers(0, 2**31))
def test_constructed_positions_keep_the_invariants(game: Game, seed: int) -> None:
    """Positions out of the blue, and forty plies from them."""
    play_checked(game, seed, 40, from_play=False)


def test_checker_sees_broken_states() -> None:
    """Each kind of damage is noticed."""
    game = Game.new("square8", 2)
    game.apply("P0x2")
    for word, value in (
        (lay.HAND, 18),
        (lay.TERRITORY, 1),
        (lay.STACKS, 2),
        (lay.MUST_MOVE, 0x40),
        (lay.PENDING, lay.DUE_LINE),
        (int(game.geometry.tables.table[lay.T_SQUARE + 9]), lay.MARKER | 1),
        (int(game.geometry.tables.table[lay.T_SQUARE]), lay.STACK | 2 | 2 << 8 | 2 << 16),
    ):
        broken = game.clone()
        broken.words[word] = value
        with pytest.raises(InvariantError):
            check_position(broken)
    after = game.clone()
    after.apply("M0-2")
    after.words[lay.ELIMINATED + 1] += 1
    with pytest.raises(InvariantError, match=r"20\.12"):
        check_move(game, game.move(game.code("M0-2")), after)


@pytest.mark.parametrize("board", BOARDS)
def test_symmetries_form_a_group(board: str) -> None:
    """They are permutations, number 0 does nothing, and each has an inverse; so do the codes."""
    table = symmetries(board)
    assert len(table) == symmetry_count(board) == (8 if board.startswith("square") else 12)
    assert (table[0] == np.arange(table.shape[1])).all()
    assert len({row.tobytes() for row in table}) == len(table)
    where = geometry(board, 2)
    for k in range(len(table)):
        assert sorted(table[k]) == list(range(table.shape[1]))
        there, back = code_permutation(where, k), code_permutation(where, inverse(board, k))
        named = np.flatnonzero(there >= 0)
        assert (back[there[named]] == named).all()


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(BOARDS), st.integers(2, 4), st.integers(0, 2**31))
def test_rules_are_symmetric(board: str, players: int, seed: int) -> None:
    """Turning a position turns its legal codes, and applying commutes with turning (rules §20.13)."""
    rng = np.random.default_rng(seed)
    game = Game.new(board, players)
    where = game.geometry
    for _ in range(150):
        if game.is_over:
            return
        codes = game.legal_codes()
        chosen = int(rng.choice(codes))
        recovering = game.words[lay.PHASE] == lay.MOVEMENT and (game.words[lay.STACKS + game.to_move - 1] == 0)
        if rng.random() < 0.3 and not recovering:
            k = int(rng.choice(exact_symmetries(board)))
            turned = turn_state(game.words, where, k)
            images = turn_codes(game.words, where, codes, k)
            assert sorted(images) == sorted(legal_codes(turned, where.tables))
            after = game.clone()
            after.apply(chosen)
            apply(turned, where.tables, int(images[codes == chosen][0]))
            assert state_hash(turned, where.tables) == state_hash(turn_state(after.words, where, k), where.tables)
        game.apply(chosen)


@settings(max_examples=150, deadline=None)
@given(constructed(), st.integers(0, 11))
def test_turned_codes_are_legal(game: Game, k: int) -> None:
    """In any position the image of a code is legal in the turned position, or there is none for a recovery slide."""
    where = game.geometry
    k = exact_symmetries(where.board)[k % len(exact_symmetries(where.board))]
    turned = turn_state(game.words, where, k)
    images = turn_codes(game.words, where, game.legal_codes(), k)
    kept = images[images >= 0]
    assert len(set(kept.tolist())) == len(kept)
    assert set(kept.tolist()) <= set(legal_codes(turned, where.tables).tolist())
    if len(kept) < len(images):
        assert all(game.move(int(code)).kind == "R" for code in game.legal_codes()[images < 0])
    check_position(Game(where, turned), from_play=False)
