"""A worker that turns results round is found by real workers that play again, and what it said is struck."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cluster.up.test_up import SHORT, Up

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def cheating_worker(up: Up) -> subprocess.Popen[bytes]:
    """Start a worker whose matches are of `cheating`."""
    path = os.pathsep.join((str(HERE / "cheat"), str(ROOT)))
    with (up.data.parent / "cheat.log").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable, "-m", "workers.cli", "--join", f"https://127.0.0.1:{up.base}",
                "--token-file", str(up.data / "secrets/worker.token"), "--ca", str(up.data / "certs/ca.pem"),
                "--data", str(up.data / "workers/cheat"), "--id", "cheat", "--slots", "1", "--threads", "1",
            ],
            env=os.environ | {"PYTHONPATH": path}, stdout=log, stderr=log, cwd=ROOT,
        )  # fmt: skip


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    running = Up(tmp_path, voters=1, workers=2, settings=SHORT)
    yield running
    if running.process.poll() is None:
        running.stop()


def test_a_cheating_worker_is_convicted_by_the_others(up: Up) -> None:
    """By its canary or by replays: quarantine with the reason, revocation, an alert; the honest ones work on."""
    up.until("workers", lambda: (s := up.rift("status")) and len(s["state"]["workers"]) == 2 and s, 120)
    cheat = cheating_worker(up)
    try:
        convicted: dict[str, Any] = up.until(
            "conviction", lambda: next((w for w in up.rift("workers", "ls") or () if w["quarantined"]), None), 150
        )
        assert convicted["id"] == "cheat"
        assert convicted["reason"].startswith("cheats: ")
        alerts = up.until("alert", lambda: [a for a in up.rift("alerts", "ls") or () if a["key"] == "cheat"], 30)
        assert {alert["name"] for alert in alerts} == {"worker.cheating"}
        audit = up.rift("audit")
        assert {e["action"] for e in audit if e["actor"] == "duty:canary"} >= {"quarantine", "revoke"}
        assert not any(worker["quarantined"] for worker in up.rift("workers", "ls") if worker["id"] != "cheat")
    finally:
        cheat.terminate()
        assert cheat.wait(60) is not None
