"""`rift up`: the whole system on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workqueue.cli.context import USAGE, fail

app = typer.Typer(help="Run voters, workers and the loop on this machine, and watch them.")


@app.callback(invoke_without_command=True)
def up(
    voters: Annotated[int, typer.Option(min=1, max=9, help="Voter processes.")] = 5,
    workers: Annotated[int, typer.Option(min=0, max=64, help="Worker processes.")] = 2,
    board: Annotated[str, typer.Option(help="square8, square19, hex8 or hexagonal.")] = "square8",
    players: Annotated[int, typer.Option(min=2, max=4, help="Players of a game.")] = 2,
    data: Annotated[Path, typer.Option(help="Folder of everything that is kept.")] = Path("data"),
    base_port: Annotated[int, typer.Option(help="First port; a voter takes three, ten apart.")] = 8770,
    settings: Annotated[list[str] | None, typer.Option(help="key=value of loop.yaml, on first use.")] = None,
    stop_after_champion: Annotated[int, typer.Option(help="End after so many promotions; 0 = never.")] = 0,
    headless: Annotated[bool, typer.Option("--headless", help="A line every few seconds instead of a screen.")] = False,
) -> None:
    """Start what is in the data folder, or make it on first use; Ctrl-C drains and stops, and nothing is lost."""
    from config.errors import AppError
    from config.load import convert
    from config.loop import LoopSettings
    from workqueue.local import Plan, main

    try:
        tree = merged(SMALL, tree_of(settings or []))
        tree.setdefault("configs", [f"{board}_{players}p"])
        loop = convert(LoopSettings, tree, "--settings")
    except AppError as error:
        fail(str(error), USAGE)
    raise typer.Exit(main(Plan(data, voters, workers, base_port, loop, headless, stop_after_champion)))


# What suits one machine without an accelerator: a small net and short jobs, a first champion within minutes.
SMALL: dict[str, Any] = {
    "selfplay": {
        "games_per_job": 60,
        "simulations_full": 24,
        "simulations_fast": 6,
        "bootstrap_games": 600,
    },
    "train": {"size": "32x4", "steps": 400, "learning_rate_micro": 2000, "games_new_min": 300, "window_games_min": 600},
    "gate": {"floor_games": 60, "games_max": 200, "simulations": 16},
    "ladder_games": 24,
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one tree over another."""
    both = dict(base)
    for key, value in over.items():
        below = both.get(key)
        both[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return both


def tree_of(pairs: list[str]) -> dict[str, Any]:
    """Return `a.b=value` pairs as a tree; values are YAML."""
    import yaml

    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            fail(f"--settings {pair!r}: write key=value", USAGE)
        *parts, last = key.split(".")
        at = tree
        for part in parts:
            at = at.setdefault(part, {})
        at[last] = yaml.safe_load(text)
    return tree
