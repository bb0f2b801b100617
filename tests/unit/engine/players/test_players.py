"""Named players, the ladder, mixed play, a game at one table, and analysis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.cli import app
from engine.nets.evaluator import UniformEvaluator
from engine.nets.net import Net
from engine.nets.store import Manifest, digest, dump
from engine.players.analysis import analysis_svg, analyze
from engine.players.estimate import RolloutEvaluator
from engine.players.ladder import LEVELS, WITHOUT_NET, describe, level_config
from engine.players.names import parse
from engine.players.player import WITH_NET, GumbelPlayer, MixedPlayer, PlayerConfig, RandomPlayer, legal_of, make
from engine.players.table import Left, Table, play_out
from engine.rules.batch import GameBatch
from engine.rules.game import Game
from engine.rules.geometry import geometry
from engine.rules.records import read_record

SQUARE = geometry("square8", 2)
runner = CliRunner()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "w.safetensors"
    path.write_bytes(dump(Net(SQUARE, 8, 1), Manifest("square8", 2, "8x1")))
    return path


def positions(games: int = 6, plies: int = 30) -> tuple[np.ndarray, np.ndarray]:
    batch = GameBatch(SQUARE, games)
    batch.random_playouts(2, plies)
    return batch.data, np.flatnonzero(~batch.over).astype(np.int32)


# ---- names


def test_players_are_read_as_people_write_them(weights: Path) -> None:
    """Each text gives the player it says, and the key that a worker gives the same player."""
    from workqueue.schema import PlayerSpec

    sha = digest(weights.read_bytes())
    for text, spec in {
        "random": PlayerSpec("random"),
        "heuristic:t1.5": PlayerSpec("heuristic", temperature_milli=1500),
        "flat_mc:s64": PlayerSpec("flat_mc", simulations=64),
        "alphabeta:d3": PlayerSpec("alphabeta", depth=3),
        f"{weights}:s32": PlayerSpec("gumbel", sha, 32),
        f"policy@{weights}": PlayerSpec("policy", sha),
    }.items():
        assert parse(text).key == spec.key
    mixed = parse("mixed:0.25*random+0.75*alphabeta:d2")
    assert mixed.config.mix == ((0.25, PlayerConfig("random")), (0.75, PlayerConfig("alphabeta", depth=2)))
    assert mixed.key == "none:mixed:0.25*random:-+0.75*alphabeta:d2"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("clever", "there is no player"),
        ("gumbel", "name the weights"),
        ("missing.safetensors", "there is no file"),
        ("random@w.safetensors", "plays without weights"),
        ("flat_mc:64", "is not s"),
        ("flat_mc:s0", "is not s"),
        ("alphabeta:d1.5", "is not s"),
        ("level:x", "level:1 to level:10"),
        ("level:11", "choose 1 to 10"),
        ("level:9", "plays with a net"),
        ("mixed:0*random+1*heuristic", "is no share"),
    ],
)
def test_what_is_no_player_gets_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)


# ---- players


def test_every_level_plays(weights: Path) -> None:
    """D1 to D7 without a net, the rest with one; every choice is legal, and equal seeds choose alike."""
    data, rows = positions()
    codes, counts = legal_of(data, rows, SQUARE)
    assert list(LEVELS) == list(range(1, 11))
    for level in LEVELS:
        if level > WITHOUT_NET:
            with pytest.raises(ValueError, match="plays with a net"):
                level_config(level, with_net=False)
        config = level_config(level, with_net=True)
        if config.kind in {*WITH_NET, "search"}:
            config = PlayerConfig(config.kind, 4)
        chosen = [make(config, SQUARE, weights).choose(data, rows, np.random.default_rng(1)) for _ in range(2)]
        assert (chosen[0] == chosen[1]).all()
        assert all(code in codes[k, : counts[k]] for k, code in enumerate(chosen[0]))
        assert describe(level)


class Fixed:
    """Plays the n-th legal move."""

    def __init__(self, n: int) -> None:
        self.n = n

    def choose(self, data: np.ndarray, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return legal_of(data, rows, SQUARE)[0][:, self.n]


def test_a_mixed_player_takes_turns_by_its_shares() -> None:
    """Over many decisions each part takes about its share of them."""
    batch = GameBatch(SQUARE, 2000)
    rows = np.arange(2000, dtype=np.int32)
    first = legal_of(batch.data[:1], rows[:1], SQUARE)[0][0, 0]
    chosen = MixedPlayer([(3.0, Fixed(0)), (1.0, Fixed(1))]).choose(batch.data, rows, np.random.default_rng(1))
    assert (chosen == first).mean() == pytest.approx(0.75, abs=0.04)
    with pytest.raises(ValueError, match="a share above 0"):
        MixedPlayer([])


def test_a_player_keeps_what_it_evaluated_and_chooses_alike() -> None:
    """Six games at once, in four slots or in slots of their own: the choices of a player that keeps nothing."""
    counts = {}
    for keep, games in (("nothing", 8), ("values", 8), ("values", 4)):
        player = GumbelPlayer(RolloutEvaluator(SQUARE), 12, games=games, keep=keep)
        batch, rng, chosen = GameBatch(SQUARE, 6), np.random.default_rng(1), []
        batch.random_playouts(3, 30)
        for _ in range(4):
            rows = np.flatnonzero(~batch.over).astype(np.int32)
            codes = np.full(6, -1, np.int32)
            codes[rows] = player.choose(batch.data, rows, rng)
            batch.apply(codes)
            chosen.append(codes)
        counts[keep, games] = (np.concatenate(chosen).tolist(), player.search.evaluations)
    assert counts["values", 8][0] == counts["values", 4][0] == counts["nothing", 8][0]
    assert counts["values", 8][1] < counts["nothing", 8][1]


def test_a_row_has_a_tree_of_its_own_where_there_are_enough() -> None:
    """Asked again in another order hardly anything is evaluated anew; two rows that would share a tree do not."""
    data, rows = positions(24, 30)
    rows = rows[legal_of(data, rows, SQUARE)[1] > 4]
    rng = np.random.default_rng(1)
    player = GumbelPlayer(RolloutEvaluator(SQUARE), 12, games=24)
    first, cost = player.choose(data, rows[:3], rng), player.search.evaluations
    assert cost > 30
    assert np.array_equal(player.choose(data, rows[:3][::-1], rng)[::-1], first)
    assert player.search.evaluations < cost + 6  # what did not fit into what is kept
    kept, fresh = (GumbelPlayer(RolloutEvaluator(SQUARE), 12, games=4, keep=keep) for keep in ("values", "nothing"))
    data, rows = positions(64, 30)
    rows = rows[legal_of(data, rows, SQUARE)[1] > 4]
    alike = rows[rows % 4 == rows[0] % 4][:4]
    chosen = fresh.choose(data, alike, rng)
    assert len(set(chosen.tolist())) > 2
    assert np.array_equal(kept.choose(data, alike, rng), chosen)


def test_random_games_judge_alike_and_see_who_is_winning() -> None:
    """Equal positions get equal chances whatever is beside them; they sum to one; a won game is seen."""
    data, rows = positions(8, 60)
    codes, counts = legal_of(data, rows, SQUARE)
    judge = RolloutEvaluator(SQUARE, 16)
    logits, values = judge.evaluate(data, rows, codes, counts)
    _, alone = judge.evaluate(data, rows[3:4], codes[3:4], counts[3:4])
    assert np.allclose(values[3], alone[0])
    assert np.allclose(values.sum(1), 1, atol=1e-5)
    assert np.isfinite(logits).all()
    batch = GameBatch(SQUARE, 1)
    batch.data[0] = data[rows[0]]
    last = batch.data.copy()
    rng = np.random.default_rng(3)
    while not batch.over[0]:
        last = batch.data.copy()
        batch.apply(RandomPlayer(SQUARE).choose(batch.data, np.zeros(1, np.int32), rng))
    codes, counts = legal_of(last, np.zeros(1, np.int32), SQUARE)
    _, values = judge.evaluate(last, np.zeros(1, np.int32), codes, counts)
    assert values[0, int(batch.winners[0]) - 1] >= 1 / 16


# ---- a table


def said(*words: str) -> Iterator[str]:
    return iter(words)


def test_a_person_plays_asks_and_resigns() -> None:
    """Moves by notation, help, lists, hints and undo; an illegal move changes nothing; the game is recorded."""
    table = Table(Game.new("square8", 2), {1: None, 2: RandomPlayer(SQUARE)}, seed=1)
    first = str(table.game.legal_moves()[5])
    answers = said("?", "moves P1", "cells", "hint", "Z9", "P99x1", first, "undo", first, "resign")
    heard: list[str] = []
    play_out(table, lambda _: next(answers), heard.append, lambda game: heard.append(game.board))
    text = "\n".join(heard)
    for words in ("Type a move", "P1x1", "56  57", "is no move", "is not legal"):
        assert words in text
    record = table.record(("person", "random"))
    assert record.notation()[0] == first
    assert (record.result.reason, record.result.winner) == ("resignation", 2)


def test_undo_goes_back_to_the_last_decision() -> None:
    """The person's move and the answers to it are taken back; at the start nothing is."""
    table = Table(Game.new("square8", 2), {1: None, 2: RandomPlayer(SQUARE)}, seed=1)
    table.undo()
    start = table.game.state()
    answers = said("P3x1", "undo", "quit")
    with pytest.raises(Left):
        play_out(table, lambda _: next(answers), lambda _: None, lambda _: None)
    assert (table.game.state(), table.codes) == (start, [])


def test_players_of_the_engine_play_each_other(tmp_path: Path) -> None:
    """`rift engine play A B` plays a whole game and saves it."""
    path = tmp_path / "game.rifg"
    done = runner.invoke(app, ["play", "random", "heuristic", "--seed", "4", "--save", str(path)])
    assert done.exit_code == 0, done.output
    record = read_record(path.read_bytes())
    assert record.result.winner in (1, 2)
    assert record.provenance.models == ("none:random:-", "none:heuristic:-")


def test_a_person_at_the_terminal_may_leave(tmp_path: Path) -> None:
    """What was played is kept."""
    path = tmp_path / "game.rifg"
    done = runner.invoke(app, ["play", "--level", "1", "--save", str(path)], input="P27x1\nquit\n")
    assert done.exit_code == 0, done.output
    assert "player 1, your move" in done.output
    assert read_record(path.read_bytes()).result.reason == "unfinished"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["play", "random", "random", "random"], "3 are named for 2 seats"),
        (["play", "person", "clever"], "there is no player"),
        (["play", "--board", "round"], "round"),
        (["analyze", "--position", "P99x1"], "not legal"),
        (["analyze", "--position", "missing.rifg"], "there is no file"),
        (["selfplay", "unused", "--keep", "all"], "nothing, values, visits"),
        (["tournament", "random"], "two players or more"),
        (["tournament", "random", "random"], "each once"),
        (["tournament", "random", "heuristic", "--pairing", "knockout"], "choose one of round_robin"),
        (["match", "random", "clever"], "there is no player"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], words: str) -> None:
    done = runner.invoke(app, arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


# ---- analysis


def test_lines_are_legal_and_best_first() -> None:
    """Every line can be played from the position; the first is what the search would play."""
    game = Game.new("square8", 2)
    while game.plies < 20 or len(game.legal_codes()) < 5:
        game.apply(int(game.legal_codes()[-1]))
    found = analyze(game, UniformEvaluator(SQUARE), 64, 4)
    assert 1 < len(found.lines) <= 4
    for line in found.lines:
        after = game.clone()
        for move, code in zip(line.moves, line.codes, strict=True):
            assert str(after.move(code)) == move
            after.apply(code)
    assert sum(found.seats_milli) == pytest.approx(1000, abs=2)
    assert sum(line.visits for line in found.lines) <= 64
    svg = analysis_svg(game, found)
    assert svg.count("%</text>") >= 1 + len(found.lines)
    assert svg.rstrip().endswith("</svg>")


def test_analysis_from_the_command_line(tmp_path: Path, weights: Path) -> None:
    """By codes or a game file, with a net or without, as a table, JSON and a picture."""
    game = tmp_path / "game.rifg"
    runner.invoke(app, ["play", "random", "random", "--seed", "1", "--save", str(game)])
    arguments = ["analyze", "--position", str(game), "--ply", "20", "--simulations", "16", "--json"]
    with_net = runner.invoke(app, [*arguments, "--model", str(weights), "--svg", str(tmp_path / "a.svg")])
    assert with_net.exit_code == 0, with_net.output
    found = json.loads(with_net.stdout)
    assert found["lines"][0]["moves"]
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
    opening = Game.new("square8", 2)
    opening.apply("P27x1")
    codes = f"P27x1, {opening.legal_codes()[0]}"
    table = runner.invoke(app, ["analyze", "--position", codes, "--simulations", "16"])
    assert table.exit_code == 0, table.output
    assert "at a glance: player 1" in table.stdout
    over = runner.invoke(app, ["analyze", "--position", str(game)])
    assert over.exit_code == 2
    assert "the game is over" in over.output


def test_a_tournament_from_the_command_line(tmp_path: Path) -> None:
    """Crosstable and ratings on screen, a picture, a log that ratings are fitted from, and the games."""
    log, picture, records = tmp_path / "log.json", tmp_path / "c.png", tmp_path / "games"
    done = runner.invoke(
        app,
        ["tournament", "random", "heuristic", "level:2", "--pairing", "swiss", "--games", "8", "--log", str(log),
         "--plot", str(picture), "--records", str(records)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "±" in done.stdout
    games = json.loads(log.read_text())["games"]
    assert len(games) >= 8
    assert {game["config"] for game in games} == {"square8_2p"}
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(records.glob("*.rifg"))) == len(games)
