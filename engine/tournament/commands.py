"""`rift engine tournament`: a tournament among any players, with its crosstable and ratings."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console

from engine.players.commands import Backend, Board, Device, Model, Seats, fail

if TYPE_CHECKING:
    from engine.tournament.play import PlayedGame

app = typer.Typer()
console = Console()


@app.command()
def tournament(
    entrants: Annotated[
        list[str], typer.Argument(help="random, heuristic, flat_mc:s64, alphabeta:d2, level:3, a model.safetensors, …")
    ],
    pairing: Annotated[str, typer.Option(help="round_robin, gauntlet, swiss or information.")] = "round_robin",
    board: Board = "square8",
    players: Seats = 2,
    games: Annotated[int, typer.Option(min=2, help="Games at least; always whole sets and rounds.")] = 100,
    opening_plies: Annotated[int, typer.Option(min=0, help="Random plies at the start, at most.")] = 6,
    model: Model = None,
    device: Device = "cpu",
    backend: Backend = "auto",
    seed: Annotated[int, typer.Option(help="Equal seeds give equal games.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the nets.")] = 1,
    plot: Annotated[Path | None, typer.Option(help="Write the crosstable as a picture (PNG) here.")] = None,
    log: Annotated[Path | None, typer.Option(help="Write the matches here, for `rift elo --fit --log`.")] = None,
    records: Annotated[Path | None, typer.Option(help="Write the game files into this folder.")] = None,
) -> None:
    """Play a tournament: equal openings, every seating; show the crosstable and fitted ratings."""
    from engine.nets.inference import InferenceError
    from engine.nets.inference import use as choose
    from engine.nets.store import ModelError
    from engine.players.names import parse
    from engine.players.player import make
    from engine.progress import bar, progress
    from engine.rules.geometry import geometry
    from engine.threads import use
    from engine.tournament.crosstable import crosstable, draw_crosstable, text_table
    from engine.tournament.pairing import FORMATS
    from engine.tournament.play import MatchSpec, play

    use(threads)
    if pairing not in FORMATS:
        fail(f"--pairing {pairing}: choose one of {', '.join(FORMATS)}")
    try:
        choose(backend)
        where = geometry(board, players)
        named = [parse(text, model) for text in entrants]
        made = [make(each.config, where, each.weights, device) for each in named]
    except (ValueError, ModelError, InferenceError) as error:
        fail(str(error))
    if len({each.key for each in named}) < max(2, len(named)):
        fail("name two players or more, each once")
    spec = MatchSpec(board=board, players=players, games=games, seed=seed, format=pairing, opening_plies=opening_plies)
    begun = time.monotonic()
    with progress() as shown:
        played = play(spec, made, [each.key for each in named], progress=bar(shown, "games", games))
    table = crosstable([each.text for each in named], played)
    config = f"{board}_{players}p"
    matches = [match_of(game, [each.key for each in named], config) for game in played]
    console.print(text_table(table, ratings(matches, [named[k].key for k in table.order])))
    console.print(f"{len(played)} games in {time.monotonic() - begun:.1f} s; elo with half of its 95 % interval")
    if plot:
        draw_crosstable(table, plot, f"{config}, {pairing}, {len(played)} games: % of the row against the column")
    if log:
        log.write_bytes(msgspec.json.format(msgspec.json.encode({"games": matches}), indent=1))
    if records:
        records.mkdir(parents=True, exist_ok=True)
        for game in played:
            (records / f"{game.id}.rifg").write_bytes(game.record)


def match_of(game: PlayedGame, keys: list[str], config: str) -> dict[str, object]:
    """Return a game as an entry of a match log."""
    return {
        "id": game.id, "config": config, "seats": [keys[seat] for seat in game.seats], "ranks": list(game.ranks),
        "plies": game.plies, "reason": game.reason, "opening": game.opening,
    }  # fmt: skip


def ratings(matches: list[dict[str, object]], keys: list[str]) -> list[str]:
    """Return the fitted rating of each player with half of its interval."""
    from engine.rating.fit import fit
    from engine.rating.games import rated

    fitted = fit(rated(matches))
    rows = {row.player: row for row in fitted.standings()}
    return [
        f"{rows[key].elo_milli / 1000:.0f} ± {(rows[key].high_milli - rows[key].low_milli) / 2000:.0f}"
        if key in rows else "-"
        for key in keys
    ]  # fmt: skip
