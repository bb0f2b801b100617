"""`rift voter`: run a voter in the foreground."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Run a voter in the foreground.")


@app.callback(invoke_without_command=True)
def voter(config: Annotated[Path, typer.Option(help="The voter's settings, made by `rift init`.")]) -> None:
    """Run a voter until SIGTERM or Ctrl-C."""
    from workqueue.voter import main

    raise typer.Exit(main(config))
