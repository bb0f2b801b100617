"""Games recorded with the reference engine are replayed ply by ply."""

import json
from pathlib import Path

import pytest

from engine.rules.verify import check_game, read_games

HERE = Path(__file__).parent
FULL = HERE.parents[1].parent / "shared" / "traces"  # the whole recording, where it lies next to the checkout
FILES = sorted(HERE.glob("*.jsonl.gz"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_recorded_games_agree(path: Path) -> None:
    """Legal lists, positions, hashes, ends and reasons agree at every ply."""
    games = list(read_games(path))
    assert games
    for game in games:
        assert check_game(game) is None


def test_selection_covers_every_board_and_count() -> None:
    """Every board is there with every number of players, and hex8 in both variants."""
    games = [game for path in FILES for game in read_games(path)]
    assert {(g["board"], g["players"]) for g in games} == {
        (board, players) for board in ("square8", "square19", "hex8", "hexagonal") for players in (2, 3, 4)
    }
    assert {g.get("variant") for g in games if g["board"] == "hex8"} == {"spec", "asis"}
    assert {g["end"].get("reason") for g in games} >= {
        "ring_elimination", "territory_control", "lps_early", "lps_rounds", "stalemate_territory",
        "stalemate_eliminated",
    }  # fmt: skip
    assert sum(path.stat().st_size for path in FILES) < 4_000_000


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda g: g["plies"][5]["L"].pop(), "legal moves differ"),
        (lambda g: g["plies"][5].update(s=g["plies"][4]["s"]), "recorded"),
        (lambda g: g["plies"][5].update(c="P0x9"), "no move"),
        (lambda g: g["end"].update(winner=3 - g["end"]["winner"]), "recorded: player"),
        (lambda g: g["end"].update(reason="lps_early"), "by lps_early"),
        (lambda g: g.pop("plies"), "malformed"),
        (lambda g: g.update(board="square9"), "unknown board"),
    ],
)
def test_checker_finds_any_change(change, word: str) -> None:
    """A recording that differs in one place is refused, and the place is named."""
    path = next(path for path in FILES if path.name == "square8-2p.jsonl.gz")
    game = json.loads(json.dumps(next(read_games(path))))
    change(game)
    difference = check_game(game)
    assert difference is not None
    assert word in str(difference)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", sorted(FULL.glob("*.jsonl.gz")) or FILES, ids=lambda path: path.name)
def test_whole_recording_agrees(path: Path) -> None:
    """All games of the whole recording agree, where it is at hand; the selection otherwise."""
    for game in read_games(path):
        assert check_game(game) is None
