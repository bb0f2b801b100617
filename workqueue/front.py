"""The front process of a voter: HTTP, the clients' stream, pages, artifacts, and the leader's duties."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from config.cluster import TOKEN_KEY
from workqueue.corelink import SOCKET, CoreLink, socket_path
from workqueue.duties.runner import all_duties, run_duties
from workqueue.errors import EXIT_FAILED, ProcessFailure
from workqueue.http.app import make_app
from workqueue.http.auth import Tokens
from workqueue.http.context import FrontContext, Leader
from workqueue.http.door import IDLE_S, DoorSite
from workqueue.liveness import liveness
from workqueue.metrics import Metrics
from workqueue.peers import Peers
from workqueue.process import VoterConfig, allow_files, run_process, say_ready
from workqueue.routing import Router
from workqueue.security import read_secret
from workqueue.store import keep_swept
from workqueue.stores import open_store
from workqueue.tls import server_context, voter_client_context
from workqueue.transfer import Holders

if TYPE_CHECKING:
    from pathlib import Path

_SHUTDOWN_S = 2.0
log = structlog.get_logger()


def wall_ms() -> int:
    """Return milliseconds since 1970."""
    return time.time_ns() // 1_000_000


async def serve(config: VoterConfig) -> None:
    """Run until cancelled; raises ProcessFailure when the core goes away."""
    async with contextlib.AsyncExitStack() as stack:
        context = await _compose(config, stack)
        _count_terms(context)
        context.membership, context.presence = await stack.enter_async_context(
            liveness(config, context.core, context.peers)
        )
        base = config.folder
        context.store = open_store(config.cluster.store, config.data / "artifacts", base)
        context.extra_status["store"] = context.store.usage
        stack.push_async_callback(_cancel, asyncio.create_task(keep_swept(context.store)))
        others = {voter.id: voter.http for voter in config.cluster.voters if voter.id != config.voter.id}
        context.holders = Holders(others, context.peers.session, context.peers.tls)
        duties = asyncio.create_task(run_duties(context, all_duties(), wall_ms))
        stack.push_async_callback(_cancel, duties)
        context.extra_status["sockets"] = context.door.usage
        runner = web.AppRunner(
            make_app(context), access_log=None, shutdown_timeout=_SHUTDOWN_S, keepalive_timeout=IDLE_S
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        me = config.cluster.voter(config.voter.id)
        tls = server_context(config.cert, config.key, config.ca)
        allow_files(config.cluster.limits.sockets_max)
        await DoorSite(runner, context.door, me.host, me.http_port, tls).start()
        say_ready()
        log.info("front.serving", url=me.http)
        await context.core.closed
        raise ProcessFailure("the core process is gone", EXIT_FAILED)


async def _compose(config: VoterConfig, stack: contextlib.AsyncExitStack) -> FrontContext:
    core = CoreLink(config.voter.id)
    try:
        await core.connect(socket_path(config.run, SOCKET))
    except TimeoutError:
        raise ProcessFailure("the core process does not answer on its socket", EXIT_FAILED) from None
    stack.push_async_callback(core.close)
    voters = config.cluster.voters
    tls = voter_client_context(config.cert, config.key, config.ca)
    peers = await stack.enter_async_context(Peers(config.voter.id, voters, tls))
    key = read_secret(config.folder / TOKEN_KEY)
    leader = Leader(Router(core, peers), config.voter.id)
    return FrontContext(
        config.cluster,
        config.voter,
        config.folder,
        core=core,
        peers=peers,
        leader=leader,
        tokens=Tokens(core, key, frozenset(voter.id for voter in voters), wall_ms, leader.tokens),
        metrics=Metrics(),
    )


def _count_terms(context: FrontContext) -> None:
    seen = {context.core.state.term}

    def look() -> None:
        if context.core.state.term > max(seen):
            seen.add(context.core.state.term)
            context.metrics.terms.inc()

    context.core.watch(look)


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def main(config: Path) -> int:
    """Run the front of the voter described by `config`; returns the exit code."""
    return run_process("front", ["--config", str(config)], serve)


if __name__ == "__main__":
    sys.exit(run_process("front", sys.argv[1:], serve))
