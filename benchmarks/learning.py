"""From nothing to a net that beats the heuristic: `python -m benchmarks.learning --config square8-2p`.

Generation 0 is a net with random weights. Each further one learns from games that its predecessor played with Gumbel
search (`--heuristic-games N`: the first from games of the heuristic) and meets its predecessor, the one before that,
the heuristic and random. One fit over all games rates the generations together. Ends with 400 games (equal openings,
every seating) against random and against the heuristic. The plan takes about `--minutes` on four quiet cores; that
option scales its games and steps.

`--ablation` compares 8, 16 and 32 simulations and a playout cap over one generation instead, at equal evaluations.

Writes `benchmarks/results/learning-<config>.json` and `.png`; weights and shards stay in `--folder`, and a run that was
interrupted goes on from its last generation when it is called again with that folder.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.facts import facts
from benchmarks.learning_ablation import ablate, write
from benchmarks.learning_picture import draw
from benchmarks.learning_run import Plan, run

RESULTS = Path(__file__).parent / "results"
PLAN_MINUTES = 12.0  # what the default plan takes on four quiet cores


def setting(text: str) -> tuple[str, Any]:
    """Read `name=value` of a plan; raises SystemExit."""
    name, _, value = text.partition("=")
    known: dict[str, Any] = {each.name: type(each.default) for each in fields(Plan)}
    if name not in known:
        raise SystemExit(f"--set {text}: choose one of {', '.join(known)}")
    try:
        return name, known[name](value)
    except ValueError as error:
        raise SystemExit(f"--set {text}: {error}") from error


def main() -> None:
    """Read the arguments, learn, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="square8-2p")
    parser.add_argument("--minutes", type=float, default=PLAN_MINUTES)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument("--generations", type=int, default=Plan.generations)
    parser.add_argument("--heuristic-games", type=int, default=Plan.heuristic_games)
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--folder", type=Path, default=None, help="where weights and shards go")
    parser.add_argument("--ablation", action="store_true", help="compare searches over one generation instead")
    parser.add_argument("--parent", type=Path, default=None, help="weights that --ablation starts from")
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], help="another value of the plan, such as games=5000"
    )
    arguments = parser.parse_args()
    board, players = arguments.config.rsplit("-", 1)
    plan = Plan(
        board=board, players=int(players.removesuffix("p")), generations=arguments.generations,
        threads=arguments.threads, seed=arguments.seed, heuristic_games=arguments.heuristic_games,
    )  # fmt: skip
    plan = replace(plan.scaled(arguments.minutes / PLAN_MINUTES), **dict(map(setting, arguments.set)))
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="riftq-learning-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"weights and shards: {folder}", flush=True)
    begun = facts()
    if arguments.ablation:
        write(begun | ablate(plan, folder, arguments.parent), RESULTS / f"learning-ablation-{plan.config}.json")
        return
    found = begun | run(plan, folder) | {"load_at_end": os.getloadavg()}
    path = RESULTS / f"learning-{plan.config}.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    draw(found, path.with_suffix(".png"))
    print(f"wrote {path} and {path.with_suffix('.png').name}")


if __name__ == "__main__":
    main()
