"""The commands say everything that self-play offers and name what they cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

import engine.selfplay
from engine.cli import app
from engine.data.shards import load_shard
from engine.nets import inference
from engine.nets.inference import Backend
from engine.nets.net import Net
from engine.nets.store import Manifest, save
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec

RUN = CliRunner()
QUICK = ["--games", "2", "--simulations", "3", "--simulations-fast", "2", "--batch", "2", "--backend", "torch"]


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(2)
    return str(save(Net(geometry("square8", 2), 8, 1), Manifest("square8", 2, "8x1"), tmp_path)[0])


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ([], "gumbel:s3"),
        (["--engine", "mcts", "--temperature", "entropy"], "mcts:s3"),
        (["--engine", "policy", "--temperature", "curriculum"], "policy:-"),
        (["--mix", "0.6*gumbel+0.4*heuristic", "--full-share", "1"], "mixed:0.6*gumbel:-+0.4*heuristic:-:s3"),
    ],
)
def test_every_engine_plays(arguments: list[str], kind: str, weights: str, tmp_path: Path) -> None:
    """Into shards that name it."""
    done = RUN.invoke(app, ["selfplay", str(tmp_path / "out"), "--weights", weights, *QUICK, *arguments])
    assert done.exit_code == 0, done.output
    [shard] = (tmp_path / "out").glob("*.npz")
    assert load_shard(shard).meta.player.partition(":")[2] == kind


def test_every_option_reaches_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options that all differ from the defaults give a run that does."""
    given: list[SelfplaySpec] = []

    def play(spec: SelfplaySpec, *_: object, **__: object) -> None:
        given.append(spec)
        raise ValueError("seen enough")

    monkeypatch.setattr(engine.selfplay, "play", play)
    options = {
        "board": "hex8", "players": 3, "games": 9, "engine": "heuristic", "simulations-fast": 5, "full-share": 0.5,
        "temperature": "cosine", "temperature-start": 1.5, "temperature-end": 0.5, "temperature-plies": 7,
        "opening-plies": 2, "resign-below": 0.1, "resign-run": 5, "control-share": 0.5, "batch": 3, "keep": "visits",
        "max-seconds": 4, "seed": 6,
    }  # fmt: skip
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    done = RUN.invoke(app, ["selfplay", str(tmp_path / "out"), *arguments])
    assert (done.exit_code, "seen enough" in done.output) == (2, True), done.output
    assert given == [
        SelfplaySpec(
            board="hex8", players=3, games=9, player=PlayerConfig("heuristic"), player_key="none:heuristic:-",
            simulations_fast=5, full_share=0.5, temperature="cosine", temperature_start=1.5, temperature_end=0.5,
            temperature_plies=7, opening_plies=2, resign_below=0.1, resign_run=5, control_share=0.5, batch_games=3,
            keep="visits", max_seconds=4.0, seed=6,
        )
    ]  # fmt: skip


def test_who_gave_up_is_told(weights: str, tmp_path: Path) -> None:
    """With how often giving up would have been wrong."""
    arguments = ["--weights", weights, *QUICK, "--resign-below", "0.49", "--resign-run", "1", "--control-share", "0.5"]
    done = RUN.invoke(app, ["selfplay", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 0, done.output
    assert "played on as controls" in done.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--engine", "gumbel"], "needs the weights of a net"),
        (["--engine", "stockfish"], "choose one of heuristic, gumbel"),
        (["--temperature", "hot"], "choose one of constant"),
        (["--resign-below", "0.1", "--control-share", "0"], "needs control games"),
        (["--keep", "all"], "keeps one of nothing, values, visits"),
        (["--backend", "tensorrt"], "choose one of auto, torch"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(arguments: list[str], told: str, tmp_path: Path) -> None:
    """Exit code 2, nothing written."""
    done = RUN.invoke(app, ["selfplay", str(tmp_path / "out"), *arguments])
    assert done.exit_code == 2
    assert told in done.output.replace("\n", " ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "told"), [(["--mix", "x*gumbel"], "no share"), (["--engine", "heuristic"], "without")]
)
def test_weights_and_engine_must_fit(arguments: list[str], told: str, weights: str, tmp_path: Path) -> None:
    """Weights that nobody would use are a mistake, too."""
    done = RUN.invoke(app, ["selfplay", str(tmp_path / "out"), "--weights", weights, *arguments])
    assert done.exit_code == 2
    assert told in done.output


@pytest.mark.parametrize("command", ["match", "tournament"])
def test_players_meet_by_the_runtime_that_is_named(command: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And by the fastest that is installed where none is; one that does not exist is named."""
    asked: list[str] = []
    real = inference.candidates

    def noted(backend: Backend, device: str) -> tuple[Backend, ...]:
        asked.append(str(backend))
        return real(backend, device)

    monkeypatch.setattr(inference, "candidates", noted)
    arguments = [command, f"gumbel@{weights}:s2", "random", "--games", "2"]
    for backend in ("torch:bf16", "auto"):
        given = [] if backend == "auto" else ["--backend", backend]
        done = RUN.invoke(app, [*arguments, *given])
        assert done.exit_code == 0, done.output
    assert asked == ["torch:bf16", "auto"]
    done = RUN.invoke(app, [*arguments, "--backend", "tensorrt"])
    assert done.exit_code == 2
    assert "choose one of auto, torch" in done.output.replace("\n", " ")


def test_a_position_is_analysed_by_the_runtime_that_is_named(weights: str) -> None:
    """Torch in half precision sees the same position."""
    done = RUN.invoke(app, ["analyze", "--model", weights, "--simulations", "4", "--backend", "torch:bf16", "--json"])
    assert done.exit_code == 0, done.output
    assert '"to_move":1' in done.output
