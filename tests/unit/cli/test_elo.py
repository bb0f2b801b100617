"""`rift elo --fit` over a log in a file: table, JSON, picture, and one sentence for what cannot be rated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.unit.engine.rating.leagues import league
from workqueue.cli.elo import app

runner = CliRunner()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    games = [
        {"id": g.id, "config": config, "seats": g.seats, "ranks": g.ranks, "worker": g.worker}
        for config, seed in (("square8_2p", 1), ("hex8_2p", 2))
        for g in league([400, 900, 1100], 120, 2, seed, workers=3)
    ]
    path = tmp_path / "log.json"
    path.write_text(json.dumps([dict(game, id=f"{game['config']}{game['id']}") for game in games]))
    return path


def test_each_config_is_rated_on_its_own(log: Path, tmp_path: Path) -> None:
    """Random at 400, the heuristic as second anchor, intervals about the ratings, a picture on request."""
    done = runner.invoke(app, ["--fit", "--log", str(log), "--json", "--plot", str(tmp_path / "elo.png")])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert set(found) == {"square8_2p", "hex8_2p"}
    for each in found.values():
        assert each["pinned"] == {"none:random:-": 400_000}
        assert each["games"] == 120
        assert {row["worker"] for row in each["workers"]} == {"w0", "w1", "w2"}
        anchor = each["second_anchor"]
        assert anchor["low_milli"] < anchor["elo_milli"] < anchor["high_milli"]
    assert (tmp_path / "elo.png").read_bytes().startswith(b"\x89PNG")


def test_one_board_as_a_table(log: Path) -> None:
    done = runner.invoke(app, ["--fit", "--log", str(log), "--board", "hex8"])
    assert done.exit_code == 0, done.output
    assert "hex8_2p: bradley-terry, 120 games" in done.stdout
    assert "square8" not in done.stdout


def test_a_crosstable_of_the_log(log: Path, tmp_path: Path) -> None:
    """Each cell is what the games say; a picture is of one config."""
    every = json.loads(log.read_text())
    for game in every[::40]:
        game["revoked"] = True
    log.write_text(json.dumps(every))
    games = [game for game in every if game["config"] == "hex8_2p" and not game.get("revoked")]
    done = runner.invoke(app, ["--crosstable", "--log", str(log), "--board", "hex8", "--plot", str(tmp_path / "x.png")])
    assert done.exit_code == 0, done.output
    assert len(games) == 117
    assert "hex8_2p: 117 of 117 games" in done.stdout
    met = [game for game in games if set(game["seats"]) == {"none:random:-", "none:heuristic:-"}]
    points = 0.0
    for game in met:
        mine, other = (game["ranks"][game["seats"].index(name)] for name in ("none:heuristic:-", "none:random:-"))
        points += 1.0 if mine < other else 0.5 if mine == other else 0.0
    assert met
    assert f"{points:g}/{len(met)}" in done.stdout
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert runner.invoke(app, ["--crosstable", "--log", str(log), "--plot", str(tmp_path / "x.png")]).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--crosstable", "--fit"], "stands alone"),
        (["--fit", "--log", "missing.json"], "holds no matches"),
        (["--fit", "--ties", "odd"], "choose half or davidson"),
        (["--log", "x.json"], "--log goes with --fit or --crosstable"),
        (["--check"], "--check goes with --fit"),
        (["--crosstable", "--check", "--log", "x.json"], "--check goes with --fit"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], words: str) -> None:
    done = runner.invoke(app, arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_cheating_worker_changes_the_exit_code(log: Path) -> None:
    """With --check, when one worker of three reports the other way round what it played; an honest log passes."""
    assert runner.invoke(app, ["--fit", "--log", str(log), "--check"]).exit_code == 0
    games = json.loads(log.read_text())
    for game in games:
        if game["worker"] == "w1":
            game["ranks"] = game["ranks"][::-1]
    log.write_text(json.dumps(games))
    done = runner.invoke(app, ["--fit", "--log", str(log), "--check"])
    assert done.exit_code == 1
    assert "worker w1: its" in done.stdout


def test_a_board_that_nobody_played(log: Path) -> None:
    done = runner.invoke(app, ["--fit", "--log", str(log), "--board", "hex9"])
    assert done.exit_code == 2
    assert "did you mean hex8?" in done.stderr
