"""`rift cluster`: the voters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workqueue.cli.context import (
    REFUSED,
    USAGE,
    AsJson,
    call,
    fail,
    load_context,
    near,
    show_json,
    show_map,
    show_table,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from workqueue.client import Client

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
def verify(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Data folders of stopped voters; none = ask the running voters.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the voters: running ones by what each says of itself, stopped ones by every byte of their data."""
    rows = _verified(folders) if folders else _asked()
    if as_json:
        show_json(rows)
    else:
        show_table("voters", tuple(rows[0]), (tuple(row.values()) for row in rows))
    if not folders and (len({row["term"] for row in rows}) > 1 or not all(row["ok"] for row in rows)):
        fail("not every voter answers and agrees; look at the table", REFUSED)


def _asked() -> list[dict[str, Any]]:
    from workqueue.census import Answer, differing_digests

    answers: list[Answer] = census()
    index, digests = differing_digests(answers)
    common = max(set(digests.values()), key=list(digests.values()).count) if digests else ""
    rows = []
    for answer in answers:
        if answer.document is None:
            rows.append({"voter": answer.name, "ok": False, "term": 0, "applied": 0, "detail": answer.reason})
            continue
        found, digest = answer.consensus, digests.get(answer.name, "")
        same = digest in {"", common}
        rows.append({
            "voter": answer.name, "ok": bool(found["ready"]) and same, "term": found["term"],
            "applied": found["applied_index"],
            "detail": f"leader {found['leader']}" + (f", digest at {index} {digest[:12]}" if digest else "")
            + ("" if same else ", which differs: stop this voter and replace it"),
        })  # fmt: skip
    return rows


def census() -> list[Any]:
    """Return every voter's own view; a voter that the context does not name is asked too."""
    from workqueue.census import ask_all
    from workqueue.security import read_secret

    context = load_context()
    ca = Path(context.ca) if context.ca else None

    async def each(client: Client) -> list[Any]:
        urls = [str(voter["url"]) for voter in (await client.status())["consensus"]["voters"]]
        return await ask_all(urls, read_secret(Path(context.token_file)).decode(), ca)

    found: list[Any] = call(each)
    return found


def _raft(folder: Path) -> Path:
    """Return where a voter keeps its log, given that or the voter's data folder."""
    return folder / "raft" if (folder / "raft").is_dir() else folder


def _offline(work: Callable[[], Any]) -> Any:
    from consensus import ConsensusError

    try:
        return work()
    except (ConsensusError, OSError) as error:
        fail(str(error), REFUSED)


def _verified(folders: list[Path]) -> list[dict[str, Any]]:
    from consensus import offline
    from workqueue.machine.machine import Machine

    reports = _offline(lambda: offline.verify([_raft(folder) for folder in folders], Machine))
    return [
        {
            "voter": report.node_id, "cluster": report.cluster_id, "term": report.term,
            "snapshot": report.snapshot_index, "last": report.last_index, "compared at": report.compared_at,
            "digest": report.digest[:16],
        }
        for report in reports
    ]  # fmt: skip


@app.command()
def export(
    folders: Annotated[list[Path], typer.Argument(help="Data folders of stopped voters, a majority of them.")],
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("cluster.export"),
    minority: Annotated[
        bool, typer.Option("--minority", help="The other voters are lost; acknowledged writes may be missing.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write the state of stopped voters to one file, from which a new cluster can be made."""
    from consensus import offline
    from workqueue.machine.machine import Machine

    raft = [_raft(folder) for folder in folders]
    head = _offline(lambda: offline.export(raft, out, Machine, minority=minority))
    shown = {"file": str(out), "index": head.index, "term": head.term, "digest": head.digest.hex()}
    show_json(shown) if as_json else typer.echo(f"{out}: the state after entry {head.index}, verified")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `rift cluster export` wrote.")],
    config: Annotated[Path, typer.Option(help="The voter's settings in a folder that `rift init` made.")],
    as_json: AsJson = False,
) -> None:
    """Fill the empty data folder of a new cluster's voter from an export; do it for every voter, then start them."""
    from config.errors import AppError
    from consensus import offline
    from workqueue.core import replica_settings
    from workqueue.machine.machine import Machine
    from workqueue.process import read_config

    try:
        settings = replica_settings(read_config(config))
    except AppError as error:
        fail(str(error), USAGE)
    head = _offline(lambda: offline.restore(file, settings, Machine))
    shown = {"voter": settings.node_id, "folder": str(settings.data_dir), "index": head.index}
    show_json(shown) if as_json else typer.echo(f"{settings.data_dir} holds the state after entry {head.index}")


@app.command()
def replace(
    old: Annotated[str, typer.Argument(help="Voter that has stopped for good.")],
    new: Annotated[str, typer.Argument(help="Name of the voter that takes its place; never used before.")],
    address: Annotated[str, typer.Option(help="HOST:PORT of the new voter's HTTP; Raft and gossip get the next two.")],
    folder: Annotated[Path, typer.Option(help="The cluster's folder, with its CA key.")] = Path("cluster"),
    as_json: AsJson = False,
) -> None:
    """Prepare that a new voter takes the place of one that has stopped, and say what to restart in which order."""
    from config.errors import AppError
    from workqueue import replacement
    from workqueue.security import read_secret

    try:
        going = replacement.plan(folder, old, new, address)
        token = read_secret(Path(load_context().token_file)).decode()
        say = (lambda _text: None) if as_json else typer.echo
        index = asyncio.run(replacement.retire(going, token, say))
    except TimeoutError:
        fail("no new leader committed with every voter in time; look at `rift cluster verify` and try again", REFUSED)
    except AppError as error:
        fail(str(error), REFUSED)
    path = replacement.write(going, index)
    stay = [voter.id for voter in going.stay]
    if as_json:
        show_json({"index": index, "restart": stay, "start": str(path)})
        return
    typer.echo(f"entry {index} was committed without {old}; {folder / 'cluster.yaml'} names {new} in its place. Now:")
    typer.echo(f"1. copy cluster.yaml to the machines of {', '.join(stay)}, and the folder to that of {new}")
    typer.echo("2. restart those voters one after the other, each when `rift cluster verify` is well again")
    typer.echo(f"3. start the new one: rift voter --config {path.name}")
