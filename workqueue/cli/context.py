"""Which cluster a command talks to, and how it answers: tables for people, JSON for programs, exit codes for scripts.

Exit codes: 0 done, 1 refused, 2 wrong usage or settings, 3 no voter answered, 4 not known whether it was done.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from config.cluster import Section
from config.errors import AppError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from rich.table import Table

    from workqueue.client import Client
    from workqueue.machine.commands import AnyCommand

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
REFUSED, USAGE, UNAVAILABLE, UNKNOWN = 1, 2, 3, 4
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
_NAMED_MAX = 12
_PIPE_COLUMNS = 300
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]


class Context(Section, frozen=True):
    """`context.yaml`: the cluster that commands talk to. `RIFT_SERVERS`, `RIFT_TOKEN_FILE`, `RIFT_CA` go before it."""

    servers: tuple[str, ...]
    token_file: str
    ca: str = ""


def context_path() -> Path:
    """Return where the context is: RIFT_CONTEXT, the folder that `rift up` made here, or the user's own."""
    if named := os.environ.get("RIFT_CONTEXT"):
        return Path(named)
    local = Path("data/context.yaml")
    return local if local.exists() else Path.home() / ".config/rift/context.yaml"


def load_context() -> Context:
    """Return the context; raises ConfigError that says how to make one."""
    from config.load import convert

    path = context_path()
    tree = _file_of(path)
    for name in ("token_file", "ca"):
        if value := os.environ.get(f"RIFT_{name.upper()}"):
            tree[name] = value
    if value := os.environ.get("RIFT_SERVERS"):
        tree["servers"] = value.split(",")
    tree |= _flags
    missing = [name for name in ("servers", "token_file") if not tree.get(name)]
    if len(missing) == 2:
        raise ConfigError(
            str(path),
            "does not exist; run `rift up`, write `servers`, `token_file` and `ca` of your cluster there, or give "
            "--server, --token-file and --ca",
        )
    if missing:
        flag = "--server" if missing == ["servers"] else "--token-file"
        raise ConfigError(str(path), f"lacks `{missing[0]}`; add it, or give {flag}")
    return convert(Context, tree, str(path))


def _file_of(path: Path) -> dict[str, Any]:
    import yaml

    try:
        tree = (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ConfigError(str(path), f"is not YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "must be a map with `servers`, `token_file` and `ca`")
    return tree


# What --server, --token-file and --ca said; they go before environment and file.
_flags: dict[str, Any] = {}


def _keep(name: str) -> Callable[[Any], None]:
    def keep(value: Any) -> None:
        if value:
            _flags[name] = list(value) if isinstance(value, list) else str(value)

    return keep


def _flag(name: str, flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, callback=_keep(name), expose_value=False, rich_help_panel="Which cluster")


def _bearer(
    server: Annotated[list[str] | None, _flag("servers", "--server", "URL of a voter; give several.")] = None,
    token_file: Annotated[Path | None, _flag("token_file", "--token-file", "File that holds a token.")] = None,
    ca: Annotated[Path | None, _flag("ca", "--ca", "The cluster's CA certificate.")] = None,
) -> None:
    """Bear the flags, so that they are made as those of any command are."""


def add_flags(command: Any) -> None:
    """Let a command, and all below it, take the flags that say which cluster it talks to."""
    bearer = typer.Typer(add_completion=False)
    bearer.command()(_bearer)
    flags = [each for each in typer.main.get_command(bearer).params if each.name != "help"]
    _extend(command, flags)


def _extend(command: Any, flags: list[Any]) -> None:
    command.params.extend(flags)
    for below in getattr(command, "commands", {}).values():
        _extend(below, flags)


def make_client(context: Context, deadline_s: float = 10.0) -> Client:
    """Return a client for the context's cluster."""
    from workqueue.client import Client
    from workqueue.security import read_secret

    token = read_secret(Path(context.token_file)).decode()
    return Client(context.servers, token=token, ca=Path(context.ca) if context.ca else None, deadline_s=deadline_s)


def call(work: Callable[[Client], Awaitable[Any]]) -> Any:
    """Run `work` with a client; an error ends the command with its sentence and exit code."""
    from workqueue.errors import Rejected, Unavailable, Unknown

    async def run() -> Any:
        async with make_client(load_context()) as client:
            return await work(client)

    try:
        return asyncio.run(run())
    except Unavailable as error:
        fail(str(error), UNAVAILABLE)
    except Unknown as error:
        fail(str(error), UNKNOWN)
    except Rejected as error:
        fail(str(error), REFUSED)
    except AppError as error:
        fail(str(error), USAGE)


def ask(name: str, **args: object) -> Any:
    """Return a view as plain maps and lists."""
    found = call(lambda client: client.query(name, **args))
    if isinstance(found, dict) and found.get("type") == "Refused":
        fail(str(found["message"]), REFUSED)
    return found


def order(*commands: AnyCommand) -> list[dict[str, Any]]:
    """Propose commands and return their outcomes; the first refusal ends the command."""
    outcomes = call(lambda client: client.submit(*commands))
    plain: list[dict[str, Any]] = [msgspec.to_builtins(outcome) for outcome in outcomes]
    for outcome in plain:
        if outcome.get("type") == "Refused":
            now = f" (now: {outcome['current']})" if outcome.get("current") else ""
            fail(f"{outcome['message']}{now}", REFUSED)
    return plain


def done(outcome: dict[str, Any], text: str, *, as_json: bool) -> None:
    """Say what was done."""
    if as_json:
        show_json(outcome)
    else:
        typer.echo(text)


def fail(sentence: str, code: int) -> NoReturn:
    """End the command with one sentence."""
    typer.echo(f"rift: {sentence}", err=True)
    raise typer.Exit(code)


def near(what: str, given: str, known: Iterable[str], listed_by: str = "") -> str:
    """Return the name meant by `given`, or end the command with the nearest ones; `listed_by` is what lists them."""
    names = sorted(known)
    if given in names:
        return given
    fail(f"there is no {what} {given!r}; {hint(given, names, listed_by)}", USAGE)


def hint(given: str, names: Sequence[str], listed_by: str = "") -> str:
    """Return what a person may have meant: near names, else the few there are, else the command that lists them."""
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.6 if listed_by else 0.4)
    if close:
        return f"did you mean {', '.join(close)}?"
    if not names:
        return "there is none"
    if len(names) <= _NAMED_MAX or not listed_by:
        return f"known: {', '.join(names[:_NAMED_MAX])}"
    return f"`{listed_by}` lists what there is"


def show_json(value: object) -> None:
    """Print JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    from rich.table import Table as Made

    table = Made(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    print_table(table)


def print_table(table: Table) -> None:
    """Print a table that is made."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS  # whoever searches the output finds words whole
    console.print(table)


def show_map(tree: dict[str, Any]) -> None:
    """Print a map, one key a line."""
    show_table("", ("field", "value"), ((key, value) for key, value in tree.items() if value not in ("", None, [], {})))


def brief(text: str) -> str:
    """Return a text whose SHA-256 digests are shortened."""
    return _DIGEST.sub(lambda found: short(found[0]), text)


def short(digest: str) -> str:
    """Return the part of a SHA-256 that people need."""
    return digest[:10]


def when(at_ms: int) -> str:
    """Return a time for people, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S") if at_ms else "-"
