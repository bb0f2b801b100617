"""`rift init`: create a cluster's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from workqueue.cli.context import USAGE, AsJson, fail, show_json

if TYPE_CHECKING:
    from workqueue.init import Created

app = typer.Typer(help="Create a cluster's folder.")


@app.callback(invoke_without_command=True)
def init(
    folder: Annotated[Path, typer.Option(help="Where to write it.")] = Path("cluster"),
    voters: Annotated[
        list[str] | None,
        typer.Option("--voter", help="Host of a voter; give it once for each. None: five on loopback."),
    ] = None,
    base_port: Annotated[int, typer.Option(help="First port: HTTP; Raft and gossip have the next two.")] = 8770,
    as_json: AsJson = False,
) -> None:
    """Write CA, certificates, keys, first tokens and settings; prints what to copy where."""
    from config.cluster import VoterAddress
    from config.errors import AppError
    from workqueue.init import create, loopback

    ports = (base_port, base_port + 1, base_port + 2)
    named = tuple(VoterAddress(f"voter-{n}", host, *ports) for n, host in enumerate(voters or (), 1))
    try:
        created = create(folder, named or loopback(5, base_port))
    except AppError as error:
        fail(str(error), USAGE)
    if as_json:
        show_json(plain(created))
        return
    typer.echo(f"wrote {folder}: copy it to each voter's machine and start `rift voter --config voter-N.yaml` there")
    typer.echo(f"admin token {created.admin_token}, worker token {created.worker_token}, CA {created.ca}")


def plain(created: Created) -> dict[str, str | list[str]]:
    """Return what was written, as paths."""
    return {
        name: [str(each) for each in value] if isinstance(value, tuple) else str(value)
        for name, value in zip(created.__struct_fields__, msgspec.structs.astuple(created), strict=True)
    }
