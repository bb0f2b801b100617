"""`rift loop`, `rift halt`, `rift resume`: the improvement loop, what it would do next, and what stops it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
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
    show_json,
    show_table,
)
from workqueue.schema import BOARDS, KINDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from workqueue.client import Client
    from workqueue.duties.improve import Look, Source

app = typer.Typer(help="Start, stop and look at the improvement loop.", no_args_is_help=True)
halt_app = typer.Typer(help="Stop claims of a kind, a config or all.")
resume_app = typer.Typer(help="End a halt.")
Scope = Annotated[str, typer.Argument(help="A kind, a config as square8_2p, or * for all.")]
Configs = Annotated[list[str] | None, typer.Argument(help="Configs as square8_2p, or `all` for every board and count.")]
ALL = tuple(f"{board}_{players}p" for board in BOARDS for players in (2, 3, 4))


def _known(scope: str) -> str:
    configs = (row["config"] for row in ask("loop")["configs"])
    return near("kind or config", scope, {"*", *ALL, *KINDS, *configs, *(kind["name"] for kind in ask("kinds"))})


def _named(configs: list[str] | None) -> tuple[str, ...]:
    """Return the configs meant; none given means all that the loop works on."""
    if not configs:
        return ()
    return ALL if "all" in configs else tuple(near("config", config, ALL) for config in configs)


@app.command("halt")
@halt_app.command()
def halt(scope: Scope = "*", reason: Reason = "halted by hand", as_json: AsJson = False) -> None:
    """Stop claims; running jobs go on."""
    from workqueue.machine.commands import Halt

    [outcome] = order(Halt(_known(scope), reason))
    done(outcome, f"claims of {scope} are halted", as_json=as_json)


@app.command("resume")
@resume_app.command()
def resume(scope: Scope = "*", reason: Reason = "", as_json: AsJson = False) -> None:
    """End a halt."""
    from workqueue.machine.commands import Resume

    near("halted scope", scope, (halt["scope"] for halt in ask("loop")["halts"]))
    [outcome] = order(Resume(scope, reason))
    done(outcome, f"{scope} goes on", as_json=as_json)


@app.command()
def start(configs: Configs = None, reason: Reason = "", as_json: AsJson = False) -> None:
    """Have the loop improve configs, and end their halts; without a name, end the halt of all."""
    names = _named(configs)
    settings = ask("settings")
    halted = {halt["scope"] for halt in ask("loop")["halts"]}
    now = settings["effective"]["configs"]
    _change(settings["version"], [*now, *(name for name in names if name not in now)], now, reason or "started by hand")
    for scope in names or ("*",):
        if scope in halted:
            _resume(scope, reason)
    _say(f"the loop improves {', '.join(names) or 'what it did before'}", as_json=as_json)


@app.command()
def stop(configs: Configs = None, reason: Reason = "stopped by hand", as_json: AsJson = False) -> None:
    """Have the loop leave configs alone: what is queued is finished, nothing is added. Without a name, halt all."""
    names = _named(configs)
    if not names:
        halt("*", reason, as_json=as_json)
        return
    settings = ask("settings")
    now = settings["effective"]["configs"]
    if not set(names) & set(now):
        fail(f"the loop does not work on {', '.join(names)}; it works on {', '.join(now) or 'nothing'}", REFUSED)
    _change(settings["version"], [name for name in now if name not in names], now, reason)
    _say(f"the loop adds nothing more for {', '.join(names)}", as_json=as_json)


def _change(version: int, configs: list[str], now: list[str], reason: str) -> None:
    from workqueue.machine.commands import PutSettings

    if configs != list(now):
        order(PutSettings({"configs": msgspec.Raw(msgspec.msgpack.encode(configs))}, version, reason))


def _resume(scope: str, reason: str) -> None:
    from workqueue.machine.commands import Resume

    order(Resume(scope, reason))


def _say(text: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"configs": ask("settings")["effective"]["configs"]})
    else:
        typer.echo(text)


@app.command()
def status(configs: Configs = None, as_json: AsJson = False) -> None:
    """Show games, trainings, candidates and champion of each config."""
    found, names = ask("loop"), _named(configs)
    found["configs"] = [row for row in found["configs"] if not names or row["config"] in names]
    if as_json:
        show_json(found)
        return
    columns = ("config", "games", "new", "trainings", "loss", "matches", "promotions", "candidate", "champion", "elo")
    rows = [
        (
            row["config"], row["games"], row["games_new"], row["trainings"], f"{row['loss_milli'] / 1000:.3f}",
            row["matches"], row["promotions"], _tested(row), row["champion"][:10] or "none yet",
            row["elo_milli"] // 1000,
        )
        for row in found["configs"]
    ]  # fmt: skip
    show_table(f"{found['workers']} workers, {found['slots']} slots", columns, rows)
    for row in found["configs"]:
        if row["halted"]:
            typer.echo(f"{row['config']} is halted: {row['halted']}")


def _tested(row: dict[str, Any]) -> str:
    """Say which candidate is being tested, and since when."""
    if not row["candidates"]:
        return "none"
    newest = row["candidates"][-1]
    return f"{newest['sha256'][:10]} for {max(0, _now_ms() - newest['created_ms']) // 60_000} min"


@app.command()
def explain(
    config: Annotated[str, typer.Argument(help="As square8_2p.")],
    as_json: AsJson = False,
) -> None:
    """Show the sum by which configs are chosen, term by term, and the room that it gives this one."""
    from workqueue.duties import priority

    seen: Look = _look(near("config", config, {*ALL, *(row["config"] for row in ask("loop")["configs"])}))
    terms, room = seen.scores[config], seen.rooms.get(config)
    if as_json:
        rows = [msgspec.to_builtins(term) | {"part": term.part} for term in terms]
        show_json({"config": config, "terms": rows, "sum": priority.total(terms), "room": msgspec.to_builtins(room)})
        return
    shown = ((t.name, t.value, t.weight, t.part, t.why) for t in terms)
    title = f"{config}: {priority.total(terms)} of 1000"
    show_table(title, ("term", "value", "weight", "part", "because"), shown)
    if room is None:
        reason = next((row.halted for row in seen.loop.configs if row.config == config and row.halted), "")
        typer.echo(f"no room: {f'halted: {reason}' if reason else 'it is not among the settings `configs`'}")
    else:
        total = sum(each.selfplay for each in seen.rooms.values())
        typer.echo(
            f"room for {room.selfplay} self-play jobs of {total} in all, {room.selfplay_device} more on devices, "
            f"{room.tournament} tournament"
        )


@app.command()
def plan(
    configs: Configs = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As always: the leader alone carries a plan out.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what the leader would add and change now, and why; nothing is changed."""
    from workqueue.duties import improve

    del dry_run
    names = _named(configs)

    async def work(source: Source) -> list[dict[str, Any]]:
        seen = await improve.look(source, _now_ms())
        rows = []
        for view in seen.loop.configs if seen else ():
            if seen and view.config in seen.rooms and (not names or view.config in names):
                rows += [_row(view.config, decision) for decision in await improve.decide(source, seen, view)]
        return rows

    found = _ask_all(work)
    if as_json:
        show_json(found)
        return
    if not found:
        typer.echo("the leader would do nothing now: the queue holds what it should")
        return
    columns = ("config", "what", "job", "because")
    show_table("what the leader would do now", columns, ([row[k] for k in row] for row in found))


def _row(config: str, decision: Any) -> dict[str, Any]:
    command = decision.command
    jobs = [spec.id for spec in getattr(command, "jobs", ())]
    subject = jobs[0] if jobs else str(getattr(command, "sha256", ""))[:12] or str(getattr(command, "scope", ""))
    return {"config": config, "what": type(command).__name__, "job": subject, "because": decision.why}


def _look(config: str) -> Look:
    """Return the look that the leader would have, with the config in it even if nothing is known of it yet."""
    from workqueue.duties import improve

    async def work(source: Source) -> Look | None:
        return await improve.look(source, _now_ms())

    seen: Look | None = _ask_all(work)
    if seen is None:
        fail("the cluster has no settings yet; wait a moment", REFUSED)
    if config not in seen.scores:
        fail(f"nothing is known of {config} yet; `rift loop start {config}` adds it", REFUSED)
    return seen


def _ask_all(work: Callable[[Source], Awaitable[Any]]) -> Any:
    """Run `work` with a client as the source of views."""
    from workqueue.errors import Rejected

    class ClientSource:
        def __init__(self, client: Client) -> None:
            self.query_as = client.query_as
            self._client = client

        async def find(self, name: str, /, **args: object) -> Any:
            try:
                return await self._client.query(name, **args)
            except Rejected as error:
                if error.code != "not_found":
                    raise
                return None

    return call(lambda client: work(ClientSource(client)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
