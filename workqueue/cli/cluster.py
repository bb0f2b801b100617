"""`rift cluster`: the voters."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from workqueue.cli.context import REFUSED, AsJson, call, fail, load_context, near, show_json, show_map, show_table

app = typer.Typer(help="Voters: status, members, leadership, snapshots.", no_args_is_help=True)


def _document() -> dict[str, Any]:
    found: dict[str, Any] = call(lambda client: client.status())
    return found


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show leader, term, commit and which voters can be reached."""
    found = _document()["consensus"]
    if as_json:
        show_json(found)
        return
    show_map({name: value for name, value in found.items() if name not in {"voters", "metrics"}})
    show_table("voters", ("id", "url", "reachable"), ((v["id"], v["url"], v["reachable"]) for v in found["voters"]))


@app.command()
def members(as_json: AsJson = False) -> None:
    """Show what gossip knows of voters and workers."""
    found = _document()["membership"]
    if as_json:
        show_json(found)
        return
    columns = list(found[0]) if found else ["id"]
    show_table("members", columns, ([member[name] for name in columns] for member in found))


@app.command("leader-transfer")
def leader_transfer(
    voter: Annotated[str, typer.Argument(help="Voter that shall lead; empty = any.")] = "", as_json: AsJson = False
) -> None:
    """Hand the leadership over."""
    known = [each["id"] for each in _document()["consensus"]["voters"]]
    if voter:
        near("voter", voter, known)
    call(lambda client: client.cluster("transfer", voter))
    leader = _document()["consensus"]["leader"]
    show_json({"leader": leader}) if as_json else typer.echo(f"leader: {leader or 'being elected'}")


@app.command()
def snapshot(as_json: AsJson = False) -> None:
    """Have the connected voter take a snapshot."""
    index = call(lambda client: client.cluster("snapshot"))
    show_json({"index": index}) if as_json else typer.echo(f"snapshot at {index}")


@app.command()
def verify(as_json: AsJson = False) -> None:
    """Ask every voter for its own view, and compare their terms and commits."""
    from pathlib import Path

    from workqueue.client import Client
    from workqueue.errors import ClientError
    from workqueue.security import read_secret

    context = load_context()

    async def each(_: Client) -> list[dict[str, Any]]:
        rows = []
        token = read_secret(Path(context.token_file)).decode()
        for server in context.servers:
            ca = Path(context.ca) if context.ca else None
            async with Client([server], token=token, ca=ca, deadline_s=5) as client:
                try:
                    found = (await client.status())["consensus"]
                except ClientError as error:
                    rows.append({"server": server, "ok": False, "term": 0, "applied": 0, "detail": str(error)})
                    continue
                rows.append({
                    "server": server, "ok": bool(found["ready"]), "term": found["term"],
                    "applied": found["applied_index"], "detail": f"leader {found['leader']}",
                })  # fmt: skip
        return rows

    rows = call(each)
    if as_json:
        show_json(rows)
    else:
        show_table("voters", tuple(rows[0]), (tuple(row.values()) for row in rows))
    if len({row["term"] for row in rows}) > 1 or not all(row["ok"] for row in rows):
        fail("not every voter answers and agrees; look at the table", REFUSED)
