"""`rift test`: the checks and tests of a checkout, as CI runs them."""

from __future__ import annotations

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
        steps.append((*pytest, "-m", "cluster", "tests/cluster"))
    steps.append((*pytest, "-n", str(processes)))
    failed = [step for step in steps if _run(step)]
    for step in failed:
        typer.echo(f"rift test: failed: {' '.join(step)}", err=True)
    raise typer.Exit(1 if failed else 0)


def _run(step: tuple[str, ...]) -> int:
    typer.echo(f"rift test: {' '.join((Path(step[0]).name, *step[1:]))}", err=True)
    started = time.monotonic()
    code = subprocess.run(step, check=False).returncode
    typer.echo(f"rift test: {'ok' if code == 0 else 'FAILED'} in {time.monotonic() - started:.0f} s", err=True)
    return code
