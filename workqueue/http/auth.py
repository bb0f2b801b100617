"""Who is asking: bearer tokens from the replicated list, voters by certificate.

A token that this voter has not heard of may be one that the others made a moment ago, so it is refused only after the
leader's list was read. Where no leader answers the caller is told to try elsewhere (503), not that the token is wrong.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from workqueue.http.problem import Problem
from workqueue.security import Identity, may, token_id_of, token_matches
from workqueue.tls import voter_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohttp import web

    from workqueue.corelink import CoreLink

_BEARER = "bearer "
_PAUSE_S = 0.05  # from one reading of the leader's list to the next, so that made-up tokens cost it little


class Tokens:
    """Checks callers against the tokens that the core pushed, or else against the leader's list, by `read_list`."""

    def __init__(
        self,
        core: CoreLink,
        key: bytes,
        voters: frozenset[str],
        now_ms: Callable[[], int],
        read_list: Callable[[], Awaitable[Sequence[dict[str, Any]]]],
    ) -> None:
        self._core = core
        self._read_list = read_list
        self._ahead: dict[str, dict[str, Any]] = {}  # by id, as last read: what the core may still have to apply
        self._last: asyncio.Future[None] | None = None  # the reading that began last
        self._next: asyncio.Future[None] | None = None  # one that has not begun
        self._read_at = 0.0  # loop time at which the last one began
        self.key = key  # of the hashes
        self._voters = voters
        self._now_ms = now_ms
        self.known: Callable[[object], None] = lambda _: None  # told of connections on which a caller showed who it is

    def identify(self, request: web.Request) -> Identity | None:
        """Return who sent a request, None when it names nobody; raises Problem(401) for a token that does not hold."""
        if token := _bearer(request):
            return self.check(token)
        if request.headers.get("Authorization"):
            raise Problem(401, "unauthorized", "use `Authorization: Bearer <token>`")
        transport = request.transport
        voter = voter_of(transport.get_extra_info("peercert")) if transport else ""
        return Identity(f"voter:{voter}", "voter") if voter in self._voters else None

    def id_of(self, request: web.Request) -> str:
        """Return the id of the token that a request names, "" when there is no such token; nothing is proven by it."""
        token_id = token_id_of(_bearer(request))
        return token_id if token_id and self.knows(token_id) else ""

    async def authenticate(self, request: web.Request, role: str) -> Identity:
        """Return who sent a request if its role includes `role`.

        Raises Problem (401 or 403), or StreamError when the token is not known here and no leader can be asked.
        """
        await self._look_up(token_id_of(_bearer(request)))
        identity = self.identify(request)
        if identity is None:
            raise Problem(401, "unauthorized", "this needs a token: `Authorization: Bearer <token>`")
        if not may(identity.role, role):
            raise Problem(403, "forbidden", f"this needs the role `{role}`; the token has `{identity.role}`")
        self.known(request.protocol)
        return identity

    def check(self, token: str) -> Identity:
        """Return whose token it is; raises Problem(401)."""
        found = self._find(token_id_of(token))
        if found is None or not token_matches(self.key, token, str(found["hash"])):
            raise Problem(401, "unauthorized", "no such token; ask an admin for one (`rift token create`)")
        expires = int(found.get("expires_ms", 0))
        if found.get("revoked") or found.get("revoked_ms") or (expires and expires <= self._now_ms()):
            raise Problem(401, "unauthorized", "the token was revoked or has expired; ask an admin for another")
        label = str(found.get("label", "")) or str(found["id"])
        return Identity(f"{found['role']}:{label}", str(found["role"]), str(found["id"]))

    def knows(self, token_id: str) -> bool:
        """Whether a token of this id has reached this front and was not revoked."""
        found = self._find(token_id)
        return found is not None and not (found.get("revoked") or found.get("revoked_ms"))

    def still_valid(self, identity: Identity) -> bool:
        """Whether a connection that was let in may go on."""
        if not identity.token_id:
            return True
        found = self._find(identity.token_id)
        if found is None or found.get("revoked") or found.get("revoked_ms"):
            return False
        expires = int(found.get("expires_ms", 0))
        return not expires or expires > self._now_ms()

    async def _look_up(self, token_id: str) -> None:
        """Have the leader's list read if this token is not known; all that come before a reading begins share it."""
        if not token_id or self._find(token_id):
            return
        if self._next is None:
            self._next = asyncio.ensure_future(self._read())
        await asyncio.shield(self._next)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        if self._last:
            await asyncio.wait([self._last])
            await asyncio.sleep(self._read_at + _PAUSE_S - loop.time())
        self._last, self._next = self._next, None
        self._read_at = loop.time()
        self._ahead = {record["id"]: record for record in await self._read_list()}

    def _find(self, token_id: str) -> dict[str, Any] | None:
        for record in self._core.views.get("tokens", ()):
            if record.get("id") == token_id:
                return dict(record)
        return self._ahead.get(token_id)


def _bearer(request: web.Request) -> str:
    header = request.headers.get("Authorization", "")
    return header[len(_BEARER) :].strip() if header[: len(_BEARER)].lower() == _BEARER else ""
