"""Workers that cheat are found by real workers that play again; the cluster's champion is a gate for pull requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as Xml

import pytest
from typer.testing import CliRunner

from tests.cluster.up.test_up import SHORT, Up
from workqueue.cli.gate import app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]
HERE = Path(__file__).parent
ROOT = HERE.parents[2]
CHEATS = {"cheat", "lazy"}  # folders beside this file, first on the path of a worker of that name


def worker_that(up: Up, name: str) -> subprocess.Popen[bytes]:
    """Start a worker whose job kinds are replaced by those of `cheating`."""
    path = os.pathsep.join((str(HERE / name), str(ROOT)))
    with (up.data.parent / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            [
                sys.executable, "-m", "workers.cli", "--join", f"https://127.0.0.1:{up.base}",
                "--token-file", str(up.data / "secrets/worker.token"), "--ca", str(up.data / "certs/ca.pem"),
                "--data", str(up.data / "workers" / name), "--id", name, "--slots", "1", "--threads", "1",
            ],
            env=os.environ | {"PYTHONPATH": path}, stdout=log, stderr=log, cwd=ROOT,
        )  # fmt: skip


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """Two honest workers; jobs are few enough that those two can check what must be."""
    folder = tmp_path_factory.mktemp("loop")
    running = Up(folder, "selfplay.games_per_job=60", "verify_share_milli=20", voters=1, workers=2, settings=SHORT)
    yield running
    if running.process.poll() is None:
        running.stop()


def test_the_clusters_champion_is_a_gate_for_pull_requests(
    up: Up, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`rift gate --against champion` fetches it and plays: exit codes, JSON and JUnit say pass, fail and bad input."""
    up.until("champion", lambda: (s := up.rift("status")) and s["state"]["configs"][0]["champion"], 120)
    assert up.rift("loop", "halt", "*") is not None  # the champion stays, and processors are free
    champion = up.rift("status")["state"]["configs"][0]["champion"]
    candidate, report, junit = tmp_path / "c.safetensors", tmp_path / "r.json", tmp_path / "r.xml"
    assert up.rift("model", "export", champion, str(candidate)) is not None
    monkeypatch.setenv("RIFT_CONTEXT", str(up.data / "context.yaml"))

    def gate(*more: str, file: Path = candidate) -> int:
        command = ["--candidate", str(file), "--json", str(report), "--junit", str(junit), "--threads", "1"]
        return CliRunner().invoke(app, [*command, "--floor-random", "0", "--floor-heuristic", "0", *more]).exit_code

    assert gate("--elo0", "-700", "--elo1", "-600") == 0
    found = json.loads(report.read_text())
    assert (found["verdict"], found["candidate"], found["against"]) == ("pass", champion, champion)
    assert found["settings"]["games_max"] == 32, "the cluster's settings apply"
    assert gate("--elo0", "600", "--elo1", "700") == 1
    failed = Xml.parse(junit).getroot()[0]  # noqa: S314  # our own
    assert failed.find("testcase[@name='sequential test']/failure") is not None
    assert gate(file=tmp_path / "nothing") == 2
    assert up.rift("loop", "resume", "*") is not None


def test_cheating_workers_are_convicted_by_the_others(up: Up) -> None:
    """One invents who won, one plays self-play by chance: quarantine with the reason, revocation, an alert."""
    up.until("workers", lambda: (s := up.rift("status")) and len(s["state"]["workers"]) == 2 and s, 120)
    cheats = [worker_that(up, name) for name in sorted(CHEATS)]
    try:

        def convicted() -> list[dict[str, Any]]:
            found = [worker for worker in up.rift("workers", "ls") or () if worker["quarantined"]]
            assert {worker["id"] for worker in found} <= CHEATS, "an honest worker was convicted"
            return found if len(found) == len(CHEATS) else []

        reasons = {worker["id"]: worker["reason"] for worker in up.until("two convictions", convicted, 150)}
        assert all(reason.startswith("cheats: ") for reason in reasons.values())
        assert "decisions are those of the player" in reasons["lazy"]
        alerts = up.until("alerts", lambda: _cheating(up) == CHEATS, 30)
        assert alerts
        audit = up.rift("audit")
        for action in ("quarantine", "revoke"):
            by_duty = [entry for entry in audit if entry["actor"] == "duty:canary" and entry["action"] == action]
            # What an honest worker and a cheat had a part in is revoked by itself, named by its SHA-256.
            assert {entry["subject"] for entry in by_duty if len(entry["subject"]) != 64} == CHEATS
    finally:
        for process in cheats:
            process.terminate()
        assert all(process.wait(60) is not None for process in cheats)


def _cheating(up: Up) -> set[str]:
    return {alert["key"] for alert in up.rift("alerts", "ls") or () if alert["name"] == "worker.cheating"}
