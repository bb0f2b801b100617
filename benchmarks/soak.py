"""The loop unattended while its leader and its workers are killed; everything is then verified from exported logs.

    python -m benchmarks.soak [--minutes 15] [--voters 5] [--workers 3] [--every-s 45] [--folder FOLDER] [--no-kills]

Starts `rift up` with small settings, kills -9 the leader and a worker in turns, follows every event, and at the end
exports matches, aliases, models, jobs and events to files. Those files alone are then read again: every promotion's
floors and sequential test are computed anew from the matches that its evidence names, ratings from the match log; no
job may be lost or completed twice. Prints a table, writes benchmarks/results/soak.json, and ends with 1 when
something does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from benchmarks.facts import facts
from config.loop import LoopSettings
from engine.rating.fit import Fitted, fit
from engine.rating.games import rated
from tests.cluster.up.test_up import Up
from workqueue.client import Client
from workqueue.duties import gate, plan
from workqueue.duties.improve import settings_of
from workqueue.errors import ClientError
from workqueue.machine.ratings import recompute
from workqueue.machine.views import AliasStep, Event, Match, SettingsView
from workqueue.security import read_secret

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG = "square8_2p"
# A first net from a handful of games, then generations of a minute or two that are clearly stronger than the one
# before, so that few games decide.
SETTINGS = (
    "selfplay.games_per_job=30",
    "selfplay.bootstrap_games=30",
    "selfplay.simulations_full=16",
    "selfplay.simulations_fast=6",
    "train.size=16x2",
    "train.steps=150",
    "train.batch_size=128",
    "train.window_games_min=300",
    "train.games_new_min=300",
    "train.window_exponent_milli=1000",
    "train.learning_rate_micro=2000",
    "gate.floor_games=8",
    "gate.simulations=8",
    "gate.bootstrap_random_milli=[250,0,0]",
    "gate.floor_random_milli=[400,0,0]",
    "gate.floor_heuristic_milli=[0,0,0]",
    "gate.games_max=160",
    "gate.elo0=-20",
    "gate.elo1=60",
    "ladder_games=12",
)
PAGE = 1000
SAMPLE_S = 5.0
DOWN_S_MAX = 60.0


class Running(Up):
    """`rift up` as the cluster tests start it, and a client of it."""

    def client(self) -> Client:
        import yaml

        tree = yaml.safe_load((self.data / "context.yaml").read_text())
        token = read_secret(Path(tree["token_file"])).decode()
        return Client(tree["servers"], token=token, ca=Path(tree["ca"]), deadline_s=20.0)


class Seen:
    """What was looked at while it ran."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.samples: list[dict[str, Any]] = []
        self.kills: Counter[str] = Counter()
        self.down_s = 0.0  # the longest time without an answer


async def follow(client: Client, seen: Seen) -> None:
    """Keep every event, over the deaths of leaders."""
    since = 0
    while True:
        with contextlib.suppress(ClientError):
            async for event in client.events(since):
                seen.events.append(event)
                since = event.seq


async def sample(client: Client, seen: Seen) -> None:
    """Look at the whole every few seconds."""
    answered = time.monotonic()
    while True:
        with contextlib.suppress(ClientError):
            document = await client.status()
            state = document["state"]
            [view] = [row for row in state["configs"] if row["config"] == CONFIG]
            jobs = {name: sum(kinds.values()) for name, kinds in state["jobs"].items()}
            seen.samples.append(
                {"at_ms": state["now_ms"], "term": document["consensus"]["term"], "jobs": jobs}
                | {name: view[name] for name in ("games", "trainings", "promotions", "elo_milli", "champion")}
            )
            seen.down_s = max(seen.down_s, time.monotonic() - answered)
            answered = time.monotonic()
        await asyncio.sleep(SAMPLE_S)


async def kill(up: Running, client: Client, seen: Seen, every_s: float) -> None:
    """Kill the leader and a worker in turns, whatever they are doing."""
    for turn in range(10_000):
        await asyncio.sleep(every_s)
        victim = f"worker-{1 + turn // 2 % up.workers}"
        if turn % 2 == 0:
            try:
                victim = f"{(await client.status())['consensus']['leader']}.yaml"
            except ClientError:
                continue
        with contextlib.suppress(AssertionError):  # it is just being started again
            await asyncio.to_thread(up.kill, victim)
            seen.kills["worker" if victim.startswith("worker") else "leader"] += 1


async def pages(client: Client, name: str, key: str = "", **args: object) -> AsyncIterator[Any]:
    """Yield all rows of a view."""
    offset = 0
    while True:
        found = await client.query(name, limit=PAGE, offset=offset, **args)
        rows = found[key] if key else found
        for row in rows:
            yield row
        offset += len(rows)
        if len(rows) < PAGE:
            return


async def export(client: Client, folder: Path, seen: Seen) -> None:
    """Write the logs as JSON lines; the loop is halted before, so that they fit together."""
    folder.mkdir(parents=True, exist_ok=True)
    down_s = round(seen.down_s, 1)
    logs: dict[str, list[Any]] = {
        "matches": [row async for row in pages(client, "matches")],
        "jobs": [row async for row in pages(client, "queue", "jobs")],
        "models": [row async for row in pages(client, "models")],
        "elo": [await client.query("elo")],
        "aliases": [await client.query("aliases")],
        "settings": [await client.query("settings")],
        "audit": [row async for row in pages(client, "audit")],
        "workers": await client.query("workers"),
        "alerts": await client.query("alerts", silenced=True),
        "events": [msgspec.to_builtins(event) for event in seen.events],
        "samples": seen.samples,
        "run": [facts() | {"command": command(), "kills": seen.kills, "longest_s_without_an_answer": down_s}],
    }
    for name, rows in logs.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))


def read(folder: Path, name: str, kind: Any = Any) -> list[Any]:
    """Read an exported log."""
    lines = (folder / f"{name}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=kind) for line in lines]


# ---- from the files alone


def check_promotion(step: AliasStep, champion: str, matches: dict[str, Match], settings: LoopSettings) -> str:
    """Compute a promotion's evidence anew; returns what does not fit, empty when all does."""
    evidence = step.evidence
    missing = [name for name in evidence.match_ids if name not in matches]
    if missing or len(set(evidence.match_ids)) != len(evidence.match_ids):
        return f"names {len(missing)} matches that are not in the log"
    played = [matches[name] for name in evidence.match_ids]
    me = plan.challenger(step.sha256, settings).key
    floors = gate.floors_of(played, me, {name: bar for name, (_, _, bar) in evidence.floors.items()})
    if floors != {name: tuple(floor) for name, floor in evidence.floors.items()}:
        return f"floors are {floors}, the evidence says {evidence.floors}"
    if any(points < bar or not games for points, games, bar in floors.values()):
        return "a floor was not reached"
    if evidence.rule == "bootstrap":
        return "" if not champion else "bootstrap although there was a champion"
    if evidence.champion != champion:
        return "tested against another than the champion of the time"
    duel = [match for match in played if set(match.seats) == {me, plan.challenger(champion, settings).key}]
    verdict = gate.verdict_of(duel, me, 2, settings)
    if verdict.verdict != "accept" or round(verdict.llr * 1000) != evidence.llr_milli or len(duel) != evidence.games:
        return f"the test says {verdict.verdict} with {verdict.llr:.3f} over {len(duel)} games"
    return ""


def verify(folder: Path) -> dict[str, Any]:
    """Read the logs and return what they prove, with everything that is wrong."""
    matches = read(folder, "matches", Match)
    settings = settings_of(read(folder, "settings", SettingsView)[0])
    steps = read(folder, "aliases", dict[str, tuple[AliasStep, ...]])[0].get(f"champion/{CONFIG}", ())
    events, jobs = read(folder, "events", Event), read(folder, "jobs")
    wrong: list[str] = []
    by_id = {match.id: match for match in matches}
    champion, promotions = "", []
    for step in steps:
        if step.evidence.rule in {"bootstrap", "sprt"}:
            fault = check_promotion(step, champion, by_id, settings)
            wrong += [f"promotion of {step.sha256[:12]}: {fault}"] if fault else []
            promotions.append(step)
        champion = step.sha256
    wrong += check_ratings(matches, read(folder, "elo")[0])
    wrong += check_jobs(events, jobs)
    barred = [worker["id"] for worker in read(folder, "workers") if worker["quarantined"]]
    wrong += [f"honest workers were put into quarantine: {', '.join(barred)}"] if barred else []
    fitted = fit(rated(read(folder, "matches"), CONFIG)) if matches else None
    table = [row(step, fitted, settings) for step in promotions] if fitted else []
    return {
        "promotions": len(promotions),
        "rollbacks": len(steps) - len(promotions),
        "last_above_first_elo": risen(promotions, fitted, settings) if fitted else None,
        "table": table,
        "matches": len(matches),
        "jobs_completed": sum(event.name == "job.completed" for event in events),
        "events": len(events),
        "alerts": dict(Counter(event.subject.partition("/")[0] for event in events if event.name == "alert.raised")),
        "wrong": wrong,
    }


def risen(promotions: list[AliasStep], fitted: Fitted, settings: LoopSettings) -> tuple[float, float] | None:
    """Return how far the last champion is above the first, and the standard error of that, in Elo."""
    keys = [plan.challenger(step.sha256, settings).key for step in promotions]
    if len(keys) < 2:
        return None
    ahead, error = fitted.difference(keys[-1], keys[0])
    return round(ahead, 1), round(error, 1)


def row(step: AliasStep, fitted: Fitted, settings: LoopSettings) -> dict[str, Any]:
    """Return a promotion as a row of the table."""
    evidence = step.evidence
    mine = fitted.standing(plan.challenger(step.sha256, settings).key)
    points = (evidence.wins + evidence.draws / 2) / evidence.games if evidence.rule == "sprt" else None
    return {
        "model": step.sha256[:12],
        "at_ms": step.at_ms,
        "rule": evidence.rule,
        "floors": {name: floor[0] / 1000 for name, floor in evidence.floors.items()},
        "score": points,
        "elo_won": round(400 * math.log10(points / (1 - points))) if points and points < 1 else None,
        "llr": evidence.llr_milli / 1000,
        "games": len(evidence.match_ids),
        "rating": round(mine.elo_milli / 1000),
        "interval": [round(mine.low_milli / 1000), round(mine.high_milli / 1000)],
        "rated_games": mine.games,
    }


def check_ratings(matches: list[Match], told: dict[str, Any]) -> list[str]:
    """Compare the cluster's ratings with those that follow from the match log."""
    mine = {
        (config, player): (rating.elo_milli, rating.games)
        for config, table in recompute(matches).items()
        for player, rating in table.items()
    }
    theirs = {(config, r["player"]): (r["elo_milli"], r["games"]) for config, rows in told.items() for r in rows}
    return [] if mine == theirs else [f"{len(set(mine.items()) ^ set(theirs.items()))} ratings differ from the log's"]


def check_jobs(events: list[Event], jobs: list[dict[str, Any]]) -> list[str]:
    """No job vanished, none was completed twice or brought its data twice, no event is missing."""
    wrong = []
    seqs = [event.seq for event in events]
    if seqs != list(range(seqs[0], seqs[0] + len(seqs))) if seqs else True:
        wrong.append("events are missing or repeated")
    completed = Counter(event.subject for event in events if event.name == "job.completed")
    twice = [name for name, count in completed.items() if count > 1]
    wrong += [f"{len(twice)} jobs were completed twice, as {twice[0]}"] if twice else []
    for effect in ("data.added", "matches.added"):
        brought = Counter(str(event.detail["job"]) for event in events if event.name == effect)
        wrong += [f"{name} brought {effect} {count} times" for name, count in brought.items() if count > 1]
    known = {job["id"] for job in jobs}
    claimed = {event.subject for event in events if event.name == "job.claimed"}
    lost = claimed - known
    wrong += [f"{len(lost)} claimed jobs are gone, as {sorted(lost)[0]}"] if lost else []
    failed = [job["id"] for job in jobs if job["state"] == "failed" and job["kind"] != "tournament"]
    wrong += [f"{len(failed)} jobs failed, as {failed[0]}"] if failed else []
    return wrong


# ---- all of it


async def soak(up: Running, minutes: float, every_s: float) -> None:
    """Let it run, then halt and wait until nothing runs any more."""
    seen = Seen()
    await asyncio.to_thread(up.until, "cluster", lambda: (s := up.rift("status")) and s["state"]["workers"] and s, 180)
    async with up.client() as client, up.client() as events, up.client() as watcher:
        tasks = [asyncio.create_task(work) for work in (follow(events, seen), sample(watcher, seen))]
        killing = [asyncio.create_task(kill(up, client, seen, every_s))] if every_s else []
        deadline = time.monotonic() + minutes * 60
        while time.monotonic() < deadline:
            await asyncio.sleep(min(30.0, max(0.0, deadline - time.monotonic())))
            if seen.samples:
                print(progress(seen), flush=True)
            for task in (*tasks, *killing):
                if task.done():
                    task.result()  # raises what ended it: a soak without kills or looks proves nothing
        for task in killing:
            task.cancel()
        await asyncio.to_thread(up.until, "halt", lambda: up.rift("loop", "halt", "*"), 60)
        await asyncio.to_thread(
            up.until, "end of what runs", lambda: (s := up.rift("status")) and not s["state"]["running"] and s, 120
        )
        await asyncio.sleep(2 * SAMPLE_S)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *killing, return_exceptions=True)
        await export(client, up.data.parent / "logs", seen)


def progress(seen: Seen) -> str:
    last = seen.samples[-1]
    jobs = " ".join(f"{name}={count}" for name, count in sorted(last["jobs"].items()))
    return (
        f"term={last['term']} games={last['games']} trainings={last['trainings']} promotions={last['promotions']} "
        f"elo={last['elo_milli'] // 1000} {jobs} kills={dict(seen.kills)}"
    )


def show(found: dict[str, Any]) -> None:
    """Print the promotions as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{found['promotions']} promotions, evidence computed again from the logs", box=None)
    columns = ("model", "rule", "score", "elo_won", "llr", "games", "rating", "interval", "floors")
    for name in columns:
        table.add_column(name)
    for each in found["table"]:
        table.add_row(*(str(each[name]) for name in columns))
    Console().print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--voters", type=int, default=5)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--every-s", type=float, default=45.0, help="seconds between two kills")
    parser.add_argument("--no-kills", action="store_true")
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here")
    parser.add_argument("--check", type=Path, default=None, help="only verify the logs of an earlier run's folder")
    options = parser.parse_args()
    if options.check:
        return report(options.check / "logs")
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        up = Running(folder, voters=options.voters, workers=options.workers, settings=SETTINGS)
        stack.callback(stop, up)
        asyncio.run(soak(up, options.minutes, 0.0 if options.no_kills else options.every_s))
        return report(folder / "logs")


def command() -> str:
    return " ".join(["python -m benchmarks.soak", *sys.argv[1:]])


def stop(up: Running) -> None:
    if up.process.poll() is None:
        up.stop()


def report(logs: Path) -> int:
    """Verify, print, write, and say whether everything holds."""
    found = verify(logs)
    if found["promotions"] < 2:
        found["wrong"].append(f"{found['promotions']} promotions, two are asked for")
    elif found["last_above_first_elo"][0] <= 0:
        found["wrong"].append("the last champion is not rated above the first")
    last = read(logs, "samples")[-1]
    numbers = {name: last[name] for name in ("games", "trainings")} | {"terms": last["term"]}
    document = read(logs, "run")[0] | {"settings": list(SETTINGS)} | numbers | found
    show(found)
    print(json.dumps({key: value for key, value in document.items() if key != "table"}, indent=2))
    path = Path("benchmarks/results/soak.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n")
    return bool(found["wrong"])


if __name__ == "__main__":
    raise SystemExit(main())
