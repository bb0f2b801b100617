"""The worker's client: its transfers keep to the machine's bandwidth and say whose they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workqueue.blocks import Throttle
from workqueue.client import Client
from workqueue.transfer import PROVIDER, ForJob, get_artifact, put_artifact

if TYPE_CHECKING:
    from config.cluster import WorkerSettings
    from workqueue.machine.commands import ArtifactRef
    from workqueue.transfer import Progress

_DEADLINE_S = 10.0


class WorkerClient(Client):
    """A client whose uploads together keep to a rate."""

    def __init__(self, settings: WorkerSettings, token: str) -> None:
        super().__init__(
            settings.join, token=token, ca=Path(settings.ca), actor=f"worker:{settings.id}", deadline_s=_DEADLINE_S
        )
        self._provider = settings.provider
        self._up = Throttle(settings.upload_kbps_max)

    @property
    def headers(self) -> dict[str, str]:
        """What authenticates a request, and who rents this machine out."""
        return super().headers | ({PROVIDER: self._provider} if self._provider else {})

    async def put_artifact(
        self,
        path: Path,
        *,
        kind: str,
        config: str = "",
        progress: Progress | None = None,
        job: str = "",
        sha256: str = "",
    ) -> ArtifactRef:
        """Store a file's bytes on the voters; raises CorruptArtifact when they are not what `sha256` says."""
        http = ForJob(self, job)
        return await put_artifact(
            http, path, kind=kind, config=config, sha256=sha256, progress=progress, throttle=self._up
        )

    async def get_artifact(self, sha256: str, path: Path, progress: Progress | None = None, *, job: str = "") -> None:
        """Fetch bytes by their name."""
        await get_artifact(ForJob(self, job), sha256, path, progress)
