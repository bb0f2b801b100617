"""What a budget of evaluations buys: one generation of self-play from the same net, with different searches.

Every variant plays as many games as the same number of evaluations allows, trains the same number of steps from the
same parent on its own games alone, and meets that parent and the heuristic. Called by `benchmarks.learning --ablation`;
the parent is the net that `--parent` names, or one that has learnt from games of the heuristic.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from shutil import copyfile
from typing import Any

from benchmarks.learning_play import one_thread
from benchmarks.learning_run import Plan, Run
from engine.nets.store import digest

# Name, simulations of a full search, share of moves with one, simulations of the others.
VARIANTS = (
    ("8 simulations", 8, 1.0, 8),
    ("16 simulations", 16, 1.0, 16),
    ("32 simulations", 32, 1.0, 32),
    ("playout cap: 32 for a quarter, 8 else", 32, 0.25, 8),
)
HEURISTIC_GAMES = 2000  # that a parent learns from where none is given


def ablate(plan: Plan, folder: Path, parent: Path | None = None) -> dict[str, Any]:
    """Play and train every variant; returns a table."""
    with ProcessPoolExecutor(plan.threads, get_context("spawn"), initializer=one_thread) as pool:
        if parent is None:
            base = Run(
                replace(plan, generations=1, heuristic_games=plan.heuristic_games or HEURISTIC_GAMES), folder, pool
            )
            base.untrained()
            base.learn(1, rate_parent=False)
            parent = base.weights(1)
        rows = [_variant(plan, folder, pool, parent, *variant) for variant in VARIANTS]
    return {"plan": asdict(plan), "parent": digest(parent.read_bytes()), "rows": rows}


def _variant(
    plan: Plan, folder: Path, pool: ProcessPoolExecutor, parent: Path, name: str, full: int, share: float, fast: int
) -> dict[str, Any]:
    mean = plan.full_share * plan.simulations + (1 - plan.full_share) * plan.simulations_fast
    games = round(plan.games * mean / (share * full + (1 - share) * fast))
    mine = replace(
        plan,
        simulations=full,
        full_share=share,
        simulations_fast=fast,
        games=games,
        heuristic_games=0,
        window=1,
        generations=1,
    )
    where = folder / f"{full}-{round(100 * share)}"
    run = Run(mine, where, pool)
    where.mkdir(exist_ok=True)
    run.untrained()
    copyfile(parent, run.weights(0))
    begun = time.monotonic()
    run.learn(1, rate_parent=False)
    learnt = run.generations[1]
    scores = [
        run.match(1, other, plan.final_games, plan.match_simulations, 2001).score for other in ("heuristic", "g0")
    ]
    run.say(f"{name}: " + ", ".join(map(str, scores)))
    return {
        "name": name, "simulations": full, "full_share": share, "simulations_fast": fast, "games": learnt.games,
        "positions": learnt.positions, "entropy": learnt.entropy, "selfplay_s": learnt.selfplay_s,
        "selfplay_cpu_s": learnt.selfplay_cpu_s, "train_s": learnt.train_s, "seconds": time.monotonic() - begun,
        "heldout": learnt.losses["heldout"], "scores": [asdict(score) for score in scores],
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown."""
    lines = [
        "| search | games | targets | self-play CPU s | against the heuristic | against the parent |",
        "|" + " --- |" * 6,
    ]
    for row in rows:
        shares = [f"{100 * s['share']:.1f} % ({100 * s['low']:.1f} to {100 * s['high']:.1f})" for s in row["scores"]]
        cells = [row["name"], row["games"], row["positions"], round(row["selfplay_cpu_s"]), *shares]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def write(found: dict[str, Any], path: Path) -> None:
    """Write the figures and print the table."""
    path.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found["rows"]))
