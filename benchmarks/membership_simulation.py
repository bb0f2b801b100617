"""The same protocol code among up to 10,000 simulated members, as figures and as a picture for the documentation."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from membership.simulation import World

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "membership-simulation.svg"
TRIALS = {5: 20, 32: 20, 100: 10, 316: 4, 1000: 2, 10_000: 1}
LOSSES = (0.1, 0.3)
SETTLE_MS = 8_000  # the frequent comparisons of views after a start are over by then
WATCH_MS = 3_000
LOSS_MS = {5: 120_000, 32: 120_000, 100: 40_000}  # at 1,000, minutes of computing a second

Figures = dict[str, Any]
Save = Callable[[int, str, Figures], None]


def _all_know(world: World, victim: int, others: int) -> Callable[[], bool]:
    return lambda: world.knows("dead", victim) == others


def deaths(count: int, trials: int) -> Figures:
    """Kill one member of a fresh group, a few times over; measure its cost at rest before."""
    suspected, first, everyone, rates = [], [], [], []
    live_deaths = 0
    for seed in range(trials):
        world = World(count, seed)
        world.run(SETTLE_MS)
        before = world.sent()[0]
        world.run(WATCH_MS + world.random.randrange(1000))
        rates.append((world.sent()[0] - before) / count / ((world.now_ms - SETTLE_MS) / 1000))
        victim, at_ms = count // 2, world.now_ms
        world.kill(victim)
        took = world.run_until(_all_know(world, victim, count - 1), 60_000)
        seen = [s for s in world.seen if s.subject == victim]
        suspected.append(min(s.at_ms for s in seen if s.kind == "suspect") - at_ms)
        first.append(min(s.at_ms for s in seen if s.kind == "dead") - at_ms)
        everyone.append(took if took is not None else 60_000)
        live_deaths += sum(s.kind == "dead" and s.subject != victim for s in world.seen)
    return {
        "trials": trials,
        "first_suspicion_ms": _spread(suspected),
        "first_death_ms": _spread(first),
        "all_know_ms": _spread(everyone),
        "deaths_of_live_members": live_deaths,
        "bytes_a_second_a_member": round(statistics.mean(rates)),
    }


def lossy(count: int, share: float) -> Figures:
    """Lose packets for a while."""
    world = World(count, seed=1, loss=share)
    world.run(LOSS_MS[count])
    minutes = count * LOSS_MS[count] / 60_000
    kinds = [s.kind for s in world.seen]
    return {
        "member_hours": round(minutes / 60, 2),
        "deaths_of_live_members": kinds.count("dead"),
        "suspected_members_a_member_minute": round(
            len({(s.subject, s.at_ms // 2000) for s in world.seen}) / minutes, 3
        ),
        "bytes_a_second_a_member": round(world.sent()[0] / count / (LOSS_MS[count] / 1000)),
    }


def simulate(save: Save) -> int:
    """Measure all sizes, save the figures and draw them."""
    at_rest: dict[int, Figures] = {}
    with_loss: dict[tuple[int, float], Figures] = {}
    for count, trials in TRIALS.items():
        started = time.monotonic()
        at_rest[count] = deaths(count, trials)
        save(count, "riftq simulated", {"kill": at_rest[count]})
        for share in LOSSES if count in LOSS_MS else ():
            with_loss[count, share] = lossy(count, share)
            save(count, "riftq simulated", {f"loss share={share}": with_loss[count, share]})
        print(f"{count} members: {at_rest[count]} ({time.monotonic() - started:.0f} s)", flush=True)
    draw(at_rest, with_loss)
    print(f"Drawn: {PICTURE}")
    return 0


def draw(at_rest: dict[int, Figures], with_loss: dict[tuple[int, float], Figures]) -> None:
    """Draw detection times, cost, and what lost packets do, over the size of the group."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "membership"  # the same figures give the same file
    from matplotlib import pyplot as plt

    figure, (times, cost, doubts) = plt.subplots(1, 3, figsize=(13, 4))
    sizes = list(at_rest)
    for name, label in (
        ("first_suspicion_ms", "first suspicion"),
        ("first_death_ms", "first declares it dead"),
        ("all_know_ms", "all know"),
    ):
        times.plot(sizes, [at_rest[n][name]["p50"] / 1000 for n in sizes], marker="o", label=f"{label}, median")
    times.plot(sizes, [at_rest[n]["all_know_ms"]["max"] / 1000 for n in sizes], ls=":", c="gray", label="all know, max")
    times.set(title="After kill -9", ylabel="seconds", ylim=(0, None))
    cost.plot(sizes, [at_rest[n]["bytes_a_second_a_member"] for n in sizes], marker="o", label="no loss")
    for share in LOSSES:
        lossy_sizes = [n for n in sizes if (n, share) in with_loss]
        found = [with_loss[n, share] for n in lossy_sizes]
        label = f"{share:.0%} loss"
        cost.plot(lossy_sizes, [f["bytes_a_second_a_member"] for f in found], marker="o", label=label)
        rates = [f["suspected_members_a_member_minute"] for f in found]
        buried = sum(f["deaths_of_live_members"] for f in found)
        doubts.plot(lossy_sizes, rates, marker="o", label=f"{label} (declared dead: {buried})")
    cost.set(title="Sent by each member", ylabel="bytes a second, headers included", ylim=(0, None))
    doubts.set(title="Live members under suspicion", ylabel="a member and minute", ylim=(0, None))
    for axes in (times, cost, doubts):
        axes.set(xscale="log", xlabel="members")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, metadata={"Date": None})


def _spread(values: list[int]) -> Figures:
    return {"p50": round(statistics.median(values)), "min": min(values), "max": max(values)}
