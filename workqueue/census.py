"""Every voter's own view of the cluster, asked one by one, for commands that compare them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from workqueue.client import Client
from workqueue.errors import ClientError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ASK_S = 5.0


class Answer(msgspec.Struct, frozen=True):
    """What one voter says, or why it says nothing."""

    url: str
    document: dict[str, Any] | None
    reason: str = ""
    clock_ahead_ms: int = 0  # of its clock against ours, as well as the round trip lets us know
    clock_doubt_ms: int = 0  # half of the round trip

    @property
    def name(self) -> str:
        """Its id if it answered, else its address."""
        return str(self.document["voter"]) if self.document else self.url

    @property
    def consensus(self) -> dict[str, Any]:
        """The consensus part of its answer."""
        assert self.document is not None
        found: dict[str, Any] = self.document["consensus"]
        return found


async def ask_all(urls: Sequence[str], token: str, ca: Path | None) -> list[Answer]:
    """Return the answer of each voter at these URLs, in order."""
    return list(await asyncio.gather(*(_ask(url, token, ca) for url in urls)))


async def _ask(url: str, token: str, ca: Path | None) -> Answer:
    async with Client([url], token=token, ca=ca, deadline_s=ASK_S) as client:
        try:
            await client.get("/health")  # so that the handshake is not part of the round trip
            sent_ms = time.time_ns() // 1_000_000
            document = await client.status()
        except ClientError as error:
            return Answer(url, None, str(error))
        got_ms = time.time_ns() // 1_000_000
    middle = (sent_ms + got_ms) // 2
    return Answer(url, document, "", int(document["clock_ms"]) - middle, (got_ms - sent_ms) // 2)


def differing_digests(answers: Sequence[Answer]) -> tuple[int, dict[str, str]]:
    """Return the newest index that several voters have a digest of, and the digests there by voter."""
    kept: dict[str, Mapping[str, str]] = {a.name: a.consensus["digests"] for a in answers if a.document}
    for index in sorted({int(i) for digests in kept.values() for i in digests}, reverse=True):
        at = {name: digests[str(index)] for name, digests in kept.items() if str(index) in digests}
        if len(at) > 1:
            return index, at
    return 0, {}
