"""Draw the last fault run, `docs/faults.svg`: how long clients heard nothing, fault by fault.

python -m benchmarks.faults_picture   # needs matplotlib
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = Path(__file__).parent / "results" / "faults.json"
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "faults.svg"


def draw(figures: dict[str, Any]) -> None:
    """Draw one row a kind of fault and one dot an injection, on a logarithmic scale of milliseconds."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "faults"  # the same figures give the same file
    from matplotlib import pyplot as plt

    rows = sorted(figures["unavailable_ms"].items(), key=lambda row: row[1]["p50"])
    figure, axes = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.4), layout="constrained")
    for at, (_, row) in enumerate(rows):
        axes.scatter([max(1, ms) for ms in row["all"]], [at] * len(row["all"]), s=14, alpha=0.45, linewidths=0)
        axes.plot([max(1, row["p50"])] * 2, [at - 0.35, at + 0.35], color="black", linewidth=1.5)
    axes.set_yticks(range(len(rows)), [name.replace("_", " ") for name, _ in rows])
    axes.set_xscale("log")
    axes.set_xlabel("longest time without an acknowledged operation, ms (dot: one fault, bar: median)")
    axes.grid(axis="x", which="both", alpha=0.2)
    acknowledged = figures["operations"]["acknowledged"]
    axes.set_title(
        f"{figures['faults_injected']} faults in {figures['minutes']:.0f} minutes, {acknowledged:,} operations "
        f"acknowledged, {figures['lost']} lost, {figures['violations']} violations",
        fontsize=10,
    )
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(json.loads(FIGURES.read_text()))
