"""Learning curves as a picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib.figure import Figure

SMOOTH = 20


def draw_curves(history: list[dict[str, float]], heldout: dict[str, float], path: Path) -> Path:
    """Draw the loss of each head over the steps, the held-out ones as dashed lines; returns the path."""
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in ("loss", "policy", "value", "rank", "owner", "margin"):
        steps = [row["step"] for row in history if name in row]
        values = [row[name] for row in history if name in row]
        smooth = [sum(values[max(0, k - SMOOTH) : k + 1]) / (k + 1 - max(0, k - SMOOTH)) for k in range(len(values))]
        if smooth:
            (line,) = axes.plot(steps, smooth, label=name, linewidth=1.5)
            if name in heldout:
                axes.axhline(heldout[name], color=line.get_color(), linestyle="--", linewidth=1)
    axes.set_xlabel("step")
    axes.set_ylabel("loss (dashed: held-out games)")
    if history:
        axes.legend(loc="upper right")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path
