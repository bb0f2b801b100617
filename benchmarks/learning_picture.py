"""The curves of a learning run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LABELS = {"policy": "policy", "value": "value", "heldout": "all heads, held-out games"}
COLOURS = {"random": "tab:green", "heuristic": "tab:blue", "its predecessor": "tab:orange"}


def draw(found: dict[str, Any], path: Path) -> Path:
    """Draw win shares with their intervals, Elo and losses by generation; returns the path."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    shares, elo, losses = figure.subplots(1, 3)
    plan, generations = found["plan"], found["generations"]
    figure.suptitle(
        f"{plan['board']}, {plan['players']} players, {plan['size']}: {found['minutes']:.0f} minutes, "
        f"{plan['threads']} processes"
    )
    _shares(shares, found)
    numbers = range(len(generations))
    elo.plot(numbers, [each["elo"] for each in generations], "o-", color="tab:purple", label="net")
    elo.axhline(found["elo"]["heuristic"], color=COLOURS["heuristic"], linestyle="--", label="heuristic")
    elo.axhline(0, color=COLOURS["random"], linestyle="--", label="random")
    elo.set_title("Elo (random = 0)")
    for name in ("policy", "value", "heldout"):
        losses.plot(numbers, [each["losses"][name] for each in generations], "o-", label=LABELS[name])
    losses.set_title("losses after training (targets change with the generation)", fontsize=10)
    for axes in (shares, elo, losses):
        axes.set_xlabel("generation (0: games of the heuristic)")
        axes.set_xticks(list(numbers))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _shares(axes: Axes, found: dict[str, Any]) -> None:
    plan, generations = found["plan"], found["generations"]
    for k, (name, colour) in enumerate(COLOURS.items()):
        rows = [(n, each["scores"][k]) for n, each in enumerate(generations) if k < len(each["scores"])]
        at, scores = [n for n, _ in rows], [score for _, score in rows]
        axes.plot(at, [100 * s["share"] for s in scores], "o-", color=colour, label=f"against {name}")
        low, high = [100 * s["low"] for s in scores], [100 * s["high"] for s in scores]
        axes.fill_between(at, low, high, color=colour, alpha=0.15)
    for score in found["final"]:
        span = [[100 * (score["share"] - score["low"])], [100 * (score["high"] - score["share"])]]
        axes.errorbar(
            [len(generations) - 0.8], [100 * score["share"]], yerr=span, fmt="D", capsize=4,
            color=COLOURS[score["opponent"]], label=f"final, {score['games']} games: {100 * score['share']:.1f} %",
        )  # fmt: skip
    axes.axhline(100 / plan["players"], color="grey", linestyle=":", linewidth=1)
    axes.set_ylim(0, 101)
    axes.set_title("win share in % with 95 % interval")
