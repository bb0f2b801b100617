"""The main job on one machine: from an empty folder to a champion, while its leader and a worker are killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.ports import reserve_ports

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(420)]

SHORT = (
    "selfplay.games_per_job=15",
    "selfplay.bootstrap_games=60",
    "selfplay.simulations_full=4",
    "selfplay.simulations_fast=2",
    "train.size=8x1",
    "train.steps=40",
    "train.batch_size=64",
    "train.window_games_min=60",
    "train.games_new_min=30",
    "gate.floor_games=8",
    "gate.simulations=2",
    "gate.bootstrap_random_milli=[0,0,0]",
    "gate.games_max=32",
    "ladder_games=6",
)


class Up:
    """A running `rift up`."""

    def __init__(
        self, folder: Path, *more: str, voters: int = 3, workers: int = 2, settings: tuple[str, ...] = SHORT
    ) -> None:
        self.settings = (*settings, *more)
        self.voters, self.workers = voters, workers
        self.data = folder / "data"
        self.log = folder / "up.log"
        self.base = reserve_ports(10 * voters)[0]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        settings = [part for pair in self.settings for part in ("--settings", pair)]
        size = ["--voters", str(self.voters), "--workers", str(self.workers)]
        command = [sys.executable, "-m", "rift", "up", *size, "--headless"]
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*command, "--data", str(self.data), "--base-port", str(self.base), *settings], stdout=log, stderr=log
            )

    def rift(self, *arguments: str) -> Any:
        """Return what a command prints as JSON (a stream as a list), None when the cluster does not answer."""
        environment = {**os.environ, "RIFT_CONTEXT": str(self.data / "context.yaml")}
        done = subprocess.run(
            [sys.executable, "-m", "rift", *arguments, "--json"],
            capture_output=True,
            env=environment,
            cwd=self.data.parent,
            check=False,
            timeout=60,
        )
        if done.returncode:
            return None
        try:
            return json.loads(done.stdout)
        except json.JSONDecodeError:  # a stream: one document a line
            return [json.loads(line) for line in done.stdout.splitlines()]

    def until(self, what: str, look: Callable[[], Any], seconds: float) -> Any:
        """Return the first true answer of `look`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"rift up ended early:\n{self.log.read_text()[-3000:]}")
            if found := look():
                return found
            time.sleep(1)
        raise AssertionError(f"no {what} within {seconds} s:\n{self.log.read_text()[-3000:]}")

    def kill(self, marker: str) -> None:
        """Kill -9 a child and everything it started."""
        for child in psutil.Process(self.process.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):  # zombies included: one that ended on its own
                if marker in " ".join(child.cmdline()):
                    for below in (*child.children(recursive=True), child):
                        with contextlib.suppress(psutil.NoSuchProcess):
                            below.kill()
                    return
        raise AssertionError(f"no child runs {marker}")

    def stop(self) -> int:
        """Stop as Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(90)


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path)
    yield running
    if running.process.poll() is None:
        running.stop()


def test_from_nothing_to_a_champion_through_failures(up: Up) -> None:
    """No job is lost, none is completed twice, and the champion's evidence is in the log."""
    status = up.until("worker", lambda: (s := up.rift("status")) and s["state"]["workers"] and s, 120)
    up.until("running job", lambda: (s := up.rift("status")) and s["state"]["running"], 60)
    up.kill(f"{status['consensus']['leader']}.yaml")
    up.kill("worker-1")
    status = up.until("champion", lambda: (s := up.rift("status")) and s["state"]["configs"][0]["champion"] and s, 240)
    assert status["consensus"]["term"] >= 2, "another leader was elected"
    champion = status["state"]["configs"][0]["champion"]
    evidence = up.rift("model", "show", champion)["evidence"]
    assert evidence["rule"] == "bootstrap"
    games = evidence["match_ids"]
    assert len(games) == len(set(games)) >= 16

    events = up.rift("events")
    ended = Counter(event["subject"] for event in events if event["name"] == "job.completed")
    assert ended
    assert max(ended.values()) == 1, "a job was completed twice"
    jobs = up.rift("queue", "ls", "--limit", "1000")["jobs"]
    assert {job["state"] for job in jobs} <= {"available", "running", "completed", "scheduled", "retryable"}
    assert set(ended) <= {job["id"] for job in jobs}, "a completed job is gone"
    assert up.stop() == 0

    up.process = up._start()  # and it goes on where it was
    again = up.until("restart", lambda: (s := up.rift("status")) and s["state"]["configs"][0]["champion"] and s, 120)
    assert again["state"]["configs"][0]["games"] >= status["state"]["configs"][0]["games"]


def test_the_jobs_of_a_killed_worker_run_elsewhere_within_seconds(tmp_path: Path) -> None:
    """From kill -9 to the next claim of its jobs by the other worker: under six seconds, and no attempt is burned."""
    up = Up(tmp_path, "selfplay.games_per_job=4000", "selfplay.bootstrap_games=8000")
    try:

        def long_jobs() -> list[dict[str, Any]]:  # the first tournament and its check are over in a moment
            rows = (up.rift("status") or {"state": {"running": []}})["state"]["running"]
            return rows if len(rows) == 2 and {row["kind"] for row in rows} == {"selfplay"} else []

        running = up.until("two running jobs of self-play", long_jobs, 120)
        victim = running[0]["worker"]
        held = {row["id"] for row in running if row["worker"] == victim}
        killed_ms = time.time_ns() // 1_000_000
        up.kill(victim)

        def moved() -> dict[str, int]:
            claims = {
                event["subject"]: event["at_ms"]
                for event in up.rift("events") or ()
                if event["name"] == "job.claimed" and event["detail"]["worker"] != victim
            }
            return {name: claims[name] for name in held} if held <= claims.keys() else {}

        claimed = up.until("claim by the other worker", moved, 30)
        assert max(claimed.values()) - killed_ms < 6_000
        job = up.rift("queue", "show", next(iter(held)))
        assert (job["attempt"], job["payload_faults"]) == (2, 0)
    finally:
        up.stop()
