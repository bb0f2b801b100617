"""`rift engine data`: what shards hold, whether they are fit to learn from, and other formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from engine.players.commands import fail

if TYPE_CHECKING:
    from engine.data.shards import Shard

app = typer.Typer(help="Statistics, checks, export and import of shards.", no_args_is_help=True)
console = Console()
Shards = Annotated[list[Path], typer.Argument(help="Shards, or folders of them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Nodes = Annotated[
    Path | None, typer.Option(help="JSON map from a shard's SHA-256 to the node that made it, where shards do not say.")
]


def _nodes(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except (OSError, msgspec.MsgspecError) as error:
        fail(f"{path} is no map from shards to nodes: {error}")


def _load(paths: list[Path]) -> tuple[dict[str, Shard], list[tuple[str, str]]]:
    """Return the shards that can be read, by name, and the others with the reason."""
    from engine.data.shards import ShardError, load_shard
    from engine.data.stats import shard_files

    found: dict[str, Shard] = {}
    broken: list[tuple[str, str]] = []
    try:
        files = shard_files(paths)
    except ValueError as error:
        fail(str(error))
    for path in files:
        try:
            found[path.stem] = load_shard(path)
        except (ShardError, OSError) as error:
            broken.append((path.stem, str(error)))
    return found, broken


@app.command()
def stats(
    shards: Shards,
    nodes: Nodes = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show lengths, outcomes, policies, ends, players and nodes."""
    from engine.data.shards import ShardError
    from engine.data.stats import calibration, stats_of

    found, broken = _load(shards)
    try:
        shown, games = stats_of(found, _nodes(nodes))
        rows = calibration(found.values()) if plot else []
    except (ValueError, ShardError) as error:
        fail(f"{error}" + (f" ({broken[0][0]}: {broken[0][1]})" if broken else ""))
    if plot:
        from engine.data.plot import draw_stats

        draw_stats(shown, games, rows, plot)
    if as_json:
        typer.echo(msgspec.json.encode(shown).decode())
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in msgspec.structs.asdict(shown).items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        table.add_row(name.replace("_", " "), f"{text:.4g}" if isinstance(text, float) else str(text))
    console.print(table)
    for name, reason in broken:
        console.print(f"left out: {name[:12]}: {reason}", highlight=False)
    if plot:
        console.print(str(plot), highlight=False)


@app.command("plot")
def plot_stats(
    shards: Shards,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("data.png"),
    nodes: Nodes = None,
) -> None:
    """Draw what `stats` counts."""
    stats(shards, nodes, out, as_json=False)


@app.command()
def quality(shards: Shards, nodes: Nodes = None, as_json: AsJson = False) -> None:
    """Check lengths, outcomes, policies, duplicates, drift between nodes; exit code 1 where quarantine is advised."""
    from engine.data.quality import QUARANTINE
    from engine.data.quality import quality as check
    from engine.data.shards import ShardError
    from engine.data.stats import facts

    found, broken = _load(shards)
    names = _nodes(nodes)
    games = []
    for name, shard in found.items():
        try:
            games += facts(name, shard, names.get(name, ""))
        except ShardError as error:
            broken.append((name, str(error)))
    if len({(shard.meta.board, shard.meta.players) for shard in found.values()}) > 1:
        fail("check shards of one config at a time")
    result = check(games, broken=broken)
    if as_json:
        typer.echo(msgspec.json.encode(result).decode())
    else:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for column in ("verdict", "what", "check", "found"):
            table.add_column(column, overflow="fold")
        for each in result.findings:
            table.add_row(each.verdict, each.subject, each.check, each.text)
        console.print(table)
        console.print(f"{result.games} games: {result.verdict}", highlight=False)
        for subject in result.quarantined:
            console.print(f"keep out of training: {subject}", highlight=False)
    raise typer.Exit(1 if result.verdict == QUARANTINE else 0)


@app.command()
def verify(shards: Shards) -> None:
    """Replay every game by the rules; exit code 1 when something is wrong."""
    from engine.data.check import verify as check
    from engine.data.stats import shard_files
    from engine.progress import progress

    try:
        files = shard_files(shards)
    except ValueError as error:
        fail(str(error))
    wrong: list[str] = []
    games = positions = 0
    with progress() as shown:
        for path in shown.track(files, description="shards"):
            found = check(path)
            games, positions = games + found.games, positions + found.positions
            if found.detail:
                wrong.append(f"{path.name}: {found.detail}")
    for line in wrong:
        console.print(line, highlight=False, soft_wrap=True)
    console.print(f"{games} games with {positions} positions are right, {len(wrong)} of {len(files)} shards are not")
    raise typer.Exit(1 if wrong else 0)


@app.command()
def export(
    shards: Shards,
    out: Annotated[Path, typer.Option(help="File to write; .parquet for Parquet, else NPZ.")] = Path("positions.npz"),
) -> None:
    """Write all positions with their targets as flat arrays for other tools."""
    from engine.data.flat import export as write
    from engine.data.shards import ShardError, load_shard
    from engine.data.stats import shard_files
    from engine.progress import progress

    try:
        files = shard_files(shards)
        meta = load_shard(files[0]).meta
        with progress() as shown:
            done = write(
                shown.track(files, description="shards"), out, meta.board, meta.players,
                "parquet" if out.suffix == ".parquet" else "npz",
            )  # fmt: skip
    except (ValueError, ShardError, OSError) as error:
        fail(str(error))
    console.print(f"{out}: {done} positions, {out.stat().st_size / 1e6:.1f} MB", highlight=False)


@app.command("import")
def bring(
    files: Annotated[list[Path], typer.Argument(help="Game files (.rifg), files of many, or foreign NPZ files.")],
    out: Annotated[Path, typer.Option(help="Folder to write into.")] = Path("imported"),
    foreign: Annotated[bool, typer.Option("--foreign", help="Also take what another encoder made.")] = False,
) -> None:
    """Make shards of game files; take from foreign NPZ files what is clear without running their code."""
    from engine.data.bring import bring_npz, read_games, shard_of_games
    from engine.rules.errors import RulesError

    out.mkdir(parents=True, exist_ok=True)
    try:
        for path in [path for path in files if path.suffix == ".npz"]:
            found = bring_npz(path, out / f"{path.stem}-plain.npz", foreign=foreign)
            console.print(f"{found.path}: {found.rows} rows of {', '.join(found.taken)}", highlight=False)
            for name, reason in found.left_out.items():
                console.print(f"  left out {name}: {reason}", highlight=False)
        games = read_games([path for path in files if path.suffix != ".npz"])
        if games:
            path, _ = shard_of_games(games).save(out)
            console.print(f"{path}: {len(games)} games", highlight=False)
    except (ValueError, RulesError, OSError) as error:
        fail(str(error))
