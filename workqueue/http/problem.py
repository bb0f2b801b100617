"""Errors of the HTTP API as problem+json (RFC 9457), and the one table from outcome codes to statuses."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from workqueue.machine.outcomes import Code, Refused

if TYPE_CHECKING:
    from workqueue.stream import StreamError

MEDIA_TYPE = "application/problem+json"

STATUS_OF_CODE: Final[dict[Code, int]] = {
    Code.MALFORMED: 400,
    Code.INVALID: 422,
    Code.NOT_FOUND: 404,
    Code.QUEUE_FULL: 429,
    Code.DUPLICATE: 409,
    Code.UNKNOWN_KIND: 422,
    Code.STALE_ATTEMPT: 409,
    Code.STALE_TOKEN: 409,
    Code.BUSY: 409,
    Code.CONFLICT: 409,
    Code.ARTIFACT_MISSING: 409,
    Code.INVALID_RESULT: 422,
    Code.QUARANTINED: 403,
    Code.VERSION: 409,
    Code.EXISTS: 409,
    Code.TRANSITION: 409,
}

STATUS_OF_STREAM: Final[dict[str, int]] = {
    "unavailable": 503,
    "not_leader": 503,
    "unknown": 503,
    "closed": 503,
    "forbidden": 403,
    "unauthorized": 401,
    "malformed": 400,
    "too_large": 413,
    "limit": 429,
}


class Problem(Exception):
    """An answer that is an error: status, a code that programs can rely on, and a sentence for people."""

    def __init__(self, status: int, code: str, detail: str, *, retry_ms: int = 0, current: str = "") -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.retry_ms = retry_ms
        self.current = current

    def response(self) -> web.Response:
        """Return the error as problem+json."""
        body: dict[str, object] = {"type": f"urn:riftq:{self.code}", "title": self.code.replace("_", " ")}
        body |= {"status": self.status, "code": self.code, "detail": str(self)}
        headers = {}
        if self.current:
            body["current"] = self.current
        if self.retry_ms:
            body["retry_ms"] = self.retry_ms
        if self.retry_ms or self.status in {429, 503}:
            headers["Retry-After"] = str(max(1, math.ceil(self.retry_ms / 1000)))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return web.Response(
            status=self.status, body=msgspec.json.encode(body), content_type=MEDIA_TYPE, headers=headers
        )


def of_refused(refused: Refused) -> Problem:
    """Return the problem that a refusal of the state machine is."""
    return Problem(
        STATUS_OF_CODE[refused.code],
        refused.code.value,
        refused.message,
        retry_ms=refused.retry_ms,
        current=refused.current,
    )


def of_stream(error: StreamError) -> Problem:
    """Return the problem that a failed call is."""
    codes = {code.value: status for code, status in STATUS_OF_CODE.items()}
    status = STATUS_OF_STREAM.get(error.code) or codes.get(error.code, 503)
    return Problem(status, error.code, str(error), retry_ms=error.retry_ms)
