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
    """Draw Elo and win shares with their intervals, and losses, by generation; returns the path."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    elo, shares, losses = figure.subplots(1, 3)
    plan, generations = found["plan"], found["generations"]
    figure.suptitle(
        f"{plan['board']}, {plan['players']} players, {plan['size']}, from nothing: {found['minutes']:.0f} minutes, "
        f"{found['cpu_minutes']:.0f} CPU minutes on {plan['threads']} processes"
    )
    _elo(elo, found)
    _shares(shares, found)
    learnt = [(n, each["losses"]) for n, each in enumerate(generations) if each["losses"]]
    for name, label in LABELS.items():
        losses.plot([n for n, _ in learnt], [each[name] for _, each in learnt], "o-", label=label)
    losses.set_title("losses after training (targets change with the generation)", fontsize=10)
    for axes in (elo, shares, losses):
        axes.set_xlabel("generation (0: random weights), minutes")
        axes.set_xticks(range(len(generations)), [f"{n}\n{each['minutes']:.0f}" for n, each in enumerate(generations)])
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    return path


def _elo(axes: Axes, found: dict[str, Any]) -> None:
    rows = [found["elo"][each["name"]] for each in found["generations"]]
    elo = [row["elo"] for row in rows]
    span = [[row["elo"] - row["low"] for row in rows], [row["high"] - row["elo"] for row in rows]]
    axes.errorbar(range(len(rows)), elo, yerr=span, fmt="o-", capsize=4, color="tab:purple", label="net")
    anchor = found["elo"]["heuristic"]
    axes.axhline(anchor["elo"], color=COLOURS["heuristic"], linestyle="--", label="heuristic")
    axes.axhspan(anchor["low"], anchor["high"], color=COLOURS["heuristic"], alpha=0.12)
    axes.axhline(0, color=COLOURS["random"], linestyle="--", label="random")
    for k, step in enumerate(found["steps"][: len(rows) - 1]):
        axes.annotate(
            f"{step['elo']:+.0f} ± {(step['high'] - step['low']) / 2:.0f}", (k + 1, elo[k + 1]), xytext=(6, -12),
            textcoords="offset points", fontsize=8, color="tab:purple",
        )  # fmt: skip
    axes.set_xlim(-0.4, len(rows) + 0.1)
    axes.margins(y=0.12)
    games = sum(each["games"] for each in found["results"])
    axes.set_title(f"Elo with 95 % interval, one fit of {games} games (random = 0)", fontsize=10)


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
    axes.set_title("win share in % with 95 % interval", fontsize=10)
