"""Writes the reference part of docs/cli.md from the commands themselves: `python -m tests.packaging.reference`."""

from __future__ import annotations

import importlib
import typing
from pathlib import Path
from typing import Any

import typer.main

import rift

PAGE = Path(__file__).parents[2] / "docs/cli.md"
MARK = "## Reference\n"
_WORDS = {int: "N", float: "X", Path: "PATH"}
COMMON = {"json", "help", "install_completion", "show_completion"}


def text() -> str:
    """Return the page as it should be."""
    head = PAGE.read_text().partition(MARK)[0]
    intro = (
        "Made from the commands. Every command takes `--help`; those that talk to a cluster also take `--json`, where\n"
        "they answer with data, and `--server`, `--token-file` and `--ca`.\n"
    )
    parts = [_group(name, *entry) for name, entry in rift.COMMANDS.items()]
    return f"{head}{MARK}\n{intro}\n" + "\n".join(parts)


def _group(name: str, where: str, about: str) -> str:
    module, attribute = where.split(":")
    command = typer.main.get_command(rift._single(getattr(importlib.import_module(module), attribute)))
    lines = [f"### rift {name}", "", about, ""]
    below = getattr(command, "commands", {})
    if not below or any(_shown(param) for param in command.params):
        lines += _leaf(f"rift {name}", command)
    for each in below.values():
        if not each.hidden:
            lines += _leaf(f"rift {name} {each.name}", each)
    return "\n".join(lines)


def _leaf(name: str, command: Any) -> list[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    called = " ".join([name, *(_argument(argument) for argument in arguments)])
    about = " ".join((command.help or "").split())
    options = [f"  - {_option(p)}" for p in command.params if _shown(p)]
    explained = [f"  - `{p.name.upper()}`: {p.help}" for p in arguments if getattr(p, "help", None)]
    return [f"- **`{called}`** {about}", *explained, *options, ""]


def _shown(param: Any) -> bool:
    return (
        param.param_type_name == "option"
        and param.name not in COMMON
        and not param.hidden
        and "--json" not in param.opts
    )


def _argument(param: Any) -> str:
    name = param.name.upper() + ("…" if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(f"`{name}`" for name in [*param.opts, *param.secondary_opts])
    kind = "" if param.is_flag else f" {_WORDS.get(_inner(param.type_descriptor.annotation), 'TEXT')}"
    kind += " …" if param.multiple else ""
    default = param.default
    said = "" if default in (None, "", False, True, ()) or callable(default) else f" (default {_plain(default)})"
    return f"{names}{kind}: {param.help or ''}{said}"


def _inner(annotation: Any) -> Any:
    """Return what a list or an optional holds."""
    inner = [each for each in typing.get_args(annotation) if each is not type(None)]
    return _inner(inner[0]) if inner else annotation


def _plain(default: Any) -> str:
    return " ".join(map(str, default)) if isinstance(default, list | tuple) else str(default)


if __name__ == "__main__":
    PAGE.write_text(text())
