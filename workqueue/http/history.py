"""`/v1/history`: the last hour in samples, kept in this front's memory so that a page can draw it at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from workqueue.http.context import CONTEXT, FrontContext
from workqueue.http.health import status_document
from workqueue.screen import games_a_second
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STEP_S = 10.0
SAMPLES_MAX = 360


class Sample(msgspec.Struct, frozen=True):
    """One moment; jobs that have ended are left out, because their number only grows."""

    at_ms: int
    jobs: dict[str, dict[str, int]]  # state -> kind -> count
    games: dict[str, int]  # by config, since ever
    games_s: float  # of the self-play that runs
    elo: dict[str, int]  # of each config's champion
    workers: int
    commit_p99_ms: float
    claim_p99_ms: float


_LIVE = frozenset({"available", "running", "scheduled", "retryable", "held"})


def sample_of(document: dict[str, Any]) -> Sample:
    """Return the sample that a /status document is."""
    state, latency = document["state"], document["latency"]
    configs = state.get("configs", ())
    return Sample(
        state.get("now_ms", 0),
        {name: kinds for name, kinds in state.get("jobs", {}).items() if name in _LIVE},
        {config["config"]: config["games"] for config in configs},
        round(games_a_second(state.get("running", ())), 3),
        {config["config"]: config["elo_milli"] // 1000 for config in configs if config["champion"]},
        sum(worker["live"] for worker in state.get("workers", ())),
        round(latency["commit"]["quantiles_s"].get("0.99", 0.0) * 1000, 3),
        round(latency["claim"]["quantiles_s"].get("0.99", 0.0) * 1000, 3),
    )


class History:
    """The newest samples."""

    def __init__(self, step_s: float = STEP_S) -> None:
        self.step_s = step_s
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    async def run(self, context: FrontContext) -> None:
        """Sample until cancelled; a moment without an answer of the core is a gap."""
        while True:
            with contextlib.suppress(StreamError):
                self.samples.append(sample_of(await status_document(context)))
            await asyncio.sleep(self.step_s)


HISTORY = web.AppKey("history", History)


async def keep(app: web.Application) -> AsyncIterator[None]:
    """Sample while the application runs."""
    app[HISTORY] = History()
    task = asyncio.create_task(app[HISTORY].run(app[CONTEXT]))
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def history(request: web.Request) -> web.Response:
    """Return the samples, oldest first."""
    await request.app[CONTEXT].tokens.authenticate(request, "read")
    kept = request.app[HISTORY]
    body = msgspec.json.encode({"step_s": kept.step_s, "samples": list(kept.samples)})
    return web.Response(body=body, content_type="application/json")


def routes(context: FrontContext) -> list[web.RouteDef]:
    """Return the route of this file."""
    del context
    return [web.get("/v1/history", history, allow_head=False)]
