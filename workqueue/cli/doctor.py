"""`rift doctor`: what is wrong here, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from workqueue.cli.context import REFUSED, AsJson, call, load_context, show_json, show_table

if TYPE_CHECKING:
    from workqueue.cli.context import Context
    from workqueue.client import Client
    from workqueue.diagnosis import Finding

app = typer.Typer(help="Check this machine and the cluster.")


@app.callback(invoke_without_command=True)
def doctor(
    config: Annotated[Path | None, typer.Option(help="Settings of a voter of this machine, to check too.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check clocks, ports, disks, certificates, versions and digests; exits with 1 when something is wrong."""
    rows = [*(_of_voter(config) if config else []), *_of_cluster(load_context())]
    if as_json:
        show_json([msgspec.to_builtins(row) for row in rows])
    else:
        show_table("", ("check", "", "detail"), ((row.check, "ok" if row.ok else "WRONG", row.detail) for row in rows))
    if not all(row.ok for row in rows):
        raise typer.Exit(REFUSED)


def _of_voter(config: Path) -> list[Finding]:
    from config.errors import AppError
    from workqueue.diagnosis import of_voter, wrong
    from workqueue.process import read_config

    try:
        return of_voter(read_config(config))
    except AppError as error:
        return [wrong("settings", str(error))]


def _of_cluster(context: Context) -> list[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    from workqueue import diagnosis
    from workqueue.census import ask_all
    from workqueue.security import read_secret

    token, ca = Path(context.token_file), Path(context.ca) if context.ca else None
    rows = [diagnosis.of_space("here", Path.cwd()), diagnosis.of_file("token", token)]
    if ca is not None:
        rows.append(diagnosis.of_certificate_file(ca))
    if not all(row.ok for row in rows if row.check in {"token", "certificate"}):
        return rows

    async def look(client: Client) -> list[Finding]:
        urls = [str(voter["url"]) for voter in (await client.status())["consensus"]["voters"]]
        try:
            own = version("riftq")
        except PackageNotFoundError:
            own = "unknown"
        found = diagnosis.of_voters(await ask_all(urls, read_secret(token).decode(), ca), own)
        return [*found, *(diagnosis.served_certificate(url) for url in urls)]

    found: list[Finding] = call(look)
    return [*rows, *found]
