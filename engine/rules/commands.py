"""Commands of the rules: verify, show, perft and warm."""

from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from engine.rules.batch import GameBatch
from engine.rules.compiled import cache_folder
from engine.rules.errors import BadRecord, RulesError
from engine.rules.game import Game, Rules
from engine.rules.geometry import BOARDS, geometry
from engine.rules.perft import perft
from engine.rules.records import GameRecord, read_record
from engine.rules.svg import game_svg, position_svg
from engine.rules.text import position_text
from engine.rules.verify import check_game, read_games, start_of

app = typer.Typer(no_args_is_help=True, help="The rules of RingRift: check games, look at them, count positions.")
console = Console()
errors = Console(stderr=True)

Files = Annotated[list[Path], typer.Argument(help="Game files, or recorded games as .jsonl or .jsonl.gz")]


def _fail(message: str) -> typer.Exit:
    errors.print(f"[red]error:[/red] {message}", highlight=False, soft_wrap=True)
    return typer.Exit(1)


def _is_recording(path: Path) -> bool:
    return path.name.endswith((".jsonl", ".jsonl.gz"))


def _verify_file(path: Path, progress: Progress) -> tuple[int, int, str]:
    """Check a file; return games, plies and the first difference."""
    if not _is_recording(path):
        return 1, len(_read(path).codes), ""
    games = list(read_games(path))
    bar = progress.add_task(path.name, total=len(games))
    plies = 0
    for game in games:
        difference = check_game(game)
        if difference is not None:
            return len(games), plies, str(difference)
        plies += len(game.get("plies", game.get("steps", ())))
        progress.advance(bar)
    return len(games), plies, ""


def _read(path: Path) -> GameRecord:
    try:
        return read_record(path.read_bytes())
    except OSError as error:
        raise BadRecord(f"cannot read {path}: {error.strerror}") from error


@app.command()
def verify(files: Files) -> None:
    """Replay games and compare every legal list, position, end and reason; stop at the first difference."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    games = plies = 0
    with Progress(*columns, console=errors) as progress:
        whole = progress.add_task("files", total=len(files))
        for path in files:
            try:
                found, played, difference = _verify_file(path, progress)
            except BadRecord as error:
                progress.stop()
                raise _fail(f"{path.name}: {error}") from error
            if difference:
                progress.stop()
                raise _fail(f"{path.name}: {difference}")
            games += found
            plies += played
            progress.advance(whole)
    console.print(f"{games} games with {plies} plies agree with the rules")


def _load(path: Path, number: int) -> GameRecord:
    """Read a game file, or one game of a recording."""
    if not _is_recording(path):
        return _read(path)
    for k, found in enumerate(read_games(path)):
        if k == number:
            start = start_of(found)
            game = start.clone()
            codes = []
            for ply in found["plies"]:
                codes += _codes(game, ply["c"])
            return GameRecord.of(start, codes)
    raise BadRecord(f"{path} has no game number {number}")


def _codes(game: Game, move: str) -> list[int]:
    """Play a move of a recording; a recovery slide may be two codes here."""
    before = game.clone()
    game.apply(move)
    if game.plies - before.plies == 1:
        return [next(int(c) for c in before.legal_codes() if _leads_to(before, int(c), game))]
    bare, _, payer = move.partition("@")
    code = before.code(bare)
    before.apply(code)
    return [code, before.code(f"X{payer}")]


def _leads_to(before: Game, code: int, after: Game) -> bool:
    trial = before.clone()
    trial.apply(code)
    return trial.hash == after.hash


@app.command()
def show(
    game: Annotated[Path, typer.Argument(help="A game file, or recorded games")],
    svg: Annotated[Path | None, typer.Option(help="Write an animated picture of the game here")] = None,
    play: Annotated[bool, typer.Option("--play", help="Play the game in the terminal")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print the moves in notation")] = False,
    ply: Annotated[int | None, typer.Option(help="Show the position before this ply alone")] = None,
    number: Annotated[int, typer.Option(help="Which game of a recording, from 0")] = 0,
    frame_ms: Annotated[int, typer.Option(min=20, max=60_000, help="Time of each position")] = 600,
) -> None:
    """Look at a game: its last position, its moves, or an animation."""
    try:
        record = _load(game, number)
        if ply is not None and not 0 <= ply <= len(record.codes):
            raise BadRecord(f"the game has plies 0 to {len(record.codes)}, not {ply}")
        if svg is not None:
            svg.write_text(_picture(record, ply, frame_ms), encoding="utf-8")
            console.print(f"wrote {svg} ({svg.stat().st_size:,} bytes)")
        if text:
            console.print(record.to_text(), markup=False, highlight=False, soft_wrap=True)
        if play:
            _play(record, frame_ms)
        elif svg is None and not text:
            console.print(position_text(list(record.positions())[-1 if ply is None else ply]))
    except RulesError as error:
        raise _fail(str(error)) from error
    except OSError as error:
        raise _fail(f"cannot write {error.filename}: {error.strerror}") from error


def _picture(record: GameRecord, ply: int | None, frame_ms: int) -> str:
    if ply is None:
        return game_svg(record, frame_ms)
    games = list(record.positions())
    last = games[ply - 1].move(record.codes[ply - 1]) if ply else None
    return position_svg(games[ply], last)


def _play(record: GameRecord, frame_ms: int) -> None:
    """Show one position after the other; the console's own refresh sets the pace."""
    pause = Event()
    with Live(console=console, auto_refresh=False) as live:
        for game in record.positions():
            live.update(position_text(game), refresh=True)
            pause.wait(frame_ms / 1000)


@app.command("perft")
def count(
    depth: Annotated[int, typer.Argument(min=1, max=12, help="Plies to look ahead")],
    board: Annotated[str, typer.Option(help=f"One of {', '.join(BOARDS)}")] = "square8",
    players: Annotated[int, typer.Option(min=2, max=4)] = 2,
    variant: Annotated[str, typer.Option(help="hex8 only: spec or asis")] = "spec",
    swap: Annotated[bool, typer.Option("--swap", help="With the pie rule (2 players)")] = False,
) -> None:
    """Count the sequences of legal codes of each length up to DEPTH from the empty board."""
    try:
        game = Game.new(board, players, Rules(swap=swap, variant=variant))
        for k in range(1, depth + 1):
            console.print(f"{k:3d} {perft(game, k):,}", highlight=False)
    except RulesError as error:
        raise _fail(str(error)) from error


@app.command()
def warm() -> None:
    """Compile the rules now, so that no job has to wait for it."""
    with console.status("compiling the rules (half a minute the first time)"):
        batch = GameBatch(geometry("square8", 2), 4)
        batch.random_playouts(seed=1)
        batch.reset()
        codes, _ = batch.legal()
        batch.apply(codes[:, 0].copy())
        game = Game.new("square8", 2)
        while not game.is_over:
            game.apply(int(game.legal_codes()[-1]))
            game.state()
        _ = (game.hash, game.outcome, perft(Game.new("square8", 2), 2))
    console.print(f"compiled rules are in {cache_folder()}")
