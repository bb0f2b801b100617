"""`rift workers`: the cluster's workers, as its operator sees them (`rift worker` starts one)."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, Reason, ask, done, near, order, show_json, show_map, show_table, when
from workqueue.standing import standing

app = typer.Typer(help="List, drain, quarantine and forget the cluster's workers.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="Name of a worker.")]
Off = Annotated[bool, typer.Option("--off", help="Lift it.")]


def known(name: str) -> str:
    """Return the name, or end the command with near matches."""
    return near("worker", name, (worker["id"] for worker in ask("workers")))


@app.command()
def ls(as_json: AsJson = False) -> None:
    """List workers."""
    found = ask("workers")
    if as_json:
        show_json(found)
        return
    rows = (
        (
            w["id"],
            standing(w),
            w["capability"]["cpus"],
            len(w["running"]),
            w["completed"],
            w["failed"],
            when(w["seen_ms"]),
        )
        for w in found
    )
    show_table("workers", ("id", "state", "cpus", "running", "completed", "failed", "seen"), rows)


@app.command()
def show(worker: Name, as_json: AsJson = False) -> None:
    """Show a worker, and why it is idle if it is."""
    found = ask("worker", worker=known(worker)) | {"explained": ask("explain", worker=worker)}
    show_json(found) if as_json else show_map(found)


@app.command()
def drain(worker: Name, off: Off = False, reason: Reason = "", as_json: AsJson = False) -> None:
    """Let a worker finish what it has and claim no more."""
    from workqueue.machine.commands import DrainWorker

    [outcome] = order(DrainWorker(known(worker), not off, reason))
    done(outcome, f"{worker} {'works again' if off else 'drains'}", as_json=as_json)


@app.command()
def quarantine(worker: Name, off: Off = False, reason: Reason = "", as_json: AsJson = False) -> None:
    """Keep a worker from claiming."""
    from workqueue.machine.commands import QuarantineWorker

    [outcome] = order(QuarantineWorker(known(worker), not off, reason))
    done(outcome, f"{worker} {'is let in again' if off else 'is in quarantine'}", as_json=as_json)


@app.command()
def forget(
    workers: Annotated[list[str], typer.Argument(help="Names of workers that will not come back.")],
    as_json: AsJson = False,
) -> None:
    """Drop the records of workers that are gone; the cluster does so by itself after `workers_kept_days`."""
    from workqueue.machine.commands import ForgetWorkers

    names = [worker["id"] for worker in ask("workers")]
    wanted = tuple(near("worker", worker, names) for worker in workers)
    [outcome] = order(ForgetWorkers(wanted, at_once=True))
    done(outcome, f"{', '.join(wanted)}: forgotten", as_json=as_json)
