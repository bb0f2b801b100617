"""`rift queue`: list, add and steer jobs."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from workqueue.cli.context import USAGE, AsJson, Reason, ask, done, fail, near, order, show_json, show_map, show_table

app = typer.Typer(help="List, add and steer jobs.", no_args_is_help=True)
Jobs = Annotated[list[str], typer.Argument(help="Ids of jobs.")]


@app.command()
def ls(
    state: Annotated[str, typer.Option(help="Only this state: available, running, completed, failed, …")] = "",
    kind: Annotated[str, typer.Option(help="Only this kind.")] = "",
    config: Annotated[str, typer.Option(help="Only this config, as square8_2p.")] = "",
    limit: Annotated[int, typer.Option(help="Rows at most.")] = 50,
    offset: Annotated[int, typer.Option(help="Rows to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest last."""
    found = ask("queue", state=state, kind=kind, config=config, limit=limit, offset=offset)
    if as_json:
        show_json(found)
        return
    rows = (
        (j["id"], j["kind"], j["config"], j["state"], j["attempt"], j["worker"], j["reason"]) for j in found["jobs"]
    )
    columns = ("id", "kind", "config", "state", "attempt", "worker", "reason")
    show_table(f"{len(found['jobs'])} of {found['total']} jobs", columns, rows)


def known(ids: list[str]) -> list[str]:
    """Return the ids, or end the command with near matches of the first that does not exist."""
    page = ask("queue", limit=10_000)
    names = [job["id"] for job in page["jobs"]]
    if page["total"] > len(names):
        return ids  # too many to compare with: the cluster has the say
    return [near("job", each, names) for each in ids]


@app.command()
def show(job: Annotated[str, typer.Argument(help="Id of a job.")], as_json: AsJson = False) -> None:
    """Show a job with payload, progress, result and the causes of failed attempts."""
    found: dict[str, Any] = ask("job", job=known([job])[0])
    show_json(found) if as_json else show_map(found)


@app.command()
def explain(job: Annotated[str, typer.Argument(help="Id of a job.")], as_json: AsJson = False) -> None:
    """Say why a job does not run."""
    found = ask("explain", job=known([job])[0])
    if as_json:
        show_json(found)
        return
    typer.echo(f"{job}: {found['verdict']}")
    for worker, reason in found["reasons"].items():
        typer.echo(f"  {worker}: {reason}")


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="Kind: selfplay, train, tournament, … or one that was registered.")],
    payload: Annotated[str, typer.Option(help="JSON map.")] = "{}",
    job_id: Annotated[str, typer.Option("--id", help="Adding the same id again does nothing.")] = "",
    config: Annotated[str, typer.Option(help="As square8_2p.")] = "",
    priority: Annotated[int, typer.Option(min=0, max=100, help="Higher goes first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Add a job."""
    import secrets

    from workqueue.machine.commands import Enqueue, JobSpec
    from workqueue.schema import KINDS

    near("kind", kind, {*KINDS, *(each["name"] for each in ask("kinds"))})
    try:
        tree = msgspec.json.decode(payload.encode(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        fail(f"--payload: is not a JSON map: {error}", USAGE)
    name = job_id or f"{kind}-{secrets.token_hex(6)}"
    packed = msgspec.Raw(msgspec.msgpack.encode(tree))
    [outcome] = order(Enqueue((JobSpec(name, kind, packed, config, priority),)))
    done(outcome, f"{name} {'was there already' if outcome.get('existing') else 'is in the queue'}", as_json=as_json)


@app.command()
def cancel(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Cancel jobs; a running one is told at its next renewal."""
    from workqueue.machine.commands import Cancel

    _steer(Cancel(tuple(known(jobs)), reason), "cancelled", as_json=as_json)


@app.command()
def retry(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Make failed or cancelled jobs available again."""
    from workqueue.machine.commands import Retry

    _steer(Retry(tuple(known(jobs)), reason), "available again", as_json=as_json)


@app.command()
def hold(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Keep jobs from being claimed."""
    from workqueue.machine.commands import Hold

    _steer(Hold(tuple(known(jobs)), reason), "held", as_json=as_json)


@app.command()
@app.command("release", hidden=True)
def unhold(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """End a hold."""
    from workqueue.machine.commands import Unhold

    _steer(Unhold(tuple(known(jobs)), reason), "released", as_json=as_json)


@app.command()
def drain(
    kind: Annotated[str, typer.Option(help="Only this kind.")] = "",
    config: Annotated[str, typer.Option(help="Only this config.")] = "",
    reason: Reason = "drained",
    as_json: AsJson = False,
) -> None:
    """Cancel the jobs that wait; running ones go on."""
    from workqueue.machine.commands import Cancel

    gone: list[str] = []
    for state in ("available", "scheduled", "retryable"):
        while rows := ask("queue", state=state, kind=kind, config=config, limit=1000)["jobs"]:
            [outcome] = order(Cancel(tuple(row["id"] for row in rows), reason))
            if not outcome.get("ids"):
                break
            gone += outcome["ids"]
    done({"ids": gone}, f"{len(gone)} jobs cancelled", as_json=as_json)


def _steer(command: Any, word: str, *, as_json: bool) -> None:
    [outcome] = order(command)
    ids = outcome.get("ids", ())
    done(outcome, f"{', '.join(ids)}: {word}" if ids else "nothing changed", as_json=as_json)
