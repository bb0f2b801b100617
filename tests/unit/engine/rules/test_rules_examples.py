"""The worked edge cases of the rules (§19), each as a position and what follows."""

import pytest

from engine.rules.game import Game


def position(phase: str, *, stacks="", markers="", collapsed="", hand=(0, 0), elim=(0, 0), flags="00") -> Game:
    """Build a square8 position; stacks are bottom ring first, cells y * 8 + x."""
    owners = [entry.split(":")[1] for entry in collapsed.split(",") if entry]
    terr = ",".join(str(owners.count(seat)) for seat in "12")
    text = (
        f"{phase}|1|A|0|{hand[0]},{hand[1]}|{elim[0]},{elim[1]}|{terr}|{stacks}|{markers}|{collapsed}"
        f"|-|-|-|{flags}|0|0,0,--,0,0,0"
    )
    return Game.from_state(text, "square8", 2)


def at(x: int, y: int) -> int:
    return 8 * y + x


def field(game: Game, number: int) -> str:
    return game.state().split("|")[number]


def moves(game: Game) -> set[str]:
    return {str(move) for move in game.legal_moves()}


def test_lone_ring_on_a_marker() -> None:
    """19.1: a single ring that lands on a marker is gone, with the marker."""
    game = position("MV", stacks=f"{at(3, 3)}:1,63:2", markers=f"{at(4, 3)}:1")
    game.apply(f"M{at(3, 3)}-{at(4, 3)}")
    assert field(game, 0) == "LP"
    assert field(game, 5) == "1,0"
    assert field(game, 7) == "63:2"
    assert field(game, 8) == f"{at(3, 3)}:1"


def test_control_lost_by_landing() -> None:
    """19.2: markers on the way collapse or flip, and the ring below takes control."""
    game = position("MV", stacks=f"{at(2, 2)}:221", markers=f"{at(3, 2)}:1,{at(4, 2)}:2,{at(5, 2)}:2")
    game.apply(f"M{at(2, 2)}-{at(5, 2)}")
    assert field(game, 0) == "LP"
    assert field(game, 5) == "1,0"
    assert field(game, 6) == "1,0"
    assert field(game, 7) == f"{at(5, 2)}:22"
    assert field(game, 8) == f"{at(2, 2)}:1,{at(4, 2)}:1"
    assert field(game, 9) == f"{at(3, 2)}:1"


def test_capture_distance_counts_from_the_start() -> None:
    """19.3: a stack of three lands at least three cells away."""
    game = position("MV", stacks="0:111,1:2")
    assert {m for m in moves(game) if m.startswith("C0-1-")} == {f"C0-1-{x}" for x in range(3, 8)}


@pytest.mark.parametrize(("target", "possible"), [("22", False), ("1112", True)])
def test_cap_decides(target: str, *, possible: bool) -> None:
    """19.4: caps are compared, heights are not."""
    game = position("MV", stacks=f"0:2221,1:{target}")
    assert any(m.startswith("C0-1-") for m in moves(game)) is possible


def test_reversal_and_self_capture() -> None:
    """19.5: a chain may turn back and take from a stack of its own colour."""
    game = position("MV", stacks=f"{at(2, 2)}:1,{at(3, 2)}:212")
    game.apply(f"C{at(2, 2)}-{at(3, 2)}-{at(4, 2)}")
    assert field(game, 0) == "CC"
    assert moves(game) == {f"K{at(4, 2)}-{at(3, 2)}-{at(x, 2)}" for x in (0, 1, 2)}
    game.apply(f"K{at(4, 2)}-{at(3, 2)}-{at(2, 2)}")
    assert field(game, 7) == f"{at(2, 2)}:12,{at(3, 2)}:2"


def test_dead_placement_is_not_offered() -> None:
    """19.8: a cell where one ring could not act is not offered, even if two could."""
    game = position("RP", stacks="8:22", collapsed="1:1,9:1", hand=(5, 5))
    assert not any(m.startswith("P0x") for m in moves(game))


def test_exact_line() -> None:
    """19.11: an exact line costs one ring, and is closed by an explicit move."""
    game = position("LP", stacks=f"{at(0, 7)}:11,63:2", markers="2:1,3:1,4:1,5:1")
    assert moves(game) == {"L2.3.4.5"}
    game.apply("L2.3.4.5")
    assert moves(game) == {f"E{at(0, 7)}l"}
    game.apply(f"E{at(0, 7)}l")
    assert field(game, 5) == "1,0"
    assert moves(game) == {"NL"}


def test_over_long_line() -> None:
    """19.12: the minimum of an over-long line is free, and ends the line phase silently."""
    game = position("LP", stacks=f"{at(0, 7)}:11,63:2", markers="2:1,3:1,4:1,5:1,6:1")
    assert moves(game) == {"O2.3.4.5.6/2.3.4.5.6", "O2.3.4.5.6/2.3.4.5", "O2.3.4.5.6/3.4.5.6"}
    game.apply("O2.3.4.5.6/2.3.4.5")
    assert field(game, 0) == "TP"
    assert field(game, 8) == "6:1"


def test_line_payment_is_waived_without_stacks() -> None:
    """19.13: who controls no stack pays nothing."""
    game = position("LP", stacks="63:2", markers="2:1,3:1,4:1,5:1", hand=(3, 3))
    game.apply("L2.3.4.5")
    assert field(game, 0) == "TP"


def test_chain_sweep_of_the_border() -> None:
    """19.15: touching markers of any colour collapse with a region, and the last stack may be the price."""
    game = position(
        "TP",
        stacks=f"{at(5, 5)}:211,63:2",
        markers=f"{at(0, 1)}:1,{at(1, 0)}:1,{at(2, 1)}:2,{at(3, 2)}:1,{at(6, 6)}:1",
    )
    assert "T0" in moves(game)
    game.apply("T0")
    assert field(game, 6) == "5,0"
    game.apply(f"E{at(5, 5)}t")
    assert game.outcome is not None
    assert (game.outcome.winner, game.outcome.reason) == (2, "lps_early")


def test_two_regions_with_one_first_cell() -> None:
    """19.17: regions of different border colours may begin at the same cell; both have their own code."""
    game = position(
        "TP",
        stacks=f"{at(5, 5)}:1,63:2",
        markers=f"{at(0, 2)}:1,{at(1, 1)}:1,{at(2, 0)}:1,{at(1, 0)}:2,{at(0, 1)}:2",
    )
    assert {"T0", "T0.1.8"} <= moves(game)
    assert len(set(game.legal_codes().tolist())) == len(moves(game))


def test_forced_elimination() -> None:
    """19.20: a blocked player gives up a cap, straight after the lines."""
    game = position("RP", stacks="0:21,63:2", collapsed="2:2,16:2,18:2")
    for move in ("NP", "NM", "NL"):
        assert moves(game) == {move}
        game.apply(move)
    assert moves(game) == {"F0"}
    game.apply("F0")
    assert field(game, 7) == "0:2,63:2"


def test_fallback_recovery() -> None:
    """19.22: a slide without a line costs the buried ring."""
    game = position("MV", stacks=f"{at(3, 3)}:112,63:2", markers="0:1")
    assert moves(game) == {f"R0-{to}F@{at(3, 3)}" for to in (1, 8, 9)} | {"SR"}
    game.apply(f"R0-1F@{at(3, 3)}")
    assert field(game, 7) == f"{at(3, 3)}:12,63:2"
    assert field(game, 5) == "1,0"


def test_strike_on_the_burying_stack() -> None:
    """19.23: the struck ring goes first, then the own ring wherever it now is."""
    game = position("MV", stacks=f"{at(1, 1)}:12,63:2", markers="0:1", hand=(1, 0))
    game.apply("R0-9S@9")
    assert field(game, 7) == "63:2"
    assert field(game, 5) == "2,0"


def test_recovery_of_an_over_long_run() -> None:
    """19.24: a run of five has segments, a run of four has not."""
    game = position("MV", stacks="63:12", markers="8:1,9:1,10:1,12:1,3:1")
    listed = moves(game)
    assert {"R3-11L1@63", "R3-11L2:8.9.10.11", "R3-11L2:9.10.11.12", "R12-11L1@63"} <= listed
    assert not any(m.startswith("R12-11L2") for m in listed)


def test_extraction_is_a_second_decision() -> None:
    """With several stacks to pay from the slide and the payment are two plies, and one notation for both."""
    game = position("MV", stacks="27:112,63:12", markers="0:1")
    assert "R0-1F" in moves(game)
    whole = game.clone()
    whole.apply("R0-1F@63")
    game.apply("R0-1F")
    assert field(game, 0) == "XT"
    assert Game.decode(game.encode()).state() == game.state()
    assert moves(game) == {"X27", "X63"}
    game.apply("X63")
    assert game.state() == whole.state()


def test_ladder_looks_at_everybody() -> None:
    """19.28: territory ties, so the eliminated rings of all players decide."""
    text = "FE|1|A|0|0,0,0|0,1,4|1,1,0|0:1||8:1,9:2|-|-|-|00|0|0,0,---,0,0,0"
    game = Game.from_state(text, "square8", 3)
    game.apply("F0")
    assert game.outcome is not None
    assert (game.outcome.winner, game.outcome.reason) == (3, "stalemate_eliminated")
    assert game.outcome.ranks[2] == 1


def test_swap_leaves_the_board() -> None:
    """The pie rule is offered once, to player 2, who then plays on."""
    game = Game.new("square8", 2, {"swap": True})
    while game.to_move == 1:
        game.apply(game.legal_moves()[0])
    assert "SW" in moves(game)
    before = game.state().split("|")
    game.apply("SW")
    assert game.state().split("|")[:10] == before[:10]
    assert "SW" not in moves(game)
