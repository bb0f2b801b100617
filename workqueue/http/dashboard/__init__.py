"""`/` and `/dashboard`: the status page, static files without a build step.

What it shows comes over `/v1/events?status=1`, `/v1/history`, `/v1/models` and `/v1/audit`, with the token that its
reader typed; the page itself holds nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from workqueue.http.context import FrontContext

_FOLDER = Path(__file__).parent
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
_FILES = {path.name: _KINDS[path.suffix] for path in _FOLDER.iterdir() if path.suffix in _KINDS}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def _answer(name: str, kind: str) -> web.Response:
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return web.Response(body=(_FOLDER / name).read_bytes(), content_type=kind, charset="utf-8", headers=headers)


async def page(request: web.Request) -> web.Response:
    """Return the page itself; it holds no data."""
    del request
    return _answer("page.html", "text/html")


async def file(request: web.Request) -> web.Response:
    """Return a file of the page."""
    name = request.match_info["name"]
    if name not in _FILES:
        raise web.HTTPNotFound
    return _answer(name, _FILES[name])


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the routes of this folder."""
    del context
    return [web.get("/", page), web.get("/dashboard", page), web.get("/dashboard/{name}", file)]
