"""`rift audit`: who changed what."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, ask, show_json, show_table, when

app = typer.Typer(help="Show who changed what.")


@app.callback(invoke_without_command=True)
def audit(limit: Annotated[int, typer.Option(help="Rows at most.")] = 50, as_json: AsJson = False) -> None:
    """Show the last changes by people and duties, newest first."""
    found = ask("audit", limit=limit)
    if as_json:
        show_json(found)
        return
    columns = [name for name in (found[0] if found else {"seq": 0}) if name != "at_ms"]
    show_table("audit", ("at", *columns), ((when(e["at_ms"]), *(e.get(c, "") for c in columns)) for e in found))
