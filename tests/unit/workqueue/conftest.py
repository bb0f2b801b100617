"""One voter in this process: real core server, real front over TLS on loopback, twin machine, in-memory log."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import uvloop
from aiohttp import web

from config.cluster import CA, TOKEN_KEY, ClusterSettings, VoterAddress, VoterSettings
from config.load import load
from consensus import MemoryReplica
from tests.unit.workqueue.twin import TwinMachine
from workqueue.client import Client
from workqueue.core_server import CoreServer
from workqueue.corelink import CoreLink
from workqueue.duties.bootstrap import first_tokens as first_token_commands
from workqueue.http.app import make_app
from workqueue.http.auth import Tokens
from workqueue.http.context import FrontContext, Leader
from workqueue.http.door import DoorSite
from workqueue.init import FIRST_TOKENS, Created, create
from workqueue.machine.commands import Request
from workqueue.machine.machine import Machine
from workqueue.metrics import Metrics
from workqueue.peers import Peers
from workqueue.routing import Router
from workqueue.security import read_secret
from workqueue.stores import open_store
from workqueue.tls import server_context, voter_client_context
from workqueue.transfer import Holders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Voter:
    """What a test of the service looks at."""

    def __init__(self, created: Created, machine: Any, replica: MemoryReplica, server: CoreServer) -> None:
        self.created = created
        self.machine = machine
        self.replica = replica
        self.server = server
        self.context: FrontContext
        self.url = ""

    def token(self, role: str) -> str:
        path = self.created.admin_token if role == "admin" else self.created.worker_token
        return path.read_text().strip()

    def client(self, role: str = "admin", deadline_s: float = 5.0) -> Client:
        return Client([self.url], token=self.token(role), ca=self.created.ca, deadline_s=deadline_s)


def first_tokens(created: Created) -> list[dict[str, object]]:
    import yaml

    return list(yaml.safe_load((created.folder / FIRST_TOKENS).read_text()))


@contextlib.asynccontextmanager
async def running_voter(folder: Path, *, real: bool = False) -> AsyncIterator[Voter]:
    """A voter with the twin machine, or with the real one."""
    created = create(folder, [VoterAddress("voter-1", "127.0.0.1", 0, 0, 0)])
    machine: Any = Machine() if real else TwinMachine(first_tokens(created))
    async with contextlib.AsyncExitStack() as stack:
        replica = await stack.enter_async_context(MemoryReplica(machine, node_id="voter-1"))
        if real:
            tokens = [Request("init", n, "", command) for n, command in enumerate(first_token_commands(folder))]
            await replica.propose([msgspec.msgpack.encode(request) for request in tokens])
        server = CoreServer(replica, machine)
        replica.on_role = lambda _: server.changed()
        path = str(folder / "core.sock")
        listener = await asyncio.get_running_loop().create_unix_server(server.connection, path)
        stack.callback(listener.close)
        pushing = asyncio.create_task(server.run())
        stack.callback(pushing.cancel)
        voter = Voter(created, machine, replica, server)
        await stack.enter_async_context(_front(voter, path, stack))
        yield voter


@contextlib.asynccontextmanager
async def _front(voter: Voter, core_path: str, closing: contextlib.AsyncExitStack) -> AsyncIterator[None]:
    folder = voter.created.folder
    cluster = load(ClusterSettings, voter.created.cluster)
    own = load(VoterSettings, voter.created.voters[0])
    core = CoreLink(own.id)
    await core.connect(core_path)
    closing.push_async_callback(core.close)
    cert, key, ca = folder / own.cert, folder / own.key, folder / CA
    async with Peers(own.id, cluster.voters, voter_client_context(cert, key, ca)) as peers:
        secret = read_secret(folder / TOKEN_KEY)
        leader = Leader(Router(core, peers, hold_s=0.3), own.id)
        voter.context = FrontContext(
            cluster,
            own,
            folder,
            core=core,
            peers=peers,
            leader=leader,
            tokens=Tokens(core, secret, frozenset({own.id}), lambda: 1_000, leader.tokens),
            metrics=Metrics(),
        )
        voter.context.store = open_store(cluster.store, folder / "artifacts", folder)
        voter.context.holders = Holders({}, peers.session)
        voter.context.extra_status["sockets"] = voter.context.door.usage
        runner = web.AppRunner(make_app(voter.context), access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        tls = server_context(cert, key, ca)
        await DoorSite(runner, voter.context.door, "127.0.0.1", 0, tls).start()
        voter.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield
        finally:
            await runner.cleanup()


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, type]:
    """Tests run on the event loop that voters run on."""
    del config, item
    return {"uvloop": uvloop.Loop}


@pytest.fixture
async def voter(tmp_path: Path) -> AsyncIterator[Voter]:
    async with running_voter(tmp_path) as running:
        yield running
