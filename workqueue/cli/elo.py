"""`rift elo`: ratings."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, ask, near, show_json, show_table

app = typer.Typer(help="Show ratings.")
_BAR = 40


@app.callback(invoke_without_command=True)
def elo(
    board: Annotated[str, typer.Option(help="Only this board.")] = "",
    players: Annotated[int, typer.Option(help="Only this number of players; 0 = any.")] = 0,
    plot: Annotated[bool, typer.Option("--plot", help="Draw a bar for each player.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the players of each config, best first."""
    tables = ask("elo")
    if board:
        near("board", board, {name.rpartition("_")[0] for name in tables})
    wanted = {
        name: rows
        for name, rows in tables.items()
        if (not board or name.rpartition("_")[0] == board) and (not players or name.endswith(f"_{players}p"))
    }
    if as_json:
        show_json(wanted)
        return
    for name, rows in wanted.items():
        top = max((row["elo_milli"] for row in rows), default=1)
        cells = (
            (r["player"][:10] + r["player"][64:] if len(r["player"]) > 64 else r["player"], r["elo_milli"] // 1000,
             r["games"], r["wins"], r["draws"], r["losses"], "█" * (_BAR * r["elo_milli"] // top) if plot else "")
            for r in rows
        )  # fmt: skip
        show_table(name, ("player", "elo", "games", "won", "drawn", "lost", ""), cells)
