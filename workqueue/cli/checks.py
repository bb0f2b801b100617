"""`rift test`: the checks and tests of a checkout, as CI runs them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run the checks and tests of this checkout.")
_CHECKS = (
    ("ruff", "check", "."),
    ("ruff", "format", "--check", "."),
    ("mypy",),
    ("lint-imports",),
)


@app.callback(invoke_without_command=True)
def checks(
    processes: Annotated[int, typer.Option("-n", help="Tests at once.")] = 2,
    cluster: Annotated[bool, typer.Option(help="Also those that start real processes.")] = True,
) -> None:
    """Run linters, types, import contracts and tests; all run even when one fails, tests last."""
    pytest = (sys.executable, "-m", "pytest", "-q")
    steps = [(str(Path(sys.executable).parent / name), *rest) for name, *rest in _CHECKS]
    if cluster:
        left_out = () if _namespaces() else ("--ignore", "tests/cluster/membership")
        steps.append((*pytest, "-m", "cluster", "tests/cluster", *left_out))
    steps.append((*pytest, "-n", str(processes)))
    if cluster and _browser():
        steps.append((*pytest, "-m", "browser", "tests/browser"))
    failed = [step for step in steps if _run(step)]
    for step in failed:
        typer.echo(f"rift test: failed: {' '.join(step)}", err=True)
    raise typer.Exit(1 if failed else 0)


def _browser() -> bool:
    """Whether tests may drive a browser; as root on Debian Chromium is installed when it is missing."""
    names = ("chromium", "google-chrome")
    if os.environ.get("RIFT_CHROMIUM") or any(map(shutil.which, names)) or not _missing(("chromium",), ("chromium",)):
        return True
    typer.echo("rift test: tests/browser is left out: it needs Chromium (apt-get install chromium)", err=True)
    return False


def _missing(tools: tuple[str, ...], packages: tuple[str, ...]) -> list[str]:
    """Return the tools that are not there, after trying to install them where that is possible."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        _run(("apt-get", "update", "-qq"))
        _run(("apt-get", "install", "-y", "-qq", *packages))
        missing = [tool for tool in tools if shutil.which(tool) is None]
    return missing


def _namespaces() -> bool:
    """Whether tests may make network namespaces; as root on Debian their tools are installed when missing."""
    missing = _missing(("ip", "nft"), ("iproute2", "nftables"))
    if missing or os.geteuid() != 0:
        typer.echo("rift test: tests/cluster/membership is left out: it needs root, iproute2 and nftables", err=True)
        return False
    return True


def _run(step: tuple[str, ...]) -> int:
    typer.echo(f"rift test: {' '.join((Path(step[0]).name, *step[1:]))}", err=True)
    started = time.monotonic()
    code = subprocess.run(step, check=False).returncode
    typer.echo(f"rift test: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", err=True)
    return code
