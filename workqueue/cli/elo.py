"""`rift elo`: ratings, as the cluster shows them or fitted over its match log with intervals."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from workqueue.cli.context import REFUSED, USAGE, AsJson, ask, fail, near, print_table, show_json, show_table
from workqueue.cli.engine import part

if TYPE_CHECKING:
    from collections.abc import Mapping

app = typer.Typer(help="Show ratings.")
_BAR = 40
_PAGE = 10_000
_TABLE_MAX = 12  # players of a crosstable: those with the most games


@app.callback(invoke_without_command=True)
def elo(
    board: Annotated[str, typer.Option(help="Only this board.")] = "",
    players: Annotated[int, typer.Option(help="Only this number of players; 0 = any.")] = 0,
    fit: Annotated[bool, typer.Option("--fit", help="Fit all games jointly, with 95 % intervals and tests.")] = False,
    ties: Annotated[str, typer.Option(help="With --fit: half (a win each) or davidson (a parameter).")] = "half",
    log: Annotated[Path | None, typer.Option(help="With --fit: matches as JSON in a file, not the cluster's.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="With --fit: exit code 1 when a test finds something.")
    ] = False,
    crosstable: Annotated[
        bool, typer.Option("--crosstable", help="Show who scored what against whom in the match log.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the players of each config, best first."""
    if check and not fit:
        fail("--check goes with --fit", USAGE)
    if log and not (fit or crosstable):
        fail("--log goes with --fit or --crosstable: the shown ratings are the cluster's own", USAGE)
    if crosstable:
        if fit or as_json:
            fail("--crosstable stands alone; leave --fit and --json out", USAGE)
        _crosstables(board, players, log, plot)
        return
    if fit:
        wrong = _fitted(board, players, ties, log, plot, as_json=as_json)
        raise typer.Exit(REFUSED if check and wrong else 0)
    tables = ask("elo")
    chosen = _configs(tables, board, players)
    wanted = {name: rows for name, rows in tables.items() if name in chosen}
    if plot:
        _draw(wanted, plot)
    if as_json:
        show_json(wanted)
        return
    for name, rows in wanted.items():
        top = max((row["elo_milli"] for row in rows), default=1)
        cells = (
            (brief(r["player"]), r["elo_milli"] // 1000, r["games"], r["wins"], r["draws"], r["losses"],
             "█" * (_BAR * r["elo_milli"] // top))
            for r in rows
        )  # fmt: skip
        show_table(name, ("player", "elo", "games", "won", "drawn", "lost", ""), cells)


def brief(player: str) -> str:
    """Return a player's key with a model's digest cut short."""
    return player[:10] + player[64:] if len(player) > 64 else player


def _configs(tables: Mapping[str, Any], board: str, players: int) -> set[str]:
    """Return the configs asked for; a board that nobody played ends the command."""
    if board:
        near("board", board, {name.rpartition("_")[0] for name in tables})
    return {
        name
        for name in tables
        if (not board or name.rpartition("_")[0] == board) and (not players or name.endswith(f"_{players}p"))
    }


def _matches(log: Path | None) -> list[dict[str, Any]]:
    if log is None:
        found: list[dict[str, Any]] = []
        while page := ask("matches", limit=_PAGE, offset=len(found)):
            found += page
        return found
    try:
        tree = msgspec.json.decode(log.read_bytes())
    except (OSError, msgspec.DecodeError) as error:
        fail(f"{log} holds no matches: {error}", USAGE)
    games = tree.get("games", tree) if isinstance(tree, dict) else tree
    if not isinstance(games, list) or not all(isinstance(game, dict) for game in games):
        fail(f"{log} holds no list of matches", USAGE)
    return games


def _fitted(board: str, players: int, ties: str, log: Path | None, plot: Path | None, *, as_json: bool) -> int:
    """Show fitted ratings; returns how many warnings there are."""
    if ties not in {"half", "davidson"}:
        fail(f"--ties {ties}: choose half or davidson", USAGE)
    rating = part("rating.report")
    matches = _matches(log)
    if not matches:
        fail("there are no matches yet: ratings are fitted over the match log", USAGE)
    configs = _configs({str(match.get("config", "")): None for match in matches}, board, players)
    try:
        found = rating.reports([m for m in matches if m.get("config", "") in configs], ties=ties)
    except ValueError as error:  # what the engine raises for games that cannot be rated
        fail(str(error), USAGE)
    if plot:
        part("rating.plot").draw_standings({name: each.standings for name, each in found.items()}, plot)
    warnings = sum(len(each.warnings) for each in found.values())
    if as_json:
        show_json(found)
        return warnings
    for name, each in found.items():
        cells = (
            (brief(row.player), round(row.elo_milli / 1000),
             f"{row.low_milli / 1000:.0f} … {row.high_milli / 1000:.0f}", row.games,
             "pinned" if row.player in each.pinned else "second anchor" if row == each.second_anchor else "")
            for row in each.standings
        )  # fmt: skip
        show_table(f"{name}: {each.model}, {each.games} games", ("player", "elo", "95 %", "games", ""), cells)
        for warning in each.warnings:
            typer.echo(f"  ! {warning}")
    if plot:
        typer.echo(f"{plot}")
    return warnings


def _crosstables(board: str, players: int, log: Path | None, plot: Path | None) -> None:
    """Show a crosstable of the players with the most games of each config; the picture is of the last."""
    module = part("tournament.crosstable")
    matches = [match for match in _matches(log) if not match.get("revoked")]
    chosen = _configs({str(match.get("config", "")): None for match in matches}, board, players)
    if not chosen:
        fail("there are no matches yet", USAGE)
    if plot and len(chosen) > 1:
        fail(f"a picture shows one config: name --board and --players of {', '.join(sorted(chosen))}", USAGE)
    for name in sorted(chosen):
        games = [match for match in matches if match.get("config") == name]
        often = Counter(seat for match in games for seat in set(match["seats"])).most_common(_TABLE_MAX)
        place = {player: k for k, (player, _) in enumerate(often)}
        played = [
            _Seated(tuple(place[seat] for seat in match["seats"]), tuple(match["ranks"]))
            for match in games
            if place.keys() >= set(match["seats"])
        ]
        table = module.crosstable([brief(player) for player, _ in often], played)
        typer.echo(f"{name}: {len(played)} of {len(games)} games; the row's score against the column")
        print_table(module.text_table(table))
        if plot:
            module.draw_crosstable(table, plot, f"{name}: % of the row against the column, and games")
            typer.echo(f"{plot}")


class _Seated(NamedTuple):
    """A game as the crosstable sees it."""

    seats: tuple[int, ...]
    ranks: tuple[int, ...]


def _draw(tables: Mapping[str, Any], plot: Path) -> None:
    """Draw ratings that have no intervals."""
    standing = part("rating.fit").Standing
    rows = {
        name: [standing(r["player"], r["elo_milli"], r["elo_milli"], r["elo_milli"], r["games"]) for r in table]
        for name, table in tables.items()
    }
    part("rating.plot").draw_standings(rows, plot)
