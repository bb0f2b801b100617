"""The commands say what they found, and fail with one sentence."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engine.rules.commands import app
from engine.rules.game import Game
from engine.rules.records import GameRecord

GOLDEN = Path(__file__).parents[3] / "golden"
runner = CliRunner()


@pytest.fixture
def game_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    start = Game.new("hex8", 2)
    game, codes = start.clone(), []
    while not game.is_over:
        codes.append(int(rng.choice(game.legal_codes())))
        game.apply(codes[-1])
    path = tmp_path / "game.rift"
    path.write_bytes(GameRecord.of(start, codes).to_bytes())
    return path


def test_verify_accepts_what_is_right(game_file: Path) -> None:
    result = runner.invoke(app, ["verify", str(game_file), str(GOLDEN / "scenarios-hand.jsonl.gz")])
    assert result.exit_code == 0
    assert "agree with the rules" in result.output


def test_verify_names_the_first_difference(tmp_path: Path) -> None:
    text = gzip.decompress((GOLDEN / "scenarios-hand.jsonl.gz").read_bytes()).decode()
    path = tmp_path / "changed.jsonl"
    path.write_text(text.replace('"NL"', '"ZZ"', 1))
    result = runner.invoke(app, ["verify", str(path)])
    assert result.exit_code == 1
    assert "ply" in result.output


@pytest.mark.parametrize("name", ["missing.rift", "missing.jsonl.gz"])
@pytest.mark.parametrize("command", ["verify", "show"])
def test_missing_files_are_one_sentence(command: str, name: str, tmp_path: Path) -> None:
    result = runner.invoke(app, [command, str(tmp_path / name)])
    assert result.exit_code == 1
    assert "error:" in result.output
    assert "Traceback" not in result.output


def test_show_draws_prints_and_plays(game_file: Path, tmp_path: Path) -> None:
    svg = tmp_path / "game.svg"
    assert runner.invoke(app, ["show", str(game_file), "--svg", str(svg)]).exit_code == 0
    assert svg.read_text().startswith("<svg")
    assert "[board hex8]" in runner.invoke(app, ["show", str(game_file), "--text"]).output
    assert "ply 0" in runner.invoke(app, ["show", str(game_file), "--ply", "0"]).output
    assert runner.invoke(app, ["show", str(game_file), "--ply", "9999"]).exit_code == 1
    assert "wins" in runner.invoke(app, ["show", str(game_file), "--play", "--frame-ms", "20"]).output


def test_show_reads_recordings_with_recovery() -> None:
    recording = str(GOLDEN / "scenarios-hand.jsonl.gz")
    for number in range(14):
        assert runner.invoke(app, ["show", recording, "--number", str(number)]).exit_code == 0
    assert runner.invoke(app, ["show", recording, "--number", "999"]).exit_code == 1


def test_perft_and_warm() -> None:
    assert "192" in runner.invoke(app, ["perft", "2"]).output
    assert runner.invoke(app, ["perft", "2", "--board", "none"]).exit_code == 1
    assert "compiled rules are in" in runner.invoke(app, ["warm"]).output
