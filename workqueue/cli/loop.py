"""`rift loop`, `rift halt`, `rift resume`: the improvement loop and what stops it."""

from __future__ import annotations

from typing import Annotated

import typer

from workqueue.cli.context import AsJson, Reason, ask, done, near, order, show_json, show_table

app = typer.Typer(help="Start, stop and look at the improvement loop.", no_args_is_help=True)
halt_app = typer.Typer(help="Stop claims of a kind, a config or all.")
resume_app = typer.Typer(help="End a halt.")
Scope = Annotated[str, typer.Argument(help="A kind, a config as square8_2p, or * for all.")]


def _known(scope: str) -> str:
    from workqueue.schema import KINDS

    configs = (row["config"] for row in ask("loop")["configs"])
    return near("kind or config", scope, {"*", *KINDS, *configs, *(kind["name"] for kind in ask("kinds"))})


@app.command("halt")
@app.command("stop")
@halt_app.callback(invoke_without_command=True)
def halt(scope: Scope = "*", reason: Reason = "halted by hand", as_json: AsJson = False) -> None:
    """Stop claims; running jobs go on."""
    from workqueue.machine.commands import Halt

    [outcome] = order(Halt(_known(scope), reason))
    done(outcome, f"claims of {scope} are halted", as_json=as_json)


@app.command("resume")
@app.command("start")
@resume_app.callback(invoke_without_command=True)
def resume(scope: Scope = "*", reason: Reason = "", as_json: AsJson = False) -> None:
    """End a halt."""
    from workqueue.machine.commands import Resume

    near("halted scope", scope, (halt["scope"] for halt in ask("loop")["halts"]))
    [outcome] = order(Resume(scope, reason))
    done(outcome, f"{scope} goes on", as_json=as_json)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show games, trainings, candidates and champion of each config."""
    found = ask("loop")
    if as_json:
        show_json(found)
        return
    columns = ("config", "games", "games_new", "trainings", "loss_milli", "matches", "promotions", "halted")
    rows = ((*(row[name] for name in columns), row["champion"][:10]) for row in found["configs"])
    show_table(f"{found['workers']} workers, {found['slots']} slots", (*columns, "champion"), rows)
