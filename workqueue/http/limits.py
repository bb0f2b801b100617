"""How many requests a caller may send a second, by token or, without one, by address."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from workqueue.admission import Bucket
from workqueue.http.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

CALLERS_MAX = 10_000
REQUEST_BYTES_MAX = 8 << 20  # of a body or a call: half of what the replicated log takes at once
REQUESTS_S_MAX = 20_000  # of a token or a connection: far beyond what a worker or a page sends


class Rates:
    """A token bucket a caller; the callers seen longest ago are forgotten.

    `token_id` names the token of a request if there is such a token: who made one up has the bucket of its address.
    """

    def __init__(self, token_id: Callable[[web.Request], str], rate: int = REQUESTS_S_MAX) -> None:
        self.rate = rate
        self._token_id = token_id
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def take(self, request: web.Request) -> None:
        """Count a request; raises Problem(429) beyond the rate."""
        caller = f"{request.remote}/{self._token_id(request)}"
        now = asyncio.get_running_loop().time()
        bucket = self._buckets.pop(caller, None) or Bucket(self.rate, now)
        self._buckets[caller] = bucket
        if len(self._buckets) > CALLERS_MAX:
            self._buckets.popitem(last=False)
        if retry_ms := bucket.take(1, now):
            raise Problem(429, "limit", f"more than {self.rate} requests a second; slow down", retry_ms=retry_ms)
