"""Opens the artifact store that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workqueue.store import DiskStore

if TYPE_CHECKING:
    from pathlib import Path

    from config.cluster import StoreSettings
    from workqueue.store import ArtifactStore


def open_store(settings: StoreSettings, folder: Path, base: Path) -> ArtifactStore:
    """Return the store that the settings name; `folder` is the voter's own, `base` the one of the settings file."""
    disk = DiskStore(folder, quota_bytes=settings.quota_mb << 20, floor_bytes=settings.floor_mb << 20)
    if not settings.url:
        return disk
    from workqueue.store_s3 import S3Store  # only clusters with an object store need its library

    return S3Store(settings, base, staging=disk)
