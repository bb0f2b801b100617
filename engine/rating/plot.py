"""Ratings as a picture: a point for each player and a bar for its 95 % interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

from engine.rating.fit import Standing

ROWS_MAX = 40


def short(player: str) -> str:
    """Return a player's name as people tell it apart: a model by its first digits."""
    model, _, rest = player.partition(":")
    return rest.removesuffix(":-") if model == "none" else f"{model[:10]}:{rest}"


def draw_standings(tables: Mapping[str, Sequence[Standing]], path: Path) -> Path:
    """Draw the ratings of each config, best at the top; returns the path."""
    shown = {name: rows[:ROWS_MAX] for name, rows in tables.items() if rows}
    heights = [len(rows) + 1.5 for rows in shown.values()] or [2.0]
    figure = Figure(figsize=(8, max(2.5, 0.32 * sum(heights) + 0.6)), layout="constrained")
    panels = figure.subplots(max(1, len(shown)), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (name, rows) in zip(panels[:, 0], shown.items(), strict=False):
        places = range(len(rows), 0, -1)
        elo = [row.elo_milli / 1000 for row in rows]
        below = [(row.elo_milli - row.low_milli) / 1000 for row in rows]
        above = [(row.high_milli - row.elo_milli) / 1000 for row in rows]
        axes.errorbar(elo, places, xerr=[below, above], fmt="o", color="#2f6db3", ecolor="#9bb8da", capsize=3)
        axes.set_yticks(list(places), [f"{short(row.player)}  ({row.games})" for row in rows])
        axes.set_ylim(0.3, len(rows) + 0.7)
        axes.set_title(f"{name}: Elo with 95 % interval (games)", loc="left", fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    figure.savefig(path, dpi=110)
    return path
