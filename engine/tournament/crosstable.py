"""The crosstable of a tournament: who scored what against whom, as text and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from engine.rating.choices import Array
from engine.tournament.pairing import Result


class Crosstable(NamedTuple):
    """Scores of the entrants, best first. A pair scores once a game: 1 for ranking before the other, ½ for a tie."""

    names: tuple[str, ...]  # [entrants]
    order: tuple[int, ...]  # [entrants] places in the list of entrants
    score: Array  # [entrants, entrants] of the row against the column
    games: Array  # [entrants, entrants]
    points: Array  # [entrants] shares of first places
    played: Array  # [entrants] games, seats of one player in the same game counted once


def crosstable(names: Sequence[str], played: Sequence[Result]) -> Crosstable:
    """Return the table of finished games; entrants are sorted by points a game."""
    n = len(names)
    score, games = np.zeros((n, n)), np.zeros((n, n))
    points, count = np.zeros(n), np.zeros(n)
    for game in played:
        first = game.ranks.count(1)
        for seat, rank in zip(game.seats, game.ranks, strict=True):
            points[seat] += 1 / first if rank == 1 else 0.0
        count[list(set(game.seats))] += 1
        for a, rank in zip(game.seats, game.ranks, strict=True):
            for b, other in zip(game.seats, game.ranks, strict=True):
                if a != b:
                    score[a, b] += 1.0 if rank < other else 0.5 if rank == other else 0.0
                    games[a, b] += 1
    order = sorted(range(n), key=lambda k: (-float(points[k]) / max(1.0, float(count[k])), names[k]))
    grid = np.ix_(order, order)
    return Crosstable(
        tuple(names[k] for k in order), tuple(order), score[grid], games[grid], points[order], count[order]
    )


def text_table(table: Crosstable, elo: Sequence[str] = ()) -> Table:
    """Return the table for the terminal; `elo` is a column in the order of the rows."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("", "player", *(["elo"] if elo else []), "points", "%"):
        shown.add_column(name, justify="left" if name == "player" else "right", overflow="fold")
    for k in range(len(table.names)):
        shown.add_column(str(k + 1), justify="right")
    for k, name in enumerate(table.names):
        cells = [
            f"{table.score[k, j]:g}/{table.games[k, j]:g}" if table.games[k, j] else "·" if j == k else ""
            for j in range(len(table.names))
        ]
        share = f"{100 * table.points[k] / max(1, table.played[k]):.1f}"
        middle = [elo[k]] if elo else []
        shown.add_row(str(k + 1), name, *middle, f"{table.points[k]:g}/{table.played[k]:g}", share, *cells)
    return shown


def draw_crosstable(table: Crosstable, path: Path, title: str = "") -> Path:
    """Draw the shares of the rows against the columns; returns the path."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    n = len(table.names)
    share = np.where(table.games > 0, table.score / np.maximum(1, table.games), np.nan)
    figure = Figure(figsize=(3.2 + 0.62 * n, 1.6 + 0.5 * n), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(share, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for a in range(n):
        for b in range(n):
            if table.games[a, b]:
                dark = abs(share[a, b] - 0.5) > 0.3
                label = f"{100 * share[a, b]:.0f} %\n{table.games[a, b]:g}"
                axes.text(b, a, label, ha="center", va="center", fontsize=7, color="white" if dark else "black")
    labels = [f"{k + 1}  {name}" for k, name in enumerate(table.names)]
    axes.set_yticks(range(n), labels, fontsize=8)
    axes.set_xticks(range(n), [str(k + 1) for k in range(n)], fontsize=8)
    axes.set_title(title or "score of the row against the column, and games", fontsize=9, loc="left")
    figure.colorbar(image, ax=axes, shrink=0.8)
    figure.savefig(path, dpi=110)
    return path
