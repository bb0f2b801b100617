"""Voters that only keep artifacts: the real routes over loopback, with a registry in memory in place of the log."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp import web

from config.cluster import ClusterSettings, LimitSettings, StoreSettings, VoterAddress
from workqueue.http.artifacts import routes
from workqueue.machine.commands import DropHolder, RegisterArtifact
from workqueue.machine.outcomes import Changed
from workqueue.store import DiskStore
from workqueue.transfer import Holders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class Registry:
    holders: dict[str, set[str]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    async def propose(self, *commands: object) -> list[object]:
        for command in commands:
            match command:
                case RegisterArtifact(artifact=ref, holders=holders):
                    self.holders.setdefault(ref.sha256, set()).update(holders)
                    self.sizes[ref.sha256] = ref.size_bytes
                case DropHolder(sha256=sha256, holder=holder):
                    self.holders[sha256].discard(holder)
        return [Changed() for _ in commands]


@dataclass
class Voter:
    voter_id: str
    settings: ClusterSettings
    store: Any
    registry: Registry
    url: str = ""
    holders: Any = None
    runner: Any = None
    tokens: tuple[str, ...] = ("w", "voter")

    async def authenticate(self, request: web.Request, role: str) -> str:
        given = request.headers.get("Authorization", "Bearer voter").removeprefix("Bearer ")
        if given not in self.tokens or (role == "voter" and given != "voter"):
            raise web.HTTPUnauthorized
        return given

    async def propose(self, *commands: Any) -> list[Any]:
        return await self.registry.propose(*commands)

    async def query(self, name: str, /, **args: object) -> Any:
        assert name == "artifact"
        known = self.registry.holders.get(str(args["sha256"]))
        return None if known is None else {"holders": sorted(known)}

    async def stop(self) -> None:
        await self.runner.cleanup()


@dataclass
class Http:
    session: aiohttp.ClientSession
    servers: list[str]
    headers: dict[str, str] = field(default_factory=lambda: {"Authorization": "Bearer w"})


@dataclass
class Cluster:
    voters: list[Voter]
    registry: Registry
    http: Http


async def serve(voter: Voter) -> None:
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(routes(voter))  # type: ignore[arg-type]
    voter.runner = web.AppRunner(app, shutdown_timeout=0.1)
    await voter.runner.setup()
    site = web.TCPSite(voter.runner, "127.0.0.1", 0)
    await site.start()
    voter.url = f"http://127.0.0.1:{voter.runner.addresses[0][1]}"


@contextlib.asynccontextmanager
async def cluster_of(
    folder: Path, count: int = 3, store: StoreSettings | None = None, limits: LimitSettings | None = None
) -> AsyncIterator[Cluster]:
    names = [f"v{index}" for index in range(count)]
    settings = ClusterSettings(
        "test", tuple(VoterAddress(name, "127.0.0.1") for name in names), store=store or StoreSettings(floor_mb=1),
        limits=limits or LimitSettings(),
    )  # fmt: skip
    registry = Registry()
    voters = [
        Voter(
            name,
            settings,
            DiskStore(folder / name, quota_bytes=settings.store.quota_mb << 20, floor_bytes=1 << 20),
            registry,
        )
        for name in names
    ]
    async with aiohttp.ClientSession() as session:
        for voter in voters:
            await serve(voter)
        for voter in voters:
            others = {other.voter_id: other.url for other in voters if other is not voter}
            voter.holders = Holders(others, session)
        try:
            yield Cluster(voters, registry, Http(session, [voter.url for voter in voters]))
        finally:
            for voter in voters:
                await voter.stop()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_of(tmp_path / "voters") as made:
        yield made
