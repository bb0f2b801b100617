"""`rift settings`: the replicated settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from workqueue.cli.context import USAGE, AsJson, Reason, ask, done, fail, near, order, show_json, show_table

if TYPE_CHECKING:
    from config.loop import LoopSettings

app = typer.Typer(help="Read and change the replicated settings.", no_args_is_help=True)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a tree of settings by dotted key."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def parse(pairs: list[str], known: dict[str, Any]) -> dict[str, msgspec.Raw]:
    """Return `key=value` pairs as a command carries them; values are JSON, or else plain text."""
    from config.removed import explain

    values: dict[str, msgspec.Raw] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            fail(f"{pair!r} is no setting: write key=value", USAGE)
        if sentence := explain(key):
            fail(sentence, USAGE)
        near("setting", key, known, "rift settings get")
        try:
            value = msgspec.json.decode(text.encode())
        except msgspec.DecodeError:
            value = text
        values[key] = msgspec.Raw(msgspec.msgpack.encode(value))
    return values


@app.command()
def get(key: Annotated[str, typer.Argument(help="Key, or its first part.")] = "", as_json: AsJson = False) -> None:
    """Show settings in force."""
    view = ask("settings")
    known = flat(view["effective"])
    found = {name: value for name, value in known.items() if name == key or not key or name.startswith(f"{key}.")}
    if not found:
        near("setting", key, known, "rift settings get")
    if as_json:
        show_json({"version": view["version"], "values": found})
    else:
        show_table(f"settings, version {view['version']}", ("key", "value"), found.items())


@app.command("set")
def set_(
    pairs: Annotated[list[str], typer.Argument(help="key=value …")],
    expected: Annotated[int, typer.Option(help="Only if the settings have this version.")] = -1,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Change settings, all or none."""
    from workqueue.machine.commands import PutSettings

    values = parse(pairs, flat(ask("settings")["effective"]))
    [outcome] = order(PutSettings(values, expected, reason))
    done(outcome, f"settings have version {outcome['version']}", as_json=as_json)


@app.command()
def diff(
    file: Annotated[Path | None, typer.Argument(help="A loop.yaml to compare with; none: the defaults.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show where the settings in force differ from the defaults, or from a file."""
    other = flat(msgspec.to_builtins(_whole(_other(file))))
    effective = flat(ask("settings")["effective"])
    found = {key: (other.get(key), value) for key, value in effective.items() if other.get(key) != value}
    name = "file" if file else "default"
    if as_json:
        show_json({key: {name: old, "value": new} for key, (old, new) in found.items()})
    elif not found:
        typer.echo(f"no setting differs from the {name}{'' if file else 's'}")
    else:
        show_table(
            "settings that differ", ("key", name, "in force"), ((k, old, new) for k, (old, new) in found.items())
        )


def _other(file: Path | None) -> LoopSettings:
    from config.errors import ConfigError
    from config.load import load
    from config.loop import LoopSettings

    try:
        return load(LoopSettings, file) if file else LoopSettings()
    except ConfigError as error:
        fail(str(error), USAGE)


def _whole(section: msgspec.Struct) -> dict[str, Any]:
    tree = ((name, getattr(section, name)) for name in section.__struct_fields__)
    return {
        name: _whole(value) if isinstance(value, msgspec.Struct) else list(value) if isinstance(value, tuple) else value
        for name, value in tree
    }
