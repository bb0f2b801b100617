"""`rift lock`: named locks and semaphores."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, Reason, ask, done, near, order, show_json, show_table, when

app = typer.Typer(help="List and break named locks.", no_args_is_help=True)


@app.command()
def ls(as_json: AsJson = False) -> None:
    """List locks that somebody holds."""
    found = ask("locks")
    if as_json:
        show_json(found)
        return
    rows = ((x["name"], x["limit"], p["holder"], p["token"], when(p["expires_ms"])) for x in found for p in x["places"])
    show_table("locks", ("name", "places", "holder", "token", "expires"), rows)


@app.command("break")
def break_(
    name: Annotated[str, typer.Argument(help="Name of a lock.")], reason: Reason = "", as_json: AsJson = False
) -> None:
    """Take a lock away from its holders; their tokens are refused from then on."""
    from workqueue.machine.commands import BreakLock

    near("lock", name, (lock["name"] for lock in ask("locks")))
    [outcome] = order(BreakLock(name, reason))
    done(outcome, f"{name} is free", as_json=as_json)
