"""Many seeded worlds of five voters: `python -m benchmarks.simulation --seeds 20000 --jobs 4`.

Writes `benchmarks/results/simulation.json` when more than one seed is run. `--seed N` replays one and prints its last
events; `--mutants` shows within how many seeds each deliberate bug of `tests/simulation/mutants.py` is caught.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path

import msgspec

from benchmarks.facts import facts
from consensus.simulation import Report, Violation, World

RESULT = Path(__file__).parent / "results/simulation.json"


def one(seed: int) -> tuple[int, Report | None, str]:
    """Run a world; return its report, or what went wrong."""
    try:
        with World(seed) as world:
            return seed, world.run(), ""
    except Violation as error:
        return seed, None, str(error)


def many(seeds: int, first: int, jobs: int) -> int:
    """Run worlds on several processes, show progress, and write the sums."""
    sums: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    failed: list[dict[str, object]] = []
    begun = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(jobs) as pool:
        for done, (seed, report, error) in enumerate(pool.imap_unordered(one, range(first, first + seeds), 20), 1):
            if report is None:
                failed.append({"seed": seed, "violation": error})
                print(f"\nseed {seed}: {error}", flush=True)
                continue
            faults.update(report.faults)
            fields = msgspec.structs.asdict(report)
            sums.update({k: v for k, v in fields.items() if isinstance(v, int) and k not in ("seed", "fingerprint")})
            if done % 100 == 0:
                left = (time.monotonic() - begun) / done * (seeds - done)
                text = f"{done}/{seeds} worlds, {sums['writes']} writes acknowledged, {len(failed)} violations"
                print(f"\r{text}, {left / 60:.1f} min left ", end="", file=sys.stderr, flush=True)
    result = {
        **facts(),
        "seeds": [first, first + seeds],
        "seconds": round(time.monotonic() - begun),
        "violations": failed,
        "sums": dict(sums),
        "faults": dict(faults.most_common()),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"\n{seeds} worlds, {sum(faults.values())} faults, {sums['writes']} writes and {sums['reads']} reads checked, "
    )
    print(f"{len(failed)} violations; written to {RESULT}")
    return 1 if failed else 0


def replay(seed: int) -> int:
    """Run one world and print its last events."""
    world = World(seed, trace=200)
    try:
        with world:
            report = world.run()
    except Violation as error:
        print("\n".join(world.trace))
        print(f"seed {seed}: {error}")
        return 1
    print("\n".join(world.trace))
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 0


def mutants(limit: int) -> int:
    """Print for each deliberate bug the seed that catches it."""
    from tests.simulation.mutants import MUTANTS

    missed = 0
    for mutant in MUTANTS:
        for seed in range(limit):
            try:
                with mutant(), World(seed) as world:
                    world.run()
            except Violation as error:
                print(f"{mutant.__name__:36} seed {seed:4}: {str(error)[:90]}", flush=True)
                break
        else:
            missed += 1
            print(f"{mutant.__name__:36} not caught in {limit} seeds", flush=True)
    return 1 if missed else 0


def main() -> int:
    """Run what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="worlds to run")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--seed", type=int, help="replay this one world")
    parser.add_argument("--mutants", action="store_true", help="show that deliberate bugs are caught")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        return replay(arguments.seed)
    if arguments.mutants:
        return mutants(2000)
    return many(arguments.seeds, arguments.first, arguments.jobs)


if __name__ == "__main__":
    sys.exit(main())
