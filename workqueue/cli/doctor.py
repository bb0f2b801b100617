"""`rift doctor`: what is wrong here, and what to do."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from workqueue.cli.context import REFUSED, AsJson, call, load_context, show_json, show_table

if TYPE_CHECKING:
    from workqueue.client import Client

app = typer.Typer(help="Check this machine and the cluster.")
_SPACE_MIN_MB = 1024
_DAYS_MIN = 30


@app.callback(invoke_without_command=True)
def doctor(as_json: AsJson = False) -> None:
    """Check files, certificates, disk, voters and the queue; exits with 1 when something is wrong."""
    from config.errors import AppError

    context = load_context()
    rows = [_disk(), _token(Path(context.token_file))]
    if context.ca:
        rows.append(_certificate(Path(context.ca)))

    async def look(client: Client) -> list[tuple[str, bool, str]]:
        return _cluster(await client.status())

    try:
        rows += call(look)
    except AppError as error:
        rows.append(("voters", False, str(error)))
    if as_json:
        show_json([{"check": name, "ok": ok, "detail": detail} for name, ok, detail in rows])
    else:
        show_table("", ("check", "", "detail"), ((name, "ok" if ok else "WRONG", text) for name, ok, text in rows))
    if not all(ok for _, ok, _ in rows):
        raise typer.Exit(REFUSED)


def _disk() -> tuple[str, bool, str]:
    free_mb = shutil.disk_usage(".").free >> 20
    return "disk", free_mb >= _SPACE_MIN_MB, f"{free_mb} MiB free here; {_SPACE_MIN_MB} are needed"


def _token(path: Path) -> tuple[str, bool, str]:
    if not path.exists():
        return "token", False, f"{path} does not exist: name another in context.yaml"
    private = not path.stat().st_mode & 0o077
    return "token", private, f"{path}" if private else f"{path} can be read by others: chmod 600 it"


def _certificate(path: Path) -> tuple[str, bool, str]:
    from cryptography import x509

    left = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp() - time.time()
    return "certificate", left > _DAYS_MIN * 86_400, f"{path} is valid for {left / 86_400:.0f} more days"


def _cluster(document: dict[str, Any]) -> list[tuple[str, bool, str]]:
    consensus, state = document["consensus"], document["state"]
    up = sum(voter["reachable"] for voter in consensus["voters"])
    live = sum(worker["live"] for worker in state["workers"])
    behind_ms = abs(time.time() * 1000 - state["now_ms"])
    return [
        ("leader", bool(consensus["leader"]), consensus["leader"] or "no leader: start more voters"),
        ("voters", up == len(consensus["voters"]), f"{up} of {len(consensus['voters'])} can be reached"),
        ("clock", behind_ms < 60_000, f"the cluster's last entry is {behind_ms / 1000:.0f} s from this clock"),
        ("workers", live > 0, f"{live} live"),
        ("alerts", not state["alerts"], f"{len(state['alerts'])} raised: `rift alerts ls`"),
    ]
