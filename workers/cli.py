"""`rift worker`: join a cluster and work for it; orders to a worker that runs on this machine."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from config.errors import AppError

app = typer.Typer(help="Work for a cluster, or order a worker on this machine.", no_args_is_help=False)
_BACKENDS = re.compile(r"(auto|torch|openvino)(:f32|:bf16)?|onnxruntime(:f32)?")  # as the engine reads them
_ORDERS = "pause, resume, drain, undrain, stop-after-job, stop-after-game or stop"


@app.callback(invoke_without_command=True)
def work(
    context: typer.Context,
    join: Annotated[list[str] | None, typer.Option(help="URL of a voter; give several to outlive one.")] = None,
    token_file: Annotated[Path | None, typer.Option(help="File that holds the worker's token.")] = None,
    ca: Annotated[Path | None, typer.Option(help="The cluster's CA certificate.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder for spool, cache and working files.")] = None,
    config: Annotated[Path | None, typer.Option(help="worker.yaml with the same settings.")] = None,
    worker_id: Annotated[str, typer.Option("--id", help="Name of this worker; the host's name by default.")] = "",
    slots: Annotated[int | None, typer.Option(help="Jobs at once on the CPU.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of one job.")] = None,
    backend: Annotated[
        str, typer.Option(help="What computes nets: auto, torch, onnxruntime or openvino, :f32 or :bf16 after it.")
    ] = "auto",
    kinds: Annotated[str, typer.Option(help="Kinds of jobs to run, separated by commas; all by default.")] = "",
    labels: Annotated[str, typer.Option(help="Labels that jobs may ask for, separated by commas.")] = "",
    gossip: Annotated[str, typer.Option(help="HOST:PORT that voters reach; a death is noticed sooner then.")] = "",
    gossip_bind: Annotated[str, typer.Option(help="HOST:PORT to listen on when that is another.")] = "",
    gossip_key: Annotated[list[Path] | None, typer.Option(help="Copy of the cluster's secrets/gossip.key.")] = None,
    provider: Annotated[str, typer.Option(help="Who rents this machine out; voters may limit its bandwidth.")] = "",
    spot_command: Annotated[str, typer.Option(help="Exits with 0 when the machine is about to be taken away.")] = "",
    memory_mb: Annotated[int, typer.Option(help="Memory of one job with its children; 0 = an equal share.")] = 0,
    hang_s: Annotated[int, typer.Option(help="A job that says nothing for this long is taken for hung.")] = 300,
    grace_s: Annotated[int, typer.Option(help="Time for jobs to checkpoint after SIGTERM or a spot notice.")] = 20,
    canary: Annotated[bool, typer.Option(help="Check every device before it gets jobs.")] = True,
) -> None:
    """Join a cluster and run its jobs until told to stop (SIGTERM, Ctrl-C, or `rift worker order stop`)."""
    if context.invoked_subcommand:
        return
    if not _BACKENDS.fullmatch(backend):
        typer.echo(
            f"--backend {backend!r}: write auto, torch, onnxruntime or openvino, with :f32 or :bf16 after it", err=True
        )
        raise typer.Exit(2)
    flags: dict[str, Any] = {
        "id": worker_id, "join": join, "token_file": token_file and str(token_file), "ca": ca and str(ca),
        "data": data and str(data), "slots": slots, "threads": threads,
        "kinds": [kind for kind in kinds.split(",") if kind], "labels": [label for label in labels.split(",") if label],
        "provider": provider, "gossip": gossip, "gossip_bind": gossip_bind,
        "gossip_keys": [str(path) for path in gossip_key or ()],
    }  # fmt: skip
    from workers.start import Extra, settings_of, work_for  # what a help text does not need

    try:
        settings = settings_of(config, {key: value for key, value in flags.items() if value})
        extra = Extra(spot_command, memory_mb, hang_s * 1000, grace_s * 1000, canary, backend)
        code = asyncio.run(work_for(settings, extra))
    except AppError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from error
    raise typer.Exit(code)


@app.command()
def order(
    what: Annotated[str, typer.Argument(help=_ORDERS)],
    data: Annotated[Path, typer.Option(help="The worker's data folder.")] = Path("worker-data"),
) -> None:
    """Give an order to the worker that runs here with this data folder."""
    from workers.control import send_order
    from workers.events import Order

    if what not in set(Order):
        typer.echo(f"unknown order {what!r}: say {_ORDERS}", err=True)
        raise typer.Exit(2)
    try:
        answer = send_order(data, Order(what))
    except AppError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    typer.echo(answer)


@app.command()
def kinds() -> None:
    """List the kinds of jobs that are installed here."""
    from workers.jobs import names

    for name in names():
        typer.echo(name)


def main() -> None:
    """Run as a program."""
    app()


if __name__ == "__main__":
    main()
