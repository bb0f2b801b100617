"""What a worker needs to take part in gossip, apart from the key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from membership.settings import SUSPICION_MULT
from workqueue.http.context import CONTEXT
from workqueue.peering import PATH, Peering

if TYPE_CHECKING:
    from workqueue.http.context import FrontContext


async def show(request: web.Request) -> web.Response:
    """Return the cluster's name, its pace of gossip and where voters gossip."""
    context = request.app[CONTEXT]
    await context.tokens.authenticate(request, "worker")
    settings = context.settings
    peering = Peering(
        settings.cluster_id,
        tuple(voter.gossip for voter in settings.voters),
        settings.gossip.period_ms,
        SUSPICION_MULT,
    )
    return web.Response(body=msgspec.json.encode(peering), content_type="application/json")


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this file."""
    del context
    return [web.get(PATH, show, allow_head=False)]
