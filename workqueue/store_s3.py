"""Artifacts in an S3-compatible store: verified on a voter's disk first, then sent on as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import obstore
from obstore.exceptions import BaseError as ObjectStoreError
from obstore.store import S3Store as ObjectStore

from config.errors import ConfigError
from workqueue.blocks import BLOCK_BYTES
from workqueue.store import StoreError, is_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from obstore.store import S3Config

    from config.cluster import StoreSettings
    from workqueue.store import DiskStore, Upload


class Credentials(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that `store.credentials_file` names."""

    access_key_id: str
    secret_access_key: str
    region: str = "us-east-1"


class S3Store:
    """One store for all voters, so nothing is replicated between them."""

    shared = True

    def __init__(self, settings: StoreSettings, base: Path, staging: DiskStore) -> None:
        parts = urlsplit(settings.url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ConfigError("store.url", "must look like s3://bucket/prefix")
        self._prefix = parts.path.strip("/")
        self.staging = staging
        self._objects = _connect(settings, parts.netloc, base)

    def local(self, sha256: str) -> Path | None:
        """Nothing is kept in files here."""
        return None

    async def size(self, sha256: str) -> int | None:
        """Size of the stored object."""
        try:
            with _asking():
                return int((await obstore.head_async(self._objects, self._key(sha256)))["size"])
        except FileNotFoundError:
            return None

    async def offset(self, sha256: str) -> int:
        """Bytes of an unfinished upload to this voter."""
        return await self.staging.offset(sha256)

    async def begin(self, sha256: str, size: int, offset: int) -> Upload:
        """Go on with an upload to this voter's disk; `commit` sends it on."""
        return await self.staging.begin(sha256, size, offset)

    async def commit(self, sha256: str) -> None:
        """Send verified bytes on to the object store, then drop the file."""
        path = self.staging.local(sha256)
        if path is None:
            return
        try:
            await obstore.put_async(self._objects, self._key(sha256), path, chunk_size=8 << 20)
        except ObjectStoreError as error:
            raise StoreError(f"the object store refused the bytes: {error}") from error
        await self.staging.delete(sha256)

    async def room(self, sha256: str, size: int) -> Path:
        """Copies come by way of this voter's disk too."""
        return await self.staging.room(sha256, size)

    def adopt(self, path: Path, sha256: str) -> None:
        """Take a verified file in; `commit` sends it on."""
        self.staging.adopt(path, sha256)

    async def read(self, sha256: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `end`."""
        while start < end:
            stop = min(end, start + 8 * BLOCK_BYTES)
            with _asking():
                block = bytes(await obstore.get_range_async(self._objects, self._key(sha256), start=start, end=stop))
            start = stop
            yield block

    async def verify(self, sha256: str) -> bool:
        """Read the object back; one that is not what its name says is deleted."""
        size = await self.size(sha256)
        if size is None:
            return False
        digest = hashlib.sha256()
        async for block in self.read(sha256, 0, size):
            await asyncio.to_thread(digest.update, block)
        if digest.hexdigest() == sha256:
            return True
        await self.delete(sha256)
        return False

    async def delete(self, sha256: str) -> None:
        """Delete the object."""
        with _asking():
            await obstore.delete_async(self._objects, self._key(sha256))

    async def inventory(self) -> dict[str, int]:
        """Size of every object by name."""
        found: dict[str, int] = {}
        with _asking():
            async for page in obstore.list(self._objects, prefix=self._prefix or None):
                for item in page:
                    name = item["path"].rsplit("/", 1)[-1]
                    if is_name(name):
                        found[name] = int(item["size"])
        return found

    def sweep(self, older_than_s: float, now_s: float) -> list[str]:
        """Drop what waits on this voter's disk for long: uploads, and whole files that could not be sent on."""
        return self.staging.sweep(older_than_s, now_s) + self.staging.sweep_whole(older_than_s, now_s)

    def usage(self) -> dict[str, int]:
        """What waits on this voter's disk."""
        return self.staging.usage()

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}/{sha256[:2]}/{sha256}" if self._prefix else f"{sha256[:2]}/{sha256}"


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Put our own error in place of the library's; that there is no such object stays a FileNotFoundError."""
    try:
        yield
    except FileNotFoundError:
        raise
    except ObjectStoreError as error:
        raise StoreError(f"the object store does not answer: {error}") from error


def _connect(settings: StoreSettings, bucket: str, base: Path) -> ObjectStore:
    secret = Credentials("", "")
    if settings.credentials_file:
        path = base / settings.credentials_file
        try:
            secret = msgspec.yaml.decode(path.read_bytes(), type=Credentials)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError("store.credentials_file", f"{path} cannot be used: {error}") from error
    options: S3Config = {"region": secret.region}
    if secret.access_key_id:
        options["access_key_id"] = secret.access_key_id
        options["secret_access_key"] = secret.secret_access_key
    if settings.endpoint:
        options["endpoint"] = settings.endpoint
    return ObjectStore(bucket, config=options, client_options={"allow_http": settings.endpoint.startswith("http://")})
