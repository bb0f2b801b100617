"""What it takes to reach a voter's port as somebody else."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

import msgspec
from cluster import commit, put, until

from consensus import Replica, transport
from consensus.transport import Hello


class Attack:
    """Three healthy voters, and what it takes to reach one of them."""

    def __init__(self, folder: Path, voters: list[Replica]) -> None:
        self.folder, self.voters = folder, voters
        self.leader = next(v for v in voters if v.role().is_leader)
        self.victim = voters[0]  # the others dial it
        self.port = int(self.victim.settings.address.rsplit(":", 1)[1])
        self.wire: Any = self.victim._transport
        self.held: list[asyncio.StreamWriter] = []
        self._written = 0

    def context(self, name: str | None, folder: Path | None = None) -> ssl.SSLContext:
        folder = folder or self.folder / "tls"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if name is not None:
            context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
        return context

    async def connect(self, context: ssl.SSLContext | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=context)
        self.held.append(writer)
        return reader, writer

    async def dropped(self, reader: asyncio.StreamReader, seconds: float = 5.0) -> bytes:
        """Wait until the voter ends the connection; return what it said before."""
        said = b""
        async with asyncio.timeout(seconds):
            with contextlib.suppress(OSError):
                while data := await reader.read(1 << 16):
                    said += data
        return said

    def life(self, voter: str) -> str:
        """The uuid under which the victim knows a voter."""
        return str(self.wire._accept_uuid.__self__._uuids[voter])

    async def still_serves(self) -> None:
        """All three voters are linked, and a write reaches each of them."""
        self._written += 1
        await until(lambda: all(len(v._transport._links) == 2 for v in self.voters))
        await commit(self.voters, [put(f"k{self._written}", client="healthy", seq=self._written)])
        assert all(v.failure is None for v in self.voters)


def hello(**changes: Any) -> bytes:
    """A frame that says who speaks."""
    fields = {"protocol": transport.PROTOCOL, "cluster_id": "test", "node_id": "v1", "uuid": "other"} | changes
    return framed(msgspec.msgpack.encode(Hello(**fields)))


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "little") + data
