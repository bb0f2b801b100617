"""What every handler of the front may use."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from workqueue.http.door import Door
from workqueue.http.limits import Rates
from workqueue.machine.commands import AnyCommand, Request
from workqueue.machine.outcomes import AnyOutcome, Code
from workqueue.stream import StreamError, decode_as

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from config.cluster import ClusterSettings, VoterSettings
    from workqueue.corelink import CoreLink
    from workqueue.http.auth import Tokens
    from workqueue.metrics import Metrics
    from workqueue.peers import Peers
    from workqueue.routing import Router

CONTEXT: web.AppKey[FrontContext]


class View(msgspec.Struct, frozen=True, array_like=True):
    """A view of the state as msgpack, the index it shows, and its age."""

    value: msgspec.Raw
    index: int
    age_ms: int


class Leader:
    """Proposals and linearizable reads, wherever the leader is."""

    def __init__(self, router: Router, voter_id: str) -> None:
        self.router = router
        self._voter_id = voter_id
        self._client = f"front-{voter_id}-{secrets.token_hex(6)}"
        self._ids = itertools.count(1)

    def request(self, command: AnyCommand, actor: str = "", key: tuple[str, int] | None = None) -> Request:
        """Wrap a command with a fresh request id, or with the caller's own key of exactly-once."""
        client, request_id = key or (self._client, next(self._ids))
        return Request(client, request_id, actor or f"voter:{self._voter_id}", command)

    async def propose(self, *commands: AnyCommand, actor: str = "") -> list[AnyOutcome]:
        """Propose commands in this voter's name; raises StreamError when no leader answers."""
        return await self.propose_requests([self.request(command, actor) for command in commands])

    async def propose_requests(self, requests: list[Request]) -> list[AnyOutcome]:
        """Propose requests as they are."""
        outcomes: list[AnyOutcome] = decode_as(list[AnyOutcome], await self.router.call("propose", requests))
        return outcomes

    async def query(self, name: str, args: Mapping[str, object]) -> View:
        """Return a view as of now."""
        view: View = decode_as(View, await self.router.call("query", (name, dict(args), "linear")))
        return view

    async def tokens(self) -> list[dict[str, Any]]:
        """Return the records of all tokens, with their hashes."""
        records: list[dict[str, Any]] = msgspec.msgpack.decode((await self.query("tokens", {})).value)
        return records


class FrontContext:
    """Composed once by the front; handlers receive it."""

    def __init__(
        self,
        settings: ClusterSettings,
        voter: VoterSettings,
        folder: Path,
        *,
        core: CoreLink,
        peers: Peers,
        leader: Leader,
        tokens: Tokens,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.voter = voter
        self.voter_id = voter.id
        self.folder = folder  # of cluster.yaml; paths in settings are relative to it
        self.data_dir = folder / voter.data
        self.core = core
        self.peers = peers
        self.leader = leader
        self.tokens = tokens
        self.metrics = metrics
        self.rates = Rates(tokens.id_of)
        self.door = Door(lambda: self.settings.limits)
        tokens.known = self.door.known
        self.membership: Any = None  # membership.api.Membership, when gossip runs
        self.presence: Any = None  # heartbeats of workers
        self.store: Any = None  # artifact bytes (workqueue.store)
        self.holders: Any = None  # other voters' artifact routes (workqueue.transfer)
        self.extra_status: dict[str, Any] = {}  # name -> function for the /status document

    async def view(self, name: str, args: Mapping[str, object] | None = None) -> View:
        """Return a view from the own core, perhaps a moment old."""
        view: View = decode_as(View, await self.core.call("query", (name, dict(args or {}), "stale")))
        return view

    async def query(self, name: str, /, **args: object) -> Any:
        """Return a view as of now as plain maps and lists, None when there is no such thing."""
        try:
            return msgspec.msgpack.decode((await self.leader.query(name, args)).value)
        except StreamError as error:
            if error.code == Code.NOT_FOUND.value:
                return None
            raise

    async def propose(self, *commands: AnyCommand) -> list[AnyOutcome]:
        """Propose commands as this voter."""
        return await self.leader.propose(*commands)

    async def authenticate(self, request: web.Request, role: str) -> str:
        """Return the actor of a request; raises Problem when it has not at least this role."""
        return (await self.tokens.authenticate(request, role)).actor


CONTEXT = web.AppKey("context", FrontContext)
