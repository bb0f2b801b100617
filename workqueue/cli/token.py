"""`rift token`: who may do what."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from workqueue.cli.context import AsJson, Reason, ask, call, done, near, order, show_json, show_table, when

if TYPE_CHECKING:
    from workqueue.client import Client

_DAY_MS = 86_400_000
app = typer.Typer(help="Create, list and revoke tokens.", no_args_is_help=True)


@app.command()
def create(
    role: Annotated[str, typer.Argument(help="admin, worker or read.")],
    label: Annotated[str, typer.Option(help="Whom it is for.")] = "",
    days: Annotated[int, typer.Option(min=0, max=36_500, help="Worthless after so many days; 0 = never.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Create a token; its text is shown once and kept nowhere."""
    near("role", role, ("admin", "worker", "read"))

    expires_ms = time.time_ns() // 1_000_000 + days * _DAY_MS if days else 0

    body = {"role": role, "label": label, "expires_ms": expires_ms}
    token = call(lambda client: _post(client, body))
    show_json(token) if as_json else typer.echo(token["token"])


async def _post(client: Client, body: dict[str, object]) -> dict[str, str]:
    """Create a token by the first voter that answers; the answer is the only place that ever shows it."""
    import aiohttp

    from workqueue.errors import Rejected, Unavailable

    tried = []
    for server in client.servers:
        try:
            async with client.session.post(f"{server}/v1/tokens", json=body, headers=client.headers) as answer:
                tree: dict[str, str] = msgspec.json.decode(await answer.read())
        except (aiohttp.ClientError, OSError) as error:
            tried.append(f"{server} ({str(error) or type(error).__name__})")
            continue
        if answer.status == 503:
            tried.append(f"{server} ({tree.get('detail', answer.status)})")
        elif answer.status != 201:
            raise Rejected(str(tree.get("code", answer.status)), str(tree.get("detail", answer.status)))
        else:
            return tree
    raise Unavailable(tried)


@app.command()
def ls(as_json: AsJson = False) -> None:
    """List tokens, without their hashes."""
    found = [{name: value for name, value in token.items() if name != "hash"} for token in ask("tokens")]
    if as_json:
        show_json(found)
        return
    now_ms = time.time_ns() // 1_000_000
    rows = ((t["id"], t["role"], t.get("label", ""), standing(t, now_ms), when(t.get("expires_ms", 0))) for t in found)
    show_table("tokens", ("id", "role", "label", "state", "expires"), rows)


def standing(token: dict[str, Any], now_ms: int) -> str:
    """Return whether a token lets anybody in."""
    if token.get("revoked_ms"):
        return "revoked"
    return "expired" if 0 < token.get("expires_ms", 0) <= now_ms else "valid"


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Id of a token, not the token.")],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a token worthless."""
    from workqueue.machine.commands import RevokeToken

    near("token", token, (each["id"] for each in ask("tokens")), "rift token ls")
    [outcome] = order(RevokeToken(token, reason))
    done(outcome, f"{token} is revoked", as_json=as_json)
