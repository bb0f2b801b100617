"""How fast bytes may pass: a connection, a provider of machines, a job. Workers say which they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workqueue.blocks import Shares, Throttle
from workqueue.transfer import JOB, PROVIDER

if TYPE_CHECKING:
    from aiohttp import web

    from config.cluster import StoreSettings


class Bandwidth:
    """The limits of one voter; connections of one provider or one job share theirs."""

    def __init__(self, settings: StoreSettings) -> None:
        self._kbps = settings.kbps_max
        self._providers = {name: Throttle(kbps) for name, kbps in self._kbps.items()}
        self._jobs = Shares(self._kbps.get("job", 0))

    def throttles(self, request: web.Request) -> list[Throttle]:
        """Return what a transfer has to wait for, nothing when it is unlimited."""
        found = []
        if kbps := self._kbps.get("connection", 0):
            found.append(Throttle(kbps))
        if provider := self._providers.get(f"provider:{request.headers.get(PROVIDER, '')}"):
            found.append(provider)
        if "job" in self._kbps and (job := request.headers.get(JOB, "")[:200]):
            found.append(self._jobs.of(job))
        return found
