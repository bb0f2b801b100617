"""The front's one aiohttp application: routes of every module in this folder, errors, limits, headers."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

import workqueue.http
from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.history import keep
from workqueue.http.limits import REQUEST_BYTES_MAX
from workqueue.http.problem import Problem, of_stream
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()

_SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
}


def make_app(context: FrontContext) -> web.Application:
    """Return the application; a module of this folder takes part by having `routes(context)`."""
    app = web.Application(middlewares=[_errors, _headers], client_max_size=REQUEST_BYTES_MAX)
    app[CONTEXT] = context
    app.cleanup_ctx.append(keep)
    for module in sorted(found.name for found in pkgutil.iter_modules(workqueue.http.__path__)):
        make_routes = getattr(importlib.import_module(f"workqueue.http.{module}"), "routes", None)
        if make_routes is not None:
            app.add_routes(make_routes(context))
    return app


@web.middleware
async def _headers(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if not response.prepared:
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
    return response


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into problem+json, count it, and keep what is inside inside."""
    metrics = request.app[CONTEXT].metrics
    route = request.match_info.route.resource
    name = route.canonical if route else "none"
    try:
        request.app[CONTEXT].door.asked(request.protocol)
        request.app[CONTEXT].rates.take(request)
        response = await handler(request)
    except asyncio.CancelledError:
        raise
    except Problem as problem:
        response = problem.response()
    except StreamError as error:
        response = of_stream(error).response()
    except web.HTTPException as error:
        response = _of_http(error).response() if error.status >= 400 else error
    except Exception:
        log.exception("http.failed", route=name)
        response = Problem(500, "internal", "the voter failed to answer; its log has the cause").response()
    metrics.requests.labels(name, str(response.status)).inc()
    return response


def _of_http(error: web.HTTPException) -> Problem:
    code = (error.reason or "error").lower().replace(" ", "_")
    sentence = {
        404: "there is nothing at this path; GET /v1/openapi.json lists what there is",
        405: "this path does not know that method; GET /v1/openapi.json lists what it knows",
        413: f"the body is larger than the {REQUEST_BYTES_MAX >> 20} MiB that are allowed",
    }.get(error.status, error.text or code)
    return Problem(error.status, code, sentence)
