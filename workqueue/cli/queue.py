"""`rift queue`: list, add and steer jobs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from workqueue.cli.context import (
    USAGE,
    AsJson,
    Reason,
    ask,
    call,
    done,
    fail,
    hint,
    near,
    order,
    show_json,
    show_map,
    show_table,
)

app = typer.Typer(help="List, add and steer jobs.", no_args_is_help=True)
_COMPARED_MAX = 10_000  # ids that a wrong one is compared with
Jobs = Annotated[list[str], typer.Argument(help="Ids of jobs.")]


@app.command()
def ls(
    state: Annotated[str, typer.Option(help="Only this state: available, running, completed, failed, …")] = "",
    kind: Annotated[str, typer.Option(help="Only this kind.")] = "",
    config: Annotated[str, typer.Option(help="Only this config, as square8_2p.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Rows at most.")] = 50,
    offset: Annotated[int, typer.Option(min=0, help="Rows to pass over.")] = 0,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest last."""
    if state:
        from workqueue.machine.transitions import State

        near("state", state, (each.value for each in State))
    found = ask("queue", state=state, kind=kind, config=config, limit=limit, offset=offset)
    if kind and not found["total"]:
        known_kind(kind)
    if as_json:
        show_json(found)
        return
    rows = (
        (j["id"], j["kind"], j["config"], j["state"], j["attempt"], j["worker"], j["reason"]) for j in found["jobs"]
    )
    columns = ("id", "kind", "config", "state", "attempt", "worker", "reason")
    show_table(f"{len(found['jobs'])} of {found['total']} jobs", columns, rows)


def known_kind(kind: str) -> str:
    """Return the kind, built in or registered, or end the command with near matches."""
    from workqueue.schema import KINDS

    return near("kind", kind, {*KINDS, *(each["name"] for each in ask("kinds"))})


def views_of(view: str, ids: list[str]) -> list[dict[str, Any]]:
    """Return a view about each job, or end the command with the ids nearest to the first that does not exist."""
    from workqueue.client import Client
    from workqueue.errors import Rejected

    async def look(client: Client) -> list[dict[str, Any]] | str:
        found: list[dict[str, Any]] = []
        for job in ids:
            try:
                found.append(await client.query(view, job=job))
            except Rejected as error:
                if error.code != "not_found":
                    raise
                return job
        return found

    found = call(look)
    if isinstance(found, str):
        names = [job["id"] for job in ask("queue", limit=_COMPARED_MAX)["jobs"]]
        fail(f"there is no job {found!r}; {hint(found, names, 'rift queue ls')}", USAGE)
    return list(found)


def known(ids: list[str]) -> tuple[str, ...]:
    """Return the ids, or end the command with near matches of the first that does not exist."""
    return tuple(job["id"] for job in views_of("job", ids))


@app.command()
def show(job: Annotated[str, typer.Argument(help="Id of a job.")], as_json: AsJson = False) -> None:
    """Show a job with payload, progress, result and the causes of failed attempts."""
    [found] = views_of("job", [job])
    show_json(found) if as_json else show_map(found)


@app.command()
def explain(
    job: Annotated[str, typer.Argument(help="Id of a job.")] = "",
    worker: Annotated[str, typer.Option(help="Say why this worker is idle instead.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say why a job does not run, or why a worker is idle: every reason, and how many it keeps away."""
    if bool(job) == bool(worker):
        fail("name a job, or a worker by --worker", USAGE)
    if worker:
        near("worker", worker, (each["id"] for each in ask("workers")))
        found = ask("explain", worker=worker)
    else:
        [found] = views_of("explain", [job])
    if as_json:
        show_json(found)
        return
    typer.echo(f"{job or worker}: {found['verdict']}")
    if worker:
        rows = (
            tuple(each[name] for name in ("kind", "config", "jobs", "needs", "reason")) for each in found["waiting"]
        )
        show_table("jobs that wait", ("kind", "config", "jobs", "need", "why not"), rows)
        return
    show_table("", ("workers", "why not"), ((count, reason) for reason, count in found["counts"].items()))
    show_table("", ("worker", "why not"), found["reasons"].items())


@app.command()
def add(
    kind: Annotated[str, typer.Argument(help="Kind: selfplay, train, tournament, … or one that was registered.")],
    payload: Annotated[str, typer.Option(help="JSON map, or @FILE that holds one.")] = "{}",
    job_id: Annotated[str, typer.Option("--id", help="Adding the same id again does nothing.")] = "",
    config: Annotated[str, typer.Option(help="As square8_2p.")] = "",
    priority: Annotated[int, typer.Option(min=0, max=100, help="Higher goes first.")] = 50,
    after: Annotated[list[str] | None, typer.Option(help="A job that must complete first.")] = None,
    delay_s: Annotated[int, typer.Option(min=0, help="Not before so many seconds from now.")] = 0,
    unique: Annotated[str, typer.Option(help="Refused while a live job has the same key.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a job."""
    import secrets

    from workqueue.machine.commands import Enqueue, JobSpec

    known_kind(kind)
    name = job_id or f"{kind}-{secrets.token_hex(6)}"
    depends_on = known(after) if after else ()
    run_at_ms = time.time_ns() // 1_000_000 + delay_s * 1000 if delay_s else 0
    packed = msgspec.Raw(msgspec.msgpack.encode(payload_of(payload)))
    spec = JobSpec(name, kind, packed, config, priority, unique=unique, depends_on=depends_on, run_at_ms=run_at_ms)
    [outcome] = order(Enqueue((spec,)))
    done(outcome, f"{name} {'was there already' if outcome.get('existing') else 'is in the queue'}", as_json=as_json)


def payload_of(text: str) -> dict[str, Any]:
    """Return the JSON map that `text` is, or that is in the file it names after an @."""
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        tree: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    except OSError as error:
        fail(f"--payload: {text[1:]}: cannot be read: {error.strerror}", USAGE)
    except msgspec.DecodeError as error:
        fail(f"--payload: is not a JSON map: {error}", USAGE)
    return tree


@app.command()
def cancel(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Cancel jobs; a running one is told at its next renewal."""
    from workqueue.machine.commands import Cancel

    _steer(Cancel(known(jobs), reason), "cancelled", as_json=as_json)


@app.command()
def retry(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Make failed or cancelled jobs available again."""
    from workqueue.machine.commands import Retry

    _steer(Retry(known(jobs), reason), "available again", as_json=as_json)


@app.command()
def hold(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """Keep jobs from being claimed."""
    from workqueue.machine.commands import Hold

    _steer(Hold(known(jobs), reason), "held", as_json=as_json)


@app.command()
@app.command("release", hidden=True)
def unhold(jobs: Jobs, reason: Reason = "", as_json: AsJson = False) -> None:
    """End a hold."""
    from workqueue.machine.commands import Unhold

    _steer(Unhold(known(jobs), reason), "released", as_json=as_json)


@app.command()
def drain(
    kind: Annotated[str, typer.Option(help="Only this kind.")] = "",
    config: Annotated[str, typer.Option(help="Only this config.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every kind and config.")] = False,
    reason: Reason = "drained",
    as_json: AsJson = False,
) -> None:
    """Cancel the jobs that wait; running ones go on."""
    from workqueue.machine.commands import Cancel

    if not (kind or config or everything):
        fail("say which jobs to cancel: --kind, --config, or --all for every one that waits", USAGE)
    if kind:
        known_kind(kind)

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


@app.command()
def kinds(as_json: AsJson = False) -> None:
    """List the kinds that were registered by name."""
    found = ask("kinds")
    if as_json:
        show_json(found)
        return
    columns = ("share", "payload_schema", "result_schema")
    rows = ((each["name"], *(each.get(column, "") for column in columns)) for each in found)
    show_table("open kinds", ("kind", "share", "payload", "result"), rows)


@app.command()
def kind(
    name: Annotated[str, typer.Argument(help="Name of a kind of job, for any program to use.")],
    payload_schema: Annotated[Path | None, typer.Option(help="File with a JSON schema of its payloads.")] = None,
    result_schema: Annotated[Path | None, typer.Option(help="File with a JSON schema of its results.")] = None,
    share: Annotated[int, typer.Option(min=0, help="Weight in the fair shares; 0 = as other kinds.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Register a kind, or replace its schemas."""
    from workqueue.machine.commands import RegisterKind

    [outcome] = order(RegisterKind(name, schema_in(payload_schema), schema_in(result_schema), share))
    done(outcome, f"jobs of kind {name} are taken", as_json=as_json)


def schema_in(path: Path | None) -> str:
    """Return the JSON schema in a file; no file fits everything."""
    if path is None:
        return "{}"
    try:
        return msgspec.json.encode(msgspec.json.decode(path.read_bytes(), type=dict[str, Any])).decode()
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", USAGE)
    except msgspec.DecodeError as error:
        fail(f"{path}: is not a JSON schema: {error}", USAGE)
