"""Standing connections from this voter's front to the fronts of the other voters."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

import aiohttp

from workqueue.stream import StreamError
from workqueue.wslink import WsLink

if TYPE_CHECKING:
    import ssl

    import msgspec

    from config.cluster import VoterAddress
    from workqueue.stream import Calls

_PAUSE_S = 0.1
_PAUSE_S_MAX = 1.0


class Peers:
    """Keeps a connection to every other voter, so that a new leader is reached at once."""

    def __init__(self, me: str, voters: tuple[VoterAddress, ...], tls: ssl.SSLContext) -> None:
        self._others = [voter for voter in voters if voter.id != me]
        self.tls = tls
        self._links: dict[str, WsLink] = {}
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self.tls, limit=0))
        self._tasks = [asyncio.create_task(self._keep(voter)) for voter in self._others]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    def calls(self, voter_id: str) -> Calls | None:
        """The calls to a voter's front, or None while it cannot be reached."""
        link = self._links.get(voter_id)
        return link.calls if link else None

    @property
    def reachable(self) -> list[str]:
        """Ids of the voters that are connected now."""
        return sorted(self._links)

    async def changed(self) -> None:
        """Wait until a connection comes or goes."""
        await self._changed.wait()

    async def _keep(self, voter: VoterAddress) -> None:
        pause = _PAUSE_S
        while True:
            link = WsLink(self.session, voter.http, tls=self.tls, headers={}, on_push=_ignore)
            with contextlib.suppress(StreamError):
                async with link:
                    self._set(voter.id, link)
                    pause = _PAUSE_S
                    await link.closed.wait()
            self._set(voter.id, None)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSE_S_MAX)

    def _set(self, voter_id: str, link: WsLink | None) -> None:
        if link:
            self._links[voter_id] = link
        else:
            self._links.pop(voter_id, None)
        event, self._changed = self._changed, asyncio.Event()
        event.set()


def _ignore(op: str, body: msgspec.Raw) -> None:
    """A front tells a voter nothing that it does not know from its own core."""
    del op, body
