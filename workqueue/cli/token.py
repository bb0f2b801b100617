"""`rift token`: who may do what."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from workqueue.cli.context import USAGE, AsJson, Reason, ask, call, done, fail, near, order, show_json, show_table, when

app = typer.Typer(help="Create, list and revoke tokens.", no_args_is_help=True)


@app.command()
def create(
    role: Annotated[str, typer.Argument(help="admin, worker or read.")],
    label: Annotated[str, typer.Option(help="Whom it is for.")] = "",
    as_json: AsJson = False,
) -> None:
    """Create a token; its text is shown once and kept nowhere."""
    from workqueue.client import Client

    near("role", role, ("admin", "worker", "read"))

    async def post(client: Client) -> dict[str, str]:
        body = {"role": role, "label": label}
        async with client.session.post(client.servers[0] + "/v1/tokens", json=body, headers=client.headers) as answer:
            text = await answer.read()
            if answer.status != 201:
                fail(f"the voter refused: {msgspec.json.decode(text).get('detail', answer.status)}", USAGE)
            found: dict[str, str] = msgspec.json.decode(text)
            return found

    token = call(post)
    show_json(token) if as_json else typer.echo(token["token"])


@app.command()
def ls(as_json: AsJson = False) -> None:
    """List tokens, without their hashes."""
    found = [{name: value for name, value in token.items() if name != "hash"} for token in ask("tokens")]
    if as_json:
        show_json(found)
        return
    rows = ((t["id"], t["role"], t.get("label", ""), "revoked" if t.get("revoked_ms") else "valid",
             when(t.get("expires_ms", 0))) for t in found)  # fmt: skip
    show_table("tokens", ("id", "role", "label", "state", "expires"), rows)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Id of a token, not the token.")],
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make a token worthless."""
    from workqueue.machine.commands import RevokeToken

    near("token", token, (each["id"] for each in ask("tokens")))
    [outcome] = order(RevokeToken(token, reason))
    done(outcome, f"{token} is revoked", as_json=as_json)
