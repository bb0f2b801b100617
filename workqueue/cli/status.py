"""`rift status`: the cluster on one page."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from workqueue.cli.context import AsJson, call, show_json

app = typer.Typer(help="Show the cluster on one page.")


@app.callback(invoke_without_command=True)
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until Ctrl-C.")] = False, as_json: AsJson = False
) -> None:
    """Show leader, queue, running jobs, workers, champions and alerts."""
    if watch:
        _watch()
        return
    document: dict[str, Any] = call(lambda client: client.status())
    if as_json:
        show_json(document)
        return
    from rich.console import Console

    from workqueue.screen import page

    Console().print(page(document))


def _watch() -> None:
    import asyncio
    import contextlib

    from rich.live import Live

    from workqueue.client import Client
    from workqueue.screen import page

    async def follow(client: Client) -> None:
        with Live(auto_refresh=False, screen=True) as live:
            while True:
                live.update(page(await client.status()), refresh=True)
                started = time.monotonic()
                await asyncio.sleep(max(0.1, started + 1 - time.monotonic()))

    with contextlib.suppress(KeyboardInterrupt):
        call(follow)
