"""What a budget of evaluations buys: one generation of self-play from the same net, with different searches.

Every variant plays as many games as the same number of evaluations allows, trains the same number of steps from the
same parent on its own games alone, and meets that parent and the heuristic. Called by `benchmarks.learning --ablation`.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.learning import Plan, Run, one_thread

# Name, simulations of a full search, share of moves with one, simulations of the others.
VARIANTS = (
    ("8 simulations", 8, 1.0, 8),
    ("16 simulations", 16, 1.0, 16),
    ("32 simulations", 32, 1.0, 32),
    ("playout cap: 32 for a quarter, 8 else", 32, 0.25, 8),
)


def ablate(plan: Plan, folder: Path) -> dict[str, Any]:
    """Play and train every variant; returns a table."""
    with ProcessPoolExecutor(plan.threads, get_context("spawn"), initializer=one_thread) as pool:
        base = Run(replace(plan, generations=0), folder, pool)
        parent = base.restore() or base.generation(0, None)
        rows = [_variant(plan, folder, pool, parent, *variant) for variant in VARIANTS]
    return {"plan": asdict(plan), "rows": rows}


def _variant(
    plan: Plan, folder: Path, pool: ProcessPoolExecutor, parent: Path, name: str, full: int, share: float, fast: int
) -> dict[str, Any]:
    mean = plan.full_share * plan.simulations + (1 - plan.full_share) * plan.simulations_fast
    games = round(plan.games * mean / (share * full + (1 - share) * fast))
    mine = replace(plan, simulations=full, full_share=share, simulations_fast=fast, games=games)
    where = folder / f"{full}-{round(100 * share)}"
    where.mkdir(exist_ok=True)
    run = Run(mine, where, pool)
    run.shards, run.played = [[]], [(0, 0, 0.0, 0.0)]
    run.selfplay(1, parent)
    begun = time.monotonic()
    weights, done = run.train(1, parent)
    seconds = time.monotonic() - begun
    scores = [
        run.match(weights, "heuristic", None, plan.final_games, plan.match_simulations, 2001),
        run.match(weights, "parent", parent, plan.final_games, plan.match_simulations, 2002),
    ]
    run.say(f"{name}: " + ", ".join(map(str, scores)))
    games, positions, entropy, spent = run.played[1]
    return {
        "name": name, "simulations": full, "full_share": share, "simulations_fast": fast, "games": games,
        "positions": positions, "entropy": entropy, "selfplay_s": spent, "train_s": seconds,
        "heldout": done.heldout_loss, "scores": [asdict(score) for score in scores],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| search | games | targets | self-play s | against the heuristic | against the parent |",
        "|" + " --- |" * 6,
    ]
    for row in rows:
        shares = [f"{100 * s['share']:.1f} % ({100 * s['low']:.1f} to {100 * s['high']:.1f})" for s in row["scores"]]
        cells = [row["name"], row["games"], row["positions"], round(row["selfplay_s"]), *shares]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def write(found: dict[str, Any], path: Path) -> None:
    """Write the figures and print the table."""
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found["rows"]))
