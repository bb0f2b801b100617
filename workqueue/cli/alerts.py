"""`rift alerts`: conditions that somebody should look at."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from workqueue.cli.context import AsJson, Reason, ask, done, order, show_json, show_table, when

app = typer.Typer(help="List and silence alerts.", no_args_is_help=True)


@app.command()
def ls(as_json: AsJson = False) -> None:
    """List alerts that are up and not silenced."""
    found = ask("alerts")
    if as_json:
        show_json(found)
        return
    rows = ((a["name"], a["key"], when(a["since_ms"]), a["detail"]) for a in found)
    show_table("alerts", ("name", "about", "since", "detail"), rows)


@app.command()
def silence(
    name: Annotated[str, typer.Argument(help="Name of an alert.")],
    minutes: Annotated[int, typer.Option(min=1, help="For how long.")] = 60,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Keep an alert quiet for a while."""
    from workqueue.machine.commands import SilenceAlert

    until_ms = time.time_ns() // 1_000_000 + minutes * 60_000
    [outcome] = order(SilenceAlert(name, until_ms, reason))
    done(outcome, f"{name} is quiet until {when(until_ms)}", as_json=as_json)
