"""`rift status`: the cluster on one page."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workqueue.cli.context import AsJson, call, show_json

app = typer.Typer(help="Show the cluster on one page.")


@app.callback(invoke_without_command=True)
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Show it live until Ctrl-C.")] = False, as_json: AsJson = False
) -> None:
    """Show leader, queue, running jobs, workers, champions and alerts; with --watch --json a document a line."""
    if watch:
        _watch(as_json=as_json)
        return
    document: dict[str, Any] = call(lambda client: client.status())
    if as_json:
        show_json(document)
        return
    from rich.console import Console

    from workqueue.screen import page

    Console().print(page(document))


def _watch(*, as_json: bool) -> None:
    import contextlib

    import msgspec
    from rich.live import Live

    from workqueue.client import Client
    from workqueue.screen import page

    async def print_each(client: Client) -> None:
        async for document in client.statuses():
            typer.echo(msgspec.json.encode(document).decode())

    async def draw(client: Client) -> None:
        with Live(auto_refresh=False, screen=True) as live:
            async for document in client.statuses():
                live.update(page(document), refresh=True)

    with contextlib.suppress(KeyboardInterrupt):
        call(print_each if as_json else draw)
