"""`rift model`: models, and which of them is champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from workqueue.cli.context import (
    REFUSED,
    AsJson,
    Reason,
    ask,
    call,
    done,
    fail,
    near,
    order,
    short,
    show_json,
    show_map,
    show_table,
    when,
)

app = typer.Typer(help="List, compare, promote and roll back models.", no_args_is_help=True)
Sha = Annotated[str, typer.Argument(help="SHA-256 of a model, or at least six of its first digits.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept in the audit.")]
Expected = Annotated[str, typer.Option("--if-champion", help="Only while this model is champion.")]
_PREFIX_MIN = 6


def find(sha: str) -> dict[str, Any]:
    """Return a model by a prefix, or end the command with near matches."""
    names = [model["sha256"] for model in ask("models", limit=10_000)]
    matching = [name for name in names if name.startswith(sha)] if len(sha) >= _PREFIX_MIN else []
    found: dict[str, Any] = ask("model", sha256=matching[0] if len(matching) == 1 else near("model", sha, names))
    return found


def champion_of(config: str) -> str:
    """Return the champion's SHA-256, empty when there is none."""
    steps = ask("aliases").get(f"champion/{config}")
    return str(steps[-1]["sha256"]) if steps else ""


@app.command()
def ls(config: Annotated[str, typer.Option(help="Only this config.")] = "", as_json: AsJson = False) -> None:
    """List models, newest first."""
    found = ask("models", config=config)
    if as_json:
        show_json(found)
        return
    rows = (
        (short(m["sha256"]), m["config"], m["status"], m["elo_milli"] // 1000, m["games"], when(m["created_ms"]))
        for m in found
    )
    show_table("models", ("sha256", "config", "status", "elo", "games", "made"), rows)


@app.command()
def show(model: Sha, as_json: AsJson = False) -> None:
    """Show a model with its manifest and evidence."""
    found = find(model)
    show_json(found) if as_json else show_map(found["model"] | {k: v for k, v in found.items() if k != "model"})


@app.command()
def lineage(model: Sha, as_json: AsJson = False) -> None:
    """Show the models that a model comes from, nearest first."""
    found = find(model)
    if as_json:
        show_json(found["lineage"])
        return
    for depth, name in enumerate([found["model"]["sha256"], *found["lineage"]]):
        typer.echo(f"{'  ' * depth}{name}")


@app.command()
def compare(first: Sha, second: Sha, as_json: AsJson = False) -> None:
    """Show two models beside each other."""
    left, right = find(first)["model"], find(second)["model"]
    if as_json:
        show_json([left, right])
    else:
        show_table("", ("field", short(left["sha256"]), short(right["sha256"])), ((k, left[k], right[k]) for k in left))


@app.command()
def promote(
    model: Sha,
    if_champion: Expected = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the evidence and change nothing.")] = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a model champion of its config, if the champion is still the one expected."""
    from workqueue.machine.commands import Evidence, SetAlias

    found = find(model)
    row = found["model"]
    now = champion_of(row["config"])
    if if_champion and not now.startswith(if_champion):
        fail(f"the champion of {row['config']} is {now or 'nobody'}, not {if_champion}; nothing was changed", REFUSED)
    if dry_run:
        show_json({"model": row["sha256"], "champion": now, "evidence": found["evidence"]})
        return
    evidence = Evidence("manual", champion=now, note=reason)
    [outcome] = order(SetAlias(f"champion/{row['config']}", row["sha256"], now, evidence, reason))
    done(outcome, f"{short(row['sha256'])} is champion of {row['config']}", as_json=as_json)


@app.command()
def rollback(
    config: Annotated[str, typer.Argument(help="As square8_2p.")],
    reason: Why,
    if_champion: Expected = "",
    as_json: AsJson = False,
) -> None:
    """Make the previous champion of a config champion again."""
    from workqueue.machine.commands import Evidence, Rollback

    names = [alias.partition("/")[2] for alias in ask("aliases") if alias.startswith("champion/")]
    now = champion_of(near("config with a champion", config, names))
    if if_champion and not now.startswith(if_champion):
        fail(f"the champion of {config} is {now}, not {if_champion}; nothing was changed", REFUSED)
    [outcome] = order(Rollback(f"champion/{config}", now, Evidence("rollback", champion=now, note=reason), reason))
    done(outcome, f"{short(outcome['sha256'])} is champion of {config} again", as_json=as_json)


@app.command()
def reject(model: Sha, reason: Why, as_json: AsJson = False) -> None:
    """Mark a candidate as rejected."""
    from workqueue.machine.commands import Evidence, RejectModel

    sha = find(model)["model"]["sha256"]
    [outcome] = order(RejectModel(sha, Evidence("manual", note=reason), reason))
    done(outcome, f"{short(sha)} is rejected", as_json=as_json)


@app.command()
def export(model: Sha, path: Annotated[Path, typer.Argument(help="File to write.")]) -> None:
    """Fetch a model's weights into a file, verified."""
    sha = find(model)["model"]["sha256"]
    call(lambda client: client.get_artifact(sha, path))
    typer.echo(f"{path}: {sha}")
