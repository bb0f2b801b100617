"""The public API refuses what is wrong, and changes nothing then."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.rules import layout as lay
from engine.rules.actions import Move
from engine.rules.batch import GameBatch
from engine.rules.errors import BadPosition, IllegalMove, RulesError
from engine.rules.game import Game, Rules
from engine.rules.geometry import BOARDS, geometry
from engine.rules.perft import perft

START = "RP|1|A|0|18,18|0,0|0,0||||-|-|-|00|0|0,0,--,0,0,0"


def test_starting_position() -> None:
    """A new game is the empty board with full hands."""
    game = Game.new("square8", 2)
    assert game.state() == START
    assert len(game.legal_moves()) == 192
    assert game.outcome is None


@pytest.mark.parametrize(
    "move",
    [
        "P64x1",
        "P0x4",
        "M0-9",
        "NL",
        "L0.1.2",
        "T0",
        "nonsense",
        "P0x1 ",
        "",
        "R0-1F",
        99999,
        -1,
        "F3",
        None,
        [0, 1],
        b"SP",
        2**70,
        Move("M", origin="x", to=3),
    ],
)
def test_illegal_moves_change_nothing(move: str | int) -> None:
    """Any wrong move is a clear error."""
    game = Game.new("square8", 2)
    words = game.words.copy()
    with pytest.raises(RulesError):
        game.apply(move)
    assert (game.words == words).all()


@pytest.mark.parametrize(
    ("board", "players", "rules"),
    [
        ("square9", 2, None),
        ("square8", 1, None),
        ("square8", 5, None),
        ("hex8", 2, {"variant": "other"}),
        ("hex8", 2, {"swop": True}),
        ("hex8", 2, {"swap": 1}),
        ("square8", 2, {"rings": 0}),
        ("square8", 2, {"rings": 2.5}),
        ("square8", 2, {"lps_rounds": -1}),
        ("square8", 2.0, None),
        (["square8"], 2, None),
    ],
)
def test_wrong_options(board: str, players: int, rules: dict[str, object] | None) -> None:
    """Unknown boards, counts and options are refused."""
    with pytest.raises(RulesError):
        Game.new(board, players, rules)


@pytest.mark.parametrize(
    "text",
    [
        "",
        START + "|",
        START.replace("18,18", "18"),
        START.replace("18,18", "18,x"),
        START.replace("18,18", "18,-1"),
        START.replace("RP", "ZZ"),
        START.replace("RP|1", "RP|3"),
        START.replace("||||", "|0:3|||"),
        START.replace("||||", "|64:1|||"),
        START.replace("||||", "|0:1111111111111111|||"),
        START.replace("||||", "|0:1|0:1||"),
        START.replace("||||", "||0:0||"),
        START.replace("||||", "|||5:1|"),
        START.replace("|-|-|-|", "|5|-|-|"),
        START.replace("|-|-|-|", "|-|5|-|"),
        START.replace("|-|-|-|", "|-|-|l|"),
        START.replace("|-|-|-|", "|-|-|x99|"),
        START.replace("|-|-|-|", "|-|-|?|"),
        START.replace("|00|", "|0|"),
        START.replace("0,0,--,0,0,0", "0,0,--,0,0"),
        START.replace("|A|", "|X|"),
        START.replace("RP|", "FE|"),
        START.replace("RP|", "CC|"),
    ],
)
def test_wrong_positions(text: str) -> None:
    """A text that is no playable position is refused with a sentence."""
    with pytest.raises(BadPosition, match=r"\w+ \w+"):
        Game.from_state(text, "square8", 2)


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet="RPMVCLTFEGOXA|0123456789,:-lrtx", max_size=120))
def test_any_text_is_refused_or_playable(text: str) -> None:
    """No text can break the engine."""
    try:
        game = Game.from_state(text, "square8", 2)
    except BadPosition:
        return
    assert game.state()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    """One changed byte of a packed position is found."""
    packed = bytearray(Game.new("hex8", 3).encode())
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(BadPosition):
        Game.decode(bytes(packed))


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("players", [2, 3, 4])
def test_notation_and_codes_go_both_ways(board: str, players: int) -> None:
    """code -> move -> notation -> move -> code is the identity along a random game."""
    rng = np.random.default_rng(players)
    game = Game.new(board, players, Rules(swap=players == 2))
    while not game.is_over:
        codes = game.legal_codes()
        for code in rng.choice(codes, size=min(3, len(codes)), replace=False):
            move = game.move(int(code))
            assert game.code(move) == game.code(str(move)) == code
        if game.plies % 20 == 0:
            again = Game.decode(game.encode())
            assert (again.hash, again.plies) == (game.hash, game.plies)
            assert (again.words[lay.OUT_AT : lay.FIRST_SQUARE] == game.words[lay.OUT_AT : lay.FIRST_SQUARE]).all()
            assert Game.from_state(game.state(), board, players, Rules(swap=players == 2)).hash == game.hash
        game.apply(int(rng.choice(codes)))
    assert game.outcome is not None
    assert game.outcome.ranks[game.outcome.winner - 1] == 1
    assert sum(game.outcome.values) == pytest.approx(players / 2)
    with pytest.raises(IllegalMove):
        game.apply(0)


def test_resignation() -> None:
    """With two players the other wins; with more nobody does."""
    two, four = Game.new("square8", 2), Game.new("square8", 4)
    two.resign(1)
    four.resign(2, timeout=True)
    assert two.outcome is not None
    assert four.outcome is not None
    assert (two.outcome.winner, two.outcome.reason) == (2, "resignation")
    assert (four.outcome.winner, four.outcome.reason) == (0, "timeout")
    with pytest.raises(IllegalMove):
        two.resign(2)
    with pytest.raises(RulesError):
        Game.new("square8", 2).resign(3)


def test_ranking_of_the_others() -> None:
    """Winner first, then territory, elimination score and markers; full ties share their rank (rules §13.7)."""

    def ranks(elim: str, markers: str) -> tuple[int, ...]:
        text = f"GO|2|X|2|0,0,0,0|{elim}|2,0,1,1||{markers}|0:1,1:1,2:3,3:4|-|-|-|00|0|0,0,----,0,0,0"
        outcome = Game.from_state(text, "square8", 4).outcome
        assert outcome is not None
        assert sum(outcome.values) == pytest.approx(2.0)
        return outcome.ranks

    assert ranks("0,1,5,4", "") == (2, 1, 3, 4)
    assert ranks("0,1,4,4", "9:4") == (2, 1, 4, 3)
    assert ranks("0,1,4,4", "") == (2, 1, 3, 3)


def test_batch_plays_as_single_games_do() -> None:
    """A batch gives each game what the single-game rules give it."""
    where = geometry("hex8", 3)
    batch = GameBatch(where, 5)
    games = [Game(where, row) for row in batch.data.copy()]
    rng = np.random.default_rng(1)
    for _ in range(60):
        codes, counts = batch.legal()
        for row, count, game in zip(codes, counts, games, strict=True):
            assert row[:count].tolist() == game.legal_codes().tolist()
        chosen = np.array([rng.choice(row[:count]) for row, count in zip(codes, counts, strict=True)])
        batch.apply(chosen)
        for game, code in zip(games, chosen, strict=True):
            game.apply(int(code))
    assert (batch.data == np.stack([game.words for game in games])).all()


def test_batch_refuses_illegal_codes_as_a_whole() -> None:
    """One wrong code leaves all games as they were."""
    batch = GameBatch(geometry("square8", 2), 3)
    before = batch.data.copy()
    with pytest.raises(IllegalMove, match="game 1"):
        batch.apply(np.array([0, 1 << 30, 5], dtype=np.int32))
    for wrong in (
        np.zeros(2, dtype=np.int32),
        np.zeros(3),
        np.full(3, (1 << 32) + 5),
        np.full(3, -5),
        np.full(3, 1 << 63, np.uint64),
    ):
        with pytest.raises(RulesError):
            batch.apply(wrong)
    assert (batch.data == before).all()
    batch.apply(np.array([0, -1, 5], dtype=np.int32))
    assert (batch.data[1] == before[1]).all()


def test_playouts_do_not_depend_on_threads() -> None:
    """The same seed gives the same games, whatever the number of threads."""
    import numba

    results = []
    for threads in (1, 2):
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        batch = GameBatch(geometry("square8", 4), 40)
        batch.random_playouts(seed=7)
        results.append(batch.data.copy())
        assert batch.over.all()
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    assert (results[0] == results[1]).all()


def test_perft_is_the_tree_of_single_games() -> None:
    """Counting by kernels agrees with walking the tree by hand."""

    def walk(game: Game, depth: int) -> int:
        if depth == 1:
            return len(game.legal_codes())
        total = 0
        for code in game.legal_codes():
            after = game.clone()
            after.apply(int(code))
            total += walk(after, depth - 1)
        return total

    for board in ("square8", "hex8"):
        game = Game.new(board, 2)
        assert [perft(game, d) for d in (1, 2, 3)] == [walk(game, d) for d in (1, 2, 3)]
    with pytest.raises(RulesError):
        perft(game, 0)
