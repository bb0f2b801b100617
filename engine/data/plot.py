"""Statistics of shards as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engine.data.stats import GameFacts, Stats

BLUE, GREY = "#2f6db3", "#8a877f"


def draw_stats(
    stats: Stats, games: Sequence[GameFacts], calibration: Sequence[tuple[float, float, int]], path: Path
) -> Path:
    """Draw lengths, wins by seat, entropies, calibration, ends and nodes; returns the path."""
    figure = Figure(figsize=(12, 6.5), layout="constrained")
    (lengths, wins, entropy), (chances, ends, nodes) = figure.subplots(2, 3)
    figure.suptitle(f"{stats.config}: {stats.games} games, {stats.positions} positions, {stats.shards} shards")
    bins = max(8, min(40, len(games) // 10))
    lengths.hist([game.plies for game in games], bins=bins, color=BLUE)
    lengths.axvline(stats.plies_median, color=GREY, linestyle="--", linewidth=1)
    lengths.set(title="plies of a game (dashed: median)", xlabel="plies", ylabel="games")
    shares = [each / max(1, stats.games) for each in stats.wins]
    errors = [1.96 * math.sqrt(each * (1 - each) / max(1, stats.games)) for each in shares]
    wins.bar(range(1, len(shares) + 1), shares, yerr=errors, color=BLUE, capsize=4)
    wins.axhline(1 / len(shares), color=GREY, linestyle="--", linewidth=1)
    wins.set(title="first places by seat, 95 %", xlabel="seat", xticks=range(1, len(shares) + 1))
    entropy.hist([game.entropy for game in games if game.targets], bins=bins, color=BLUE)
    entropy.set(title="policy entropy of a game", xlabel="nats, mean of its targets", ylabel="games")
    _calibration(chances, calibration)
    _bars(ends, "how games end", stats.reasons)
    _nodes(nodes, games)
    for axes in (lengths, wins, entropy, chances):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path


def _calibration(axes: Axes, rows: Sequence[tuple[float, float, int]]) -> None:
    axes.set(title="searched chance and result", xlabel="searched", ylabel="won", xlim=(0, 1), ylim=(0, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
    if rows:
        x, y, count = (np.array(each) for each in zip(*rows, strict=True))
        axes.errorbar(x, y, yerr=1.96 * np.sqrt(y * (1 - y) / np.maximum(1, count)), fmt="o-", color=BLUE, capsize=3)
    else:
        axes.text(0.5, 0.5, "nothing was searched", ha="center", va="center", color=GREY)


def _bars(axes: Axes, title: str, counts: dict[str, int]) -> None:
    names = sorted(counts, key=lambda name: counts[name])
    axes.barh([name.replace("_", " ") for name in names], [counts[name] for name in names], color=BLUE)
    axes.set(title=title, xlabel="games")


def _nodes(axes: Axes, games: Sequence[GameFacts]) -> None:
    """Draw the mean length of each node's games with its 95 % interval."""
    names = sorted({game.node for game in games})[:20]
    for place, name in enumerate(names):
        own = np.array([game.plies for game in games if game.node == name])
        error = 1.96 * own.std() / math.sqrt(len(own))
        axes.errorbar([own.mean()], [place], xerr=[error], fmt="o", color=BLUE, capsize=3)
    axes.set_yticks(range(len(names)), [name or "?" for name in names], fontsize=8)
    axes.set(title="plies by node, 95 %", xlabel="plies")
    axes.grid(axis="x", alpha=0.3)
