"""`rift alerts`: conditions that somebody should look at."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from workqueue.cli.context import REFUSED, AsJson, Reason, ask, done, fail, near, order, show_json, show_table, when

app = typer.Typer(help="List, silence and try alerts.", no_args_is_help=True)
_WAIT_S = 60


@app.command()
def ls(
    silenced: Annotated[bool, typer.Option("--silenced", help="Those that were silenced too.")] = False,
    as_json: AsJson = False,
) -> None:
    """List alerts that are up; docs/operations.md says for each what to do."""
    found = ask("alerts", silenced=silenced)
    if as_json:
        show_json(found)
        return
    rows = ((a["name"], a["key"], when(a["since_ms"]), "yes" if a.get("sent") else "", a["detail"]) for a in found)
    show_table("alerts", ("name", "about", "since", "sent", "detail"), rows)


@app.command()
def rules(as_json: AsJson = False) -> None:
    """List every condition that is watched."""
    from workqueue.duties.rules import RULES

    rows = [(rule.name, (rule.look.__doc__ or "").strip()) for rule in RULES]
    if as_json:
        show_json(dict(rows))
    else:
        show_table("rules", ("name", "raised when"), rows)


@app.command()
def silence(
    name: Annotated[str, typer.Argument(help="Name of an alert.")],
    minutes: Annotated[int, typer.Option(min=0, help="For how long; 0 ends a silence.")] = 60,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Keep an alert quiet for a while: it stays up but is neither listed nor sent."""
    from workqueue.duties.rules import RULES
    from workqueue.machine.commands import SilenceAlert

    near("alert", name, (rule.name for rule in RULES))
    until_ms = time.time_ns() // 1_000_000 + minutes * 60_000
    [outcome] = order(SilenceAlert(name, until_ms, reason))
    done(outcome, f"{name} is quiet until {when(until_ms)}", as_json=as_json)


@app.command("test")
def try_webhooks(
    wait_s: Annotated[int, typer.Option(min=0, help="Wait this long for a webhook to take it.")] = _WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Raise an alert that ends by itself, and say whether a webhook took it; exits with 1 when none did."""
    from workqueue.duties.rules import TEST
    from workqueue.machine.commands import SetAlert

    key = f"try-{time.time_ns() // 1_000_000}"
    [outcome] = order(SetAlert(TEST, key, active=True, detail="somebody tries whether alerts arrive"))
    until = time.monotonic() + wait_s
    while time.monotonic() < until:
        if any(alert["key"] == key and alert.get("sent") for alert in ask("alerts")):
            done(outcome, "a webhook took the test alert", as_json=as_json)
            return
        time.sleep(1)
    fail("no webhook took the test alert: name files with URLs in `webhook_files` of cluster.yaml", REFUSED)
