"""`rift audit`: who changed what."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, ask, brief, show_json, show_table, when

app = typer.Typer(help="Show who changed what.")


@app.callback(invoke_without_command=True)
def audit(
    limit: Annotated[int, typer.Option(min=1, help="Rows at most.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Rows to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show the last changes by people and duties, newest first."""
    found = ask("audit", limit=limit, offset=offset)
    if as_json:
        show_json(found)
        return
    rows = (
        (e["seq"], when(e["at_ms"]), e.get("actor", ""), e["action"], brief(e["subject"]), e.get("reason", ""))
        for e in found
    )
    show_table("audit", ("number", "at", "by", "action", "about", "reason"), rows)
