"""`rift engine`: play, train and measure without a cluster."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from engine.data.commands import app as data_app
from engine.players.commands import Backend, Device, fail
from engine.players.commands import app as players_app
from engine.progress import bar, progress
from engine.rules.commands import app as rules_app
from engine.tournament.commands import app as tournament_app

app = typer.Typer(help="Play, train and measure without a cluster.", no_args_is_help=True)
for part in (players_app, tournament_app, rules_app):
    app.registered_commands += part.registered_commands
app.add_typer(data_app, name="data")

Board = Annotated[str, typer.Option(help="square8, square19, hex8 or hexagonal.")]
Players = Annotated[int, typer.Option(min=2, max=4, help="Players of a game.")]
Seed = Annotated[int, typer.Option(help="Equal seeds give equal games.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the net.")]
console = Console()


@app.command()
def selfplay(
    out: Annotated[Path, typer.Argument(help="Folder for the shards.")],
    board: Board = "square8",
    players: Players = 2,
    games: Annotated[int, typer.Option(min=1, help="Games to play.")] = 200,
    weights: Annotated[Path | None, typer.Option(help="A model.safetensors; without one the heuristic plays.")] = None,
    engine: Annotated[
        str, typer.Option(help="heuristic, gumbel, mcts, policy or mixed; gumbel where there are weights.")
    ] = "",
    mix: Annotated[str, typer.Option(help="Of mixed: who gets a seat, such as 0.6*gumbel+0.4*heuristic.")] = "",
    simulations: Annotated[int, typer.Option(min=1, help="Simulations of a fully searched move.")] = 32,
    simulations_fast: Annotated[int, typer.Option(min=1, help="Simulations of the other moves.")] = 8,
    full_share: Annotated[float, typer.Option(min=0, max=1, help="Share of moves searched fully.")] = 0.25,
    temperature: Annotated[str, typer.Option(help="constant, step, linear, cosine, entropy or curriculum.")] = "linear",
    temperature_start: Annotated[float, typer.Option(min=0, help="Temperature at first.")] = 1.0,
    temperature_end: Annotated[float, typer.Option(min=0, help="Temperature at last.")] = 0.25,
    temperature_plies: Annotated[int, typer.Option(min=1, help="Decisions until the last.")] = 40,
    opening_plies: Annotated[int, typer.Option(min=0, help="Random plies at first, at most.")] = 4,
    resign_below: Annotated[float, typer.Option(help="Chance at which a side gives up; 0 = never.")] = 0.0,
    resign_run: Annotated[int, typer.Option(help="Searches in a row that must agree.")] = 3,
    control_share: Annotated[float, typer.Option(help="Share of games that nobody may give up.")] = 0.1,
    batch: Annotated[int, typer.Option(min=0, help="Games side by side; 0 = found by measuring.")] = 64,
    keep: Annotated[
        str, typer.Option(help="What the next search keeps of a tree: nothing, values or visits.")
    ] = "values",
    max_seconds: Annotated[float, typer.Option(min=0, help="Stop after this time; 0 = never.")] = 0.0,
    device: Device = "cpu",
    backend: Backend = "auto",
    seed: Seed = 1,
    threads: Threads = 1,
) -> None:
    """Play games and write them as shards."""
    from engine.nets.inference import InferenceError
    from engine.nets.inference import use as choose
    from engine.nets.store import ModelError
    from engine.selfplay import SelfplaySpec, play
    from engine.selfplay.names import player_of
    from engine.threads import use

    use(threads)
    try:
        choose(backend)
        player, key = player_of(engine, weights, simulations, mix)
        spec = SelfplaySpec(
            board=board, players=players, player=player, player_key=key, games=games, seed=seed,
            simulations_fast=simulations_fast, full_share=full_share, temperature=temperature,
            temperature_start=temperature_start, temperature_end=temperature_end, temperature_plies=temperature_plies,
            opening_plies=opening_plies, resign_below=resign_below, resign_run=resign_run, control_share=control_share,
            batch_games=batch, keep=keep, max_seconds=max_seconds,
        )  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)
        with progress() as shown:
            done = play(spec, out, weights=weights, device=device, progress=bar(shown, "games", games))
    except (ValueError, OSError, ModelError, InferenceError) as error:
        fail(str(error))
    console.print(f"{done.games} games, {done.positions} positions in {done.seconds:.1f} s; wins by seat {done.wins}")
    if resign_below:
        console.print(
            f"{done.resigned} given up; {done.controls} played on as controls, "
            f"{done.controls_wrong} of them won after all"
        )


@app.command()
def train(
    shards: Annotated[list[Path], typer.Argument(help="Shards, or folders of them.")],
    out: Annotated[Path, typer.Option(help="Folder for weights, manifest and curves.")] = Path("model"),
    steps: Annotated[int, typer.Option(min=1, help="Steps.")] = 400,
    size: Annotated[str, typer.Option(help="Channels x blocks.")] = "32x4",
    parent: Annotated[Path | None, typer.Option(help="Weights to start from, of any board and player count.")] = None,
    resume: Annotated[Path | None, typer.Option(help="A checkpoint.safetensors to go on from.")] = None,
    learning_rate: Annotated[float, typer.Option(help="Highest rate.")] = 2e-3,
    batch_size: Annotated[int, typer.Option(min=1, help="Positions of a step.")] = 256,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    surprise: Annotated[
        float, typer.Option(help="Share of picks by how far a target lies from the parent's policy.")
    ] = 0.0,
    patience: Annotated[int, typer.Option(min=0, help="Looks without a gain before stopping; 0 = never.")] = 0,
    device: Device = "cpu",
    seed: Seed = 1,
    threads: Threads = 2,
) -> None:
    """Train a net on shards."""
    from engine.data.shards import load_shard
    from engine.threads import use
    from engine.training.train import TrainSpec
    from engine.training.train import train as run

    use(threads)
    files = [path for each in shards for path in (sorted(each.glob("*.npz")) if each.is_dir() else [each])]
    if not files:
        raise typer.BadParameter("there is no shard; make some with `rift engine selfplay`")
    out.mkdir(parents=True, exist_ok=True)
    meta = load_shard(files[0]).meta
    spec = TrainSpec(
        board=meta.board, players=meta.players, variant=meta.variant, steps=steps, seed=seed, size=size,
        learning_rate=learning_rate, batch_size=batch_size, optimizer=optimizer, precision=precision,
        surprise=surprise, patience=patience,
    )  # fmt: skip
    with progress() as shown:
        done = run(spec, files, out, parent=parent, resume=resume, progress=bar(shown, "steps", steps), device=device)
    console.print(f"model {done.model}\nloss {done.loss:.3f}, held out {done.heldout_loss:.3f}, curves {done.curves}")
    if done.manifest.transferred:
        console.print(f"{len(done.manifest.transferred)} tensors came from the parent")


@app.command()
def match(
    first: Annotated[str, typer.Argument(help="random, heuristic, level:3, flat_mc:s64, a model.safetensors, …")],
    second: Annotated[str, typer.Argument(help="Its opponent.")],
    board: Board = "square8",
    players: Players = 2,
    games: Annotated[int, typer.Option(min=2, help="Games, in sets with equal openings.")] = 100,
    model: Annotated[Path | None, typer.Option(help="Weights of levels that play with a net.")] = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    seed: Seed = 1,
    threads: Threads = 1,
) -> None:
    """Play two players against each other: equal openings, every seating."""
    from engine.nets.inference import InferenceError
    from engine.nets.inference import use as choose
    from engine.nets.store import ModelError
    from engine.players.names import parse
    from engine.players.player import make
    from engine.rules.geometry import geometry
    from engine.threads import use
    from engine.tournament.play import MatchSpec, play, points

    use(threads)
    try:
        choose(backend)
        where = geometry(board, players)
        named = [parse(text, model) for text in (first, second)]
        made = [make(each.config, where, each.weights, device) for each in named]
    except (ValueError, ModelError, InferenceError) as error:
        fail(str(error))
    begun = time.monotonic()
    spec = MatchSpec(board=board, players=players, games=games, seed=seed, format="gauntlet")
    with progress() as shown:
        played = play(spec, made, [each.key for each in named], progress=bar(shown, "games", games))
    won, count = points(played, 0)
    console.print(
        f"{first}: {won:g} of {count} points ({100 * won / count:.1f} %, {100 / players:.1f} % is equal) "
        f"in {time.monotonic() - begun:.1f} s"
    )


def main() -> None:
    """Run the engine's commands alone."""
    app()


if __name__ == "__main__":
    main()
