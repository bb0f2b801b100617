"""How long the jobs of a killed worker wait for another worker, by the road that its death is noticed on.

    python -m benchmarks.deaths [--members 32] [--voters 3] [--workers 3] [--trials 15] [--no-lease]

Real voters (disk, TLS, fsync), real workers with runners, and members that only gossip up to the number given, all on
this machine. Each trial starts a job with a lease of 60 s, kills -9 the worker that runs it, and takes the time from
the kill until another worker runs the job:

- `machine`: agent, runner and gossip process die at once; the other members notice, the leader confirms;
- `agent`: the agent alone is killed; its gossip process says farewell for it;
- `hang`: the agent is stopped (SIGSTOP) while its gossip process lives;
- `heartbeat`: workers without an inbound port; the leader misses their heartbeats;
- `lease`: one worker that neither gossips nor beats; measured beside the others, until its job is free again.

Results go to benchmarks/results/workers-deaths.json.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
from pathlib import Path

from benchmarks.workers import write
from tests.cluster.workers import deaths


def spread(values: list[float]) -> dict[str, float | int]:
    return {
        "trials": len(values),
        "p50_s": round(statistics.median(values), 2),
        "max_s": round(max(values), 2),
        "within_6_s": sum(value < 6 for value in values),
    }


async def trials(group: deaths.Group, how: str, label: str, count: int) -> dict[str, object]:
    load = os.getloadavg()[0]
    values = []
    for turn in range(count):
        values.append(await group.trial(how))
        print(f"{label} {turn + 1}: {values[-1]:.2f} s", flush=True)
    return {**spread(values), "load": [round(load, 2), round(os.getloadavg()[0], 2)]}


async def heartbeats(group: deaths.Group, count: int) -> dict[str, object]:
    """Measure with workers without an inbound port."""
    async with group.beating():
        return await trials(group, "machine", "heartbeat", count)


async def measure(options: argparse.Namespace) -> dict[str, object]:
    folder = Path(tempfile.mkdtemp(prefix="rift-deaths-"))
    found: dict[str, object] = {}
    async with deaths.group(folder, voters=options.voters, workers=options.workers, members=options.members) as group:
        lease = None if options.no_lease else asyncio.create_task(group.lease_trial())
        found["machine"] = await trials(group, "machine", "machine", options.trials)
        found["agent"] = await trials(group, "agent", "agent", options.trials)
        found["hang"] = await trials(group, "hang", "hang", max(1, options.trials // 3))
        found["heartbeat"] = await heartbeats(group, options.trials)
        if lease:
            found["lease"] = spread([await lease])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--voters", type=int, default=3)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--trials", type=int, default=15)
    parser.add_argument("--no-lease", action="store_true", help="leave the baseline of a minute out")
    options = parser.parse_args()
    command = (
        f"python -m benchmarks.deaths --members {options.members} --voters {options.voters} "
        f"--workers {options.workers} --trials {options.trials}"
    )
    found = asyncio.run(measure(options))
    write("deaths", {"command": command, "members": options.members, "voters": options.voters} | found)


if __name__ == "__main__":
    main()
