"""`rift engine play`, `analyze` and `levels`: games at one table, and what a search thinks of a position."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.table import Table as Grid

if TYPE_CHECKING:
    from engine.rules.game import Game

app = typer.Typer()
console = Console()
errors = Console(stderr=True)
Board = Annotated[str, typer.Option(help="square8, square19, hex8 or hexagonal.")]
Seats = Annotated[int, typer.Option("--players", min=2, max=4, help="Players of a game.")]
Model = Annotated[Path | None, typer.Option(help="A model.safetensors, for levels that play with a net.")]
Device = Annotated[str, typer.Option(help="cpu or cuda:0.")]
Threads = Annotated[int, typer.Option(min=1, help="Threads of the net.")]
Backend = Annotated[
    str, typer.Option(help="What computes nets: auto, torch, onnxruntime or openvino, with :f32 or :bf16 after it.")
]
PERSON = "person"


def fail(sentence: str) -> NoReturn:
    """End the command with one sentence and exit code 2."""
    errors.print(f"[red]error:[/red] {sentence}", highlight=False, soft_wrap=True)
    raise typer.Exit(2)


@app.command()
def play(
    seats: Annotated[
        list[str] | None, typer.Argument(help="Who sits where: person, level:N, heuristic, a model.safetensors, …")
    ] = None,
    level: Annotated[int, typer.Option(min=1, max=10, help="Who plays where nobody is named.")] = 3,
    board: Board = "square8",
    players: Seats = 2,
    model: Model = None,
    seed: Annotated[int, typer.Option(help="Equal seeds and moves give equal games.")] = 0,
    save: Annotated[Path | None, typer.Option(help="Write the game here; `rift engine show` shows it.")] = None,
    backend: Backend = "auto",
    threads: Threads = 1,
) -> None:
    """Play in the terminal: yourself against a level, or players of the engine against each other."""
    from engine.nets.inference import InferenceError
    from engine.nets.inference import use as choose
    from engine.nets.store import ModelError
    from engine.players.names import parse
    from engine.players.player import make
    from engine.players.table import Left, Table, play_out
    from engine.rules.errors import RulesError
    from engine.rules.game import Game
    from engine.rules.text import position_text
    from engine.threads import use

    use(threads)
    named = seats or [PERSON]
    if len(named) > players:
        fail(f"{len(named)} are named for {players} seats")
    named += [f"level:{level}"] * (players - len(named))
    try:
        choose(backend)
        start = Game.new(board, players)
        parsed = [None if name == PERSON else parse(name, model) for name in named]
        made = {
            seat: None if one is None else make(one.config, start.geometry, one.weights)
            for seat, one in enumerate(parsed, 1)
        }
    except (ValueError, RulesError, ModelError, InferenceError) as error:
        fail(str(error))
    table = Table(start, made, seed)
    console.print("  ".join(f"player {seat}: {name}" for seat, name in enumerate(named, 1)), highlight=False)
    try:
        play_out(table, typer.prompt, lambda text: console.print(text, highlight=False), lambda game: console.print(
            position_text(game), highlight=False))  # fmt: skip
    except (Left, typer.Abort):
        console.print("left")
    if save and table.codes:
        keys = tuple(PERSON if one is None else one.key for one in parsed)
        save.write_bytes(table.record(keys).to_bytes())
        console.print(f"{save}: {len(table.codes)} plies", highlight=False)


@app.command()
def levels() -> None:
    """List the difficulty ladder."""
    from engine.players.ladder import LEVELS, describe
    from engine.players.player import WITH_NET

    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for column in ("level", "plays", "needs"):
        grid.add_column(column)
    for level, config in LEVELS.items():
        grid.add_row(f"D{level}", describe(level), "--model" if config.kind in WITH_NET else "")
    console.print(grid)


@app.command()
def analyze(
    position: Annotated[
        str, typer.Option(help="A game file, or codes or moves from the empty board with commas between; - for none.")
    ] = "-",
    model: Annotated[Path | None, typer.Option(help="A model.safetensors; without one random games judge.")] = None,
    ply: Annotated[int | None, typer.Option(help="Of a game file: before this ply, else its end.")] = None,
    board: Board = "square8",
    players: Seats = 2,
    simulations: Annotated[int, typer.Option(min=1, help="Positions to look at.")] = 400,
    lines: Annotated[int, typer.Option(min=1, max=30, help="Lines to show.")] = 5,
    svg: Annotated[Path | None, typer.Option(help="Write a picture with the lines as arrows here.")] = None,
    backend: Backend = "auto",
    threads: Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the best lines of a position and how likely each player is to win."""
    from engine.nets.evaluator import Evaluator, NetEvaluator
    from engine.nets.inference import InferenceError
    from engine.nets.inference import use as choose
    from engine.nets.store import ModelError, load
    from engine.players.analysis import analysis_svg
    from engine.players.analysis import analyze as search
    from engine.players.estimate import RolloutEvaluator
    from engine.rules.errors import RulesError
    from engine.rules.text import position_text
    from engine.threads import use

    use(threads)
    try:
        choose(backend)
        game = read_position(position, ply, board, players)
        where = game.geometry
        judge: Evaluator = NetEvaluator(load(model, where)[0], where) if model else RolloutEvaluator(where)
        found = search(game, judge, simulations, lines)
    except (ValueError, OSError, RulesError, ModelError, InferenceError) as error:
        fail(str(error))
    if svg:
        svg.write_text(analysis_svg(game, found))
    if as_json:
        typer.echo(msgspec.json.encode(found).decode())
        return
    console.print(position_text(game))
    chances = ", ".join(f"player {seat} {each / 10:.1f} %" for seat, each in enumerate(found.seats_milli, 1))
    console.print(f"at a glance: {chances}; searched: player {found.to_move} {found.chance_milli / 10:.1f} %")
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for column in ("wins", "visits", "policy", "line"):
        grid.add_column(column, justify="left" if column == "line" else "right", overflow="fold")
    for line in found.lines:
        grid.add_row(
            f"{line.chance_milli / 10:.1f} %", str(line.visits), f"{line.policy_milli / 10:.1f} %", " ".join(line.moves)
        )
    console.print(grid)
    if svg:
        console.print(str(svg), highlight=False)


def read_position(text: str, ply: int | None, board: str, players: int) -> Game:
    """Return the game at a position: of a game file, or after codes or moves; raises ValueError or RulesError."""
    from engine.rules.game import Game
    from engine.rules.records import read_record

    path = Path(text)
    if path.is_file():
        games = list(read_record(path.read_bytes()).positions())
        at = len(games) - 1 if ply is None else ply
        if not 0 <= at < len(games):
            raise ValueError(f"the game has plies 0 to {len(games) - 1}, not {at}")
        return games[at]
    if path.suffix:
        raise ValueError(f"there is no file {path}")
    game = Game.new(board, players)
    for number, part in enumerate(filter(None, text.strip("-").replace(" ", "").split(","))):
        if game.is_over:
            raise ValueError(f"the game was over after {number} plies")
        game.apply(int(part) if part.isdigit() else part)
    return game
