"""How fast bytes may pass: a connection, a provider of machines, a job. Workers say which they are."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from workqueue.blocks import Throttle
from workqueue.transfer import JOB, PROVIDER

if TYPE_CHECKING:
    from aiohttp import web

    from config.cluster import StoreSettings

JOBS_MAX = 1_000  # whose rate is remembered; the ones seen longest ago are forgotten


class Bandwidth:
    """The limits of one voter; connections of one provider or one job share theirs."""

    def __init__(self, settings: StoreSettings) -> None:
        self._kbps = settings.kbps_max
        self._providers = {name: Throttle(kbps) for name, kbps in self._kbps.items()}
        self._jobs: OrderedDict[str, Throttle] = OrderedDict()

    def throttles(self, request: web.Request) -> list[Throttle]:
        """Return what a transfer has to wait for, nothing when it is unlimited."""
        found = []
        if kbps := self._kbps.get("connection", 0):
            found.append(Throttle(kbps))
        if provider := self._providers.get(f"provider:{request.headers.get(PROVIDER, '')}"):
            found.append(provider)
        if "job" in self._kbps and (job := request.headers.get(JOB, "")[:200]):
            found.append(self._of_job(job))
        return found

    def _of_job(self, job: str) -> Throttle:
        throttle = self._jobs.pop(job, None) or Throttle(self._kbps["job"])
        self._jobs[job] = throttle
        if len(self._jobs) > JOBS_MAX:
            self._jobs.popitem(last=False)
        return throttle
