"""`rift model`: models, and which of them is champion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from workqueue.cli.context import (
    REFUSED,
    USAGE,
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
_HEADER_MAX = 100 << 20  # of safetensors, by its own definition


def find(sha: str) -> dict[str, Any]:
    """Return a model by a prefix, or end the command with near matches."""
    names = [model["sha256"] for model in ask("models", limit=10_000)]
    matching = [name for name in names if name.startswith(sha)] if len(sha) >= _PREFIX_MIN else []
    found: dict[str, Any] = ask(
        "model", sha256=matching[0] if len(matching) == 1 else near("model", sha, names, "rift model ls")
    )
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
    from workqueue.cli.evidence import as_evidence, lines, look, summary
    from workqueue.machine.commands import SetAlias

    row = find(model)["model"]
    sha, config = row["sha256"], row["config"]
    now = champion_of(config)
    if if_champion and not now.startswith(if_champion):
        fail(f"the champion of {config} is {now or 'nobody'}, not {if_champion}; nothing was changed", REFUSED)
    if now == sha:
        fail(f"{short(sha)} is the champion of {config} already", REFUSED)
    found = call(lambda client: look(client, sha, now, config))
    if dry_run:
        show_json(summary(found)) if as_json else typer.echo("\n".join(lines(found)))
        return
    if not reason:
        fail("a promotion by hand needs --reason; --dry-run shows what the recorded matches say", USAGE)
    [outcome] = order(SetAlias(f"champion/{config}", sha, now, as_evidence(found, reason), reason))
    done(outcome, f"{short(sha)} is champion of {config}", as_json=as_json)


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


@app.command("import")
def import_(
    path: Annotated[Path, typer.Argument(help="Weights as safetensors.")],
    config: Annotated[str, typer.Option(help="As square8_2p; by default what the weights' own manifest says.")] = "",
    parent: Annotated[list[str] | None, typer.Option(help="A model that it was made from.")] = None,
    as_json: AsJson = False,
) -> None:
    """Store weights and register them as a candidate, which the loop then tests like its own."""
    from workqueue.machine.commands import RegisterModel

    manifest = manifest_in(path)
    named = f"{manifest['board']}_{manifest['players']}p" if {"board", "players"} <= manifest.keys() else ""
    if config and named and config != named:
        fail(f"{path}: these weights are of {named}, not of {config}", USAGE)
    if not (config or named):
        fail(f"{path}: carries no manifest that says what it plays; give --config", USAGE)
    parents = tuple(find(each)["model"]["sha256"] for each in parent or manifest.get("parents", ()))
    reference = call(lambda client: client.put_artifact(path, kind="weights", config=config or named))
    packed = msgspec.Raw(msgspec.msgpack.encode(manifest))
    [outcome] = order(RegisterModel(reference.sha256, config or named, packed, parents))
    done(
        outcome | {"sha256": reference.sha256},
        f"{reference.sha256} is a candidate of {config or named}",
        as_json=as_json,
    )


def manifest_in(path: Path) -> dict[str, Any]:
    """Return the manifest that safetensors carry, empty when there is none; ends the command for another format."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = msgspec.json.decode(file.read(min(size, _HEADER_MAX)), type=dict[str, Any])
        metadata = header.get("__metadata__", {})
        manifest: dict[str, Any] = msgspec.json.decode(metadata.get("riftq", "{}"), type=dict[str, Any])
    except OSError as error:
        fail(f"{path}: cannot be read: {error.strerror}", USAGE)
    except (msgspec.DecodeError, AttributeError):
        fail(f"{path}: is no safetensors file; `rift model export` writes one", USAGE)
    return manifest


@app.command()
def export(model: Sha, path: Annotated[Path, typer.Argument(help="File to write.")], as_json: AsJson = False) -> None:
    """Fetch a model's weights into a file, verified; the manifest is inside."""
    sha = find(model)["model"]["sha256"]
    call(lambda client: client.get_artifact(sha, path))
    done({"sha256": sha, "path": str(path)}, f"{path}: {sha}", as_json=as_json)
