"""Which cluster a command talks to, and how it answers: tables for people, JSON for programs, exit codes for scripts.

Exit codes: 0 done, 1 refused, 2 wrong usage or settings, 3 no voter answered, 4 not known whether it was done.
"""

from __future__ import annotations

import asyncio
import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from config.cluster import Section
from config.errors import AppError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from workqueue.client import Client
    from workqueue.machine.commands import AnyCommand

REFUSED, USAGE, UNAVAILABLE, UNKNOWN = 1, 2, 3, 4
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
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
    import yaml

    path = context_path()
    tree: dict[str, Any] = {}
    if path.exists():
        tree = yaml.safe_load(path.read_text()) or {}
    for name in ("token_file", "ca"):
        if value := os.environ.get(f"RIFT_{name.upper()}"):
            tree[name] = value
    if value := os.environ.get("RIFT_SERVERS"):
        tree["servers"] = value.split(",")
    if not tree:
        raise ConfigError(
            str(path), "does not exist; run `rift up`, or write `servers`, `token_file` and `ca` of your cluster there"
        )
    from config.load import convert

    return convert(Context, tree, str(path))


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


def near(what: str, given: str, known: Iterable[str]) -> str:
    """Return the name meant by `given`, or end the command with the nearest ones."""
    names = sorted(known)
    if given in names:
        return given
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(names[:12]) or 'none'}"
    fail(f"there is no {what} {given!r}; {hint}", USAGE)


def show_json(value: object) -> None:
    """Print JSON."""
    typer.echo(msgspec.json.format(msgspec.json.encode(value)).decode())


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    Console().print(table)


def show_map(tree: dict[str, Any]) -> None:
    """Print a map, one key a line."""
    show_table("", ("field", "value"), ((key, value) for key, value in tree.items() if value not in ("", None, [], {})))


def short(digest: str) -> str:
    """Return the part of a SHA-256 that people need."""
    return digest[:10]


def when(at_ms: int) -> str:
    """Return a time for people, UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S") if at_ms else "-"
