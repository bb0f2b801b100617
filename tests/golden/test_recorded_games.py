"""Games recorded with the reference engine are replayed ply by ply."""

import json
from pathlib import Path

import pytest

from engine.rules.errors import RulesError
from engine.rules.trace_adapter import TraceAdapter, move_from_dict, state_from_dict, state_to_dict
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


def test_dictionaries_of_the_adapter_go_both_ways() -> None:
    """Moves and positions survive the form in which an outside checker wants them."""
    path = next(path for path in FILES if path.name == "scenarios-hand.jsonl.gz")
    for record in read_games(path):
        adapter = TraceAdapter()
        rules = {**record["rules"], **({"variant": record["variant"]} if "variant" in record else {})}
        adapter.from_state(state_to_dict(record["init"]), record["board"], record["players"], rules)
        for ply in record["plies"]:
            assert state_from_dict(adapter.state()) == adapter.game.state()
            moves = [move_from_dict(move) for move in adapter.legal_moves()]
            assert "L" not in ply or sorted(str(move) for move in moves) == ply["L"]
            adapter.apply(next(move for move in adapter.legal_moves() if str(move_from_dict(move)) == ply["c"]))
            assert "s" not in ply or adapter.game.state() == ply["s"]


@pytest.mark.parametrize(
    "move",
    [{}, {"type": "jump"}, {"type": "recovery_slide"}, {"type": "move_stack", "from": 0}, {"type": "place_ring"}, []],
)
def test_adapter_refuses_what_is_no_move(move: object) -> None:
    """A malformed or illegal move is one clear error, and changes nothing."""
    adapter = TraceAdapter()
    adapter.new_game("square8", 2, {"swap": False})
    before = adapter.state()
    with pytest.raises(RulesError):
        adapter.apply(move)
    assert adapter.state() == before


def test_vectors_are_checked() -> None:
    """A vector passes when its moves do what it says, and fails when they do not."""
    vector = {
        "id": "capture",
        "board": "square8",
        "players": 2,
        "before": "MV|1|A|0|16,17|0,0|0,0|27:11,35:2|||-|-|-|00|0|0,0,--,0,0,0",
        "steps": [
            {
                "move": "C27-35-43",
                "in_legal_list": True,
                "after": "LP|1|A|0|16,17|0,0|0,0|43:211|27:1||-|-|-|10|0|0,0,--,0,0,0",
            },
            {"move": "NT", "in_legal_list": False, "after": None},
        ],
    }
    assert check_game(vector) is None
    vector["steps"][0]["after"] = vector["before"]
    assert "after C27-35-43" in str(check_game(vector))
    vector["steps"] = [{"move": "SC", "in_legal_list": True, "after": ""}]
    assert "says otherwise" in str(check_game(vector))
    assert "legal moves differ" in str(check_game({**vector, "steps": [], "legal": ["NL"]}))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", sorted(FULL.rglob("*.jsonl*")) or FILES, ids=lambda path: path.name)
def test_whole_recording_agrees(path: Path) -> None:
    """All games and test vectors of the whole recording agree, where it is at hand; the selection otherwise."""
    for game in read_games(path):
        assert check_game(game) is None
