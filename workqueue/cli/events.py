"""`rift events`: what happens."""

from __future__ import annotations

import contextlib
from typing import Annotated

import msgspec
import typer

from workqueue.cli.context import AsJson, brief, call, when

app = typer.Typer(help="Follow what happens.")


@app.callback(invoke_without_command=True)
def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    since: Annotated[int, typer.Option(help="After this sequence number; by default the last hundred.")] = -1,
    as_json: AsJson = False,
) -> None:
    """Show the last events, or follow them."""
    from workqueue.client import Client

    async def show(client: Client) -> None:
        last = (await client.query("status"))["last_seq"]
        start = since if since >= 0 else max(0, last - 100)
        if start >= last and not follow:
            return
        async for event in client.events(start):
            if as_json:
                typer.echo(msgspec.json.encode(event).decode())
            else:
                detail = brief(" ".join(f"{key}={value}" for key, value in event.detail.items()))
                about = f"{brief(event.subject)} {event.actor} {detail}"
                typer.echo(f"{event.seq:>8} {when(event.at_ms)} {event.name:<24} {about}")
            if event.seq >= last and not follow:
                return

    with contextlib.suppress(KeyboardInterrupt):
        call(show)
