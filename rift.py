"""`rift`: one command made of many; a part is imported only when it is used, so that help costs next to nothing."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

# Name -> (where its app is, what it does). The texts are here so that `rift --help` imports none of them.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("workqueue.cli.up:app", "Run voters, workers and the loop on this machine, and watch them."),
    "test": ("workqueue.cli.checks:app", "Run the checks and tests of this checkout."),
    "init": ("workqueue.cli.init:app", "Create a cluster's folder: CA, certificates, keys, tokens, settings."),
    "voter": ("workqueue.cli.voter:app", "Run a voter in the foreground."),
    "worker": ("workers.cli:app", "Work for a cluster."),
    "status": ("workqueue.cli.status:app", "Show the cluster on one page."),
    "queue": ("workqueue.cli.queue:app", "List, add and steer jobs."),
    "lock": ("workqueue.cli.lock:app", "List and break named locks."),
    "workers": ("workqueue.cli.workers:app", "List, drain, quarantine and forget the cluster's workers."),
    "model": ("workqueue.cli.model:app", "List, compare, promote and roll back models."),
    "elo": ("workqueue.cli.elo:app", "Show ratings."),
    "gate": ("workqueue.cli.gate:app", "Test a candidate against a champion, for a pull request."),
    "settings": ("workqueue.cli.settings:app", "Read and change the replicated settings."),
    "loop": ("workqueue.cli.loop:app", "Start, stop and look at the improvement loop."),
    "halt": ("workqueue.cli.loop:halt_app", "Stop claims of a kind, a config or all."),
    "resume": ("workqueue.cli.loop:resume_app", "End a halt."),
    "cluster": ("workqueue.cli.cluster:app", "Voters: status, members, leadership, snapshots, digests."),
    "token": ("workqueue.cli.token:app", "Create, list and revoke tokens."),
    "events": ("workqueue.cli.events:app", "Follow what happens."),
    "audit": ("workqueue.cli.audit:app", "Show who changed what."),
    "alerts": ("workqueue.cli.alerts:app", "List and silence alerts."),
    "doctor": ("workqueue.cli.doctor:app", "Check this machine and the cluster."),
    "engine": ("engine.cli:app", "Play, train and measure without a cluster."),
}


# Modules of the queue's commands that talk to no cluster that runs already.
ALONE = frozenset({"up", "checks", "init", "voter"})


COMPLETING = "_RIFT_COMPLETE"


class LazyGroup(TyperGroup):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command, None when there is none of that name."""
        if cmd_name not in COMMANDS:
            if ctx.resilient_parsing:
                return None
            close = difflib.get_close_matches(cmd_name, COMMANDS, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else "`rift --help` lists what there is"
            raise typer.BadParameter(f"there is no command {cmd_name!r}; {hint}")
        where, text = COMMANDS[cmd_name]
        if not _is_called(cmd_name):
            return typer.main.get_command(_placeholder(cmd_name, text))
        try:
            command = _load(where)
        except ModuleNotFoundError as error:
            if ctx.resilient_parsing:
                return None
            raise typer.BadParameter(_missing(cmd_name, error)) from error
        command.name = cmd_name
        if cmd_name == "worker":  # what an operator may do to workers elsewhere is found here too
            command.commands |= _load(COMMANDS["workers"][0]).commands
        return command


def _load(where: str) -> Any:
    module, name = where.split(":")
    command = typer.main.get_command(_single(getattr(importlib.import_module(module), name)))
    if module.startswith("workqueue.cli.") and module.rpartition(".")[2] not in ALONE:
        importlib.import_module("workqueue.cli.context").add_flags(command)
    return command


def _is_called(name: str) -> bool:
    return next((word for word in _words() if not word.startswith("-")), "") == name


def _words() -> list[str]:
    """Return what was typed after `rift`; while a shell completes it, it is in the environment."""
    if COMPLETING not in os.environ:
        return sys.argv[1:]
    typed = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")  # bash; zsh, fish
    return typed.split()[1:]


def _single(app: typer.Typer) -> typer.Typer:
    """Return a part without commands below it as one command: a group takes options before arguments only."""
    callback = app.registered_callback
    if app.registered_commands or app.registered_groups or callback is None or callback.callback is None:
        return app
    alone = typer.Typer(add_completion=False)
    alone.command(help=app.info.help if isinstance(app.info.help, str) else None)(callback.callback)
    return alone


def _placeholder(name: str, text: str) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command(name=name, help=text)(lambda: None)
    return app


def _missing(name: str, error: ModuleNotFoundError) -> str:
    extra = "voter" if name in {"voter", "up"} else "dev" if name == "test" else "worker"
    return f"`rift {name}` needs {error.name}, which is not installed: pip install 'riftq[{extra}]'"


def _say_version(wanted: bool) -> None:  # noqa: FBT001  called by typer
    if wanted:
        from importlib.metadata import version

        typer.echo(version("riftq"))
        raise typer.Exit


app = typer.Typer(cls=LazyGroup, no_args_is_help=True, help="Train a superhuman RingRift player on rented GPUs.")


@app.callback()
def root(
    _version: bool = typer.Option(  # noqa: FBT001
        False,  # noqa: FBT003
        "--version",
        help="Print the version.",
        is_eager=True,
        callback=_say_version,
    ),
) -> None:
    """Train a superhuman RingRift player on rented GPUs."""


def main(arguments: Iterable[str] | None = None) -> None:
    """Run `rift`."""
    app(args=list(arguments) if arguments is not None else None, prog_name="rift")


if __name__ == "__main__":
    main()
