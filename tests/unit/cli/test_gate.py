"""`rift gate`: passes, fails and bad input by exit code; JSON and JUnit say why."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
import torch
from typer.testing import CliRunner

from engine.nets.net import Net
from engine.nets.store import Manifest, digest, dump
from engine.rules.geometry import geometry
from workqueue.cli.gate import app
from workqueue.sequential import Observed, judge, points_of

runner = CliRunner()
QUICK = ["--simulations", "2", "--floor-games", "4", "--games-max", "64", "--threads", "1"]
NO_FLOORS = ["--floor-random", "0", "--floor-heuristic", "0"]


def net(path: Path, seed: int, board: str = "square8", players: int = 2) -> Path:
    torch.manual_seed(seed)
    path.write_bytes(dump(Net(geometry(board, players), 8, 1), Manifest(board, players, "8x1")))
    return path


@pytest.fixture
def nets(tmp_path: Path) -> tuple[Path, Path]:
    return net(tmp_path / "a.safetensors", 1), net(tmp_path / "b.safetensors", 2)


def test_a_candidate_below_a_floor_fails(nets: tuple[Path, Path], tmp_path: Path) -> None:
    """An untrained net does not beat the heuristic; the duel is left out, as in the loop."""
    report = tmp_path / "r.xml"
    done = runner.invoke(
        app, ["--candidate", str(nets[0]), "--against", str(nets[1]), *QUICK, "--floor-heuristic", "100",
              "--junit", str(report)]
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    assert "FAILED" in done.stdout
    suite = Xml.parse(report).getroot()[0]  # noqa: S314  # our own
    assert suite.get("tests") == "3"
    assert suite.find("testcase[@name='sequential test']/skipped") is not None
    assert suite.find("testcase[@name='floor against heuristic']/failure") is not None


def test_a_candidate_that_is_shown_strong_enough_passes(nets: tuple[Path, Path], tmp_path: Path) -> None:
    """Against bounds that an equal player meets; the verdict follows from the games in the report alone."""
    report, junit = tmp_path / "r.json", tmp_path / "r.xml"
    done = runner.invoke(
        app, ["--candidate", str(nets[0]), "--against", str(nets[1]), *QUICK, *NO_FLOORS, "--elo0", "-700", "--elo1",
              "-600", "--json", str(report), "--junit", str(junit)]
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(report.read_text())
    assert found["verdict"] == "pass"
    assert found["candidate"] == digest(nets[0].read_bytes())
    me, other = f"{found['candidate']}:candidate", f"{found['against']}:champion"
    duel = [game for game in found["games"] if other in game["seats"]]
    seen = [Observed(game["opening"], points_of(me, game["seats"], game["ranks"])) for game in duel]
    again = judge(seen, 2, elo0=-700, elo1=-600)
    assert again.verdict == "accept"
    assert again.llr == pytest.approx(found["llr"])
    assert Xml.parse(junit).getroot()[0].get("failures") == "0"  # noqa: S314  # our own


def test_an_undecided_match_fails(nets: tuple[Path, Path]) -> None:
    """What is not shown is not promoted."""
    done = runner.invoke(
        app, ["--candidate", str(nets[0]), "--against", str(nets[1]), *QUICK, *NO_FLOORS, "--games-max", "4"]
    )
    assert done.exit_code == 1, done.output
    assert "undecided after 4 games" in done.stdout


def test_bad_input_is_told_apart_from_a_fail(nets: tuple[Path, Path], tmp_path: Path) -> None:
    """Missing files, weights of another board, bounds the wrong way round: exit code 2 and a sentence."""
    other = net(tmp_path / "hex.safetensors", 1, "hex8")
    junk = tmp_path / "junk.safetensors"
    junk.write_bytes(b"junk")
    a = str(nets[0])
    for arguments, words in (
        (["--candidate", str(junk), "--against", a], "carry no manifest"),
        (["--candidate", str(tmp_path / "none"), "--against", a], "No such file"),
        (["--candidate", a, "--against", str(other)], "plays hex8"),
        (["--candidate", a, "--against", str(tmp_path / "none")], "cannot be played against"),
        (["--candidate", a, "--against", a, "--elo0", "60"], "must be below"),
    ):
        done = runner.invoke(app, [*arguments, *QUICK])
        assert done.exit_code == 2, done.output
        assert words in done.stderr


def test_the_clusters_champion_is_fetched(nets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """By its alias, with the cluster's settings; without a champion the floors of a first model decide."""
    from workqueue.cli import gate, model

    champion = nets[1].read_bytes()

    class Client:
        async def get_artifact(self, sha: str, path: Path) -> None:
            assert sha == digest(champion)
            path.write_bytes(champion)

    values = {"gate.floor_games": 4, "gate.games_max": 4, "gate.simulations": 2}
    monkeypatch.setattr(gate, "ask", lambda name: {"version": 3, "values": values, "effective": values})
    monkeypatch.setattr(gate, "call", lambda work: asyncio.run(work(Client())))
    monkeypatch.setattr(model, "champion_of", lambda config: digest(champion) if config == "square8_2p" else "")
    done = runner.invoke(app, ["--candidate", str(nets[0]), *NO_FLOORS, "--threads", "1"])
    assert done.exit_code == 1, done.output
    assert "undecided after 4 games" in done.stdout
    monkeypatch.setattr(model, "champion_of", lambda config: "")
    done = runner.invoke(app, ["--candidate", str(nets[0]), *NO_FLOORS, "--threads", "1"])
    assert done.exit_code == 0, done.output
    assert "there is no champion yet" in done.stdout
