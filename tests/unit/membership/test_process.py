"""The gossip process that a parent keeps: it ends with its parent, and says farewell for it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from membership import process
from membership.api import MembershipError, State
from membership.memory import MemoryMembership, MemoryNetwork
from membership.process import Server, listen
from membership.remote import RemoteMembership
from membership.service import Gossip
from membership.settings import GossipSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


async def test_the_end_of_the_parent_is_a_farewell(tmp_path: Path) -> None:
    """SIGTERM does not end it, the end of its standard input does; the others see it leave, not die."""
    key = tmp_path / "gossip.key"
    key.write_bytes(bytes(range(32)))
    told: dict[str, Any] = {"bind": "127.0.0.1:0", "key_files": [str(key)], "period_ms": 100}
    async with Gossip(GossipSettings("voter-1", "b0", "voter", **told)) as voter:
        settings = GossipSettings("w", "b1", "worker", **told, seeds=[voter.address])
        file, path = tmp_path / "gossip.json", tmp_path / "gossip.sock"
        file.write_text(json.dumps(msgspec.to_builtins(settings)))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "membership.process", "--parent", "--settings", str(file), "--socket", str(path),
            stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with RemoteMembership(path) as remote:
                await until(lambda: len(remote.members(state=State.ALIVE)) == 2)
                child.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                assert child.returncode is None
                assert child.stdin
                child.stdin.close()
                async with asyncio.timeout(5):
                    assert await child.wait() == 0
            member = voter.get("w")
            assert member
            assert (member.boot_id, member.state) == ("b1", State.LEFT)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


@pytest.mark.parametrize(("name", "why"), [("x" * 200, "AF_UNIX path too long"), ("none/s", "No such file")])
def test_a_socket_that_cannot_be_made_is_named(tmp_path: Path, name: str, why: str) -> None:
    """With the system's reason and what to do."""
    with pytest.raises(MembershipError, match=f"{why}.*; choose another path"):
        listen(tmp_path / name)


def test_a_socket_is_its_users_alone(tmp_path: Path) -> None:
    """And takes the place of a former process's."""
    path = tmp_path / "s"
    for _ in range(2):
        with listen(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


@contextlib.asynccontextmanager
async def served(path: Path) -> AsyncIterator[tuple[MemoryMembership, MemoryMembership]]:
    """A member whose view is served on a socket, and another that changes."""
    network = MemoryNetwork()
    async with MemoryMembership(network, "a") as one, MemoryMembership(network, "b") as other:
        server = Server(one)
        listening = await asyncio.start_unix_server(server.accept, path)
        try:
            yield one, other
        finally:
            listening.close()
            await server.close()


async def test_a_client_that_hung_up_is_forgotten(tmp_path: Path) -> None:
    """Nobody gathers events for it."""
    path = tmp_path / "s"
    async with served(path) as (one, _):
        for _ in range(3):
            _, writer = await asyncio.open_unix_connection(path)
            await until(lambda: len(one._hub._subscriptions) == 1)
            writer.close()
            await until(lambda: not one._hub._subscriptions)


async def test_a_client_that_reads_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events would gather without bound; it connects anew when it is well again."""
    monkeypatch.setattr(process, "_BACKLOG_BYTES_MAX", 10_000)
    path = tmp_path / "s"
    async with served(path) as (one, other):
        _, writer = await asyncio.open_unix_connection(path)
        assert isinstance(writer.transport, asyncio.ReadTransport)
        writer.transport.pause_reading()
        await until(lambda: len(one._hub._subscriptions) == 1)
        async with asyncio.timeout(10):
            while one._hub._subscriptions:
                await other.set_metadata(text="x" * 400)
                await asyncio.sleep(0)
        writer.transport.abort()


async def test_so_many_clients_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is hung up on, the others are not."""
    monkeypatch.setattr(process, "_CLIENTS_MAX", 2)
    path = tmp_path / "s"
    async with served(path), RemoteMembership(path) as first, RemoteMembership(path) as second:
        reader, writer = await asyncio.open_unix_connection(path)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()
        assert len(first.members()) == len(second.members()) == 2
        assert first.connected


async def until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.02)
