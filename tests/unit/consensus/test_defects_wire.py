"""Defects of the library on the wire and in its child: each shows the harm on it, and none on ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysyncobj.tcp_connection as stock_connection
import pytest
from cluster import commit, leader_of, put, settings_of, until
from pysyncobj import SyncObj, SyncObjConf
from pysyncobj.serializer import Serializer
from virtual import VirtualClock, World
from virtual_stock import Stock

from consensus import Replica, transport
from consensus import messages as m
from consensus.ledger import Ledger
from consensus.snapshot import ForkedChild
from consensus.transport import LinkTransport
from tests.ports import reserve_ports

WorldOf = Callable[..., World]


class _Poller:
    """Calls nobody by itself."""

    def subscribe(self, *_: object) -> None: ...

    def unsubscribe(self, *_: object) -> None: ...


class _Heard:
    """Notes what a transport tells."""

    def __init__(self) -> None:
        self.up: list[str] = []
        self.down: list[str] = []
        self.messages: list[m.Message] = []

    def connected(self, node_id: str) -> None:
        self.up.append(node_id)

    def disconnected(self, node_id: str) -> None:
        self.down.append(node_id)

    def receive(self, _node_id: str, message: m.Message) -> None:
        self.messages.append(message)

    def settle(self) -> None:
        """Nothing waits here."""


@contextlib.asynccontextmanager
async def linked_pair(tmp_path: Path, **tls: bool) -> Any:
    """Two transports of ours with a link between them."""
    pair = []
    for settings in settings_of(tmp_path, 2, **tls):
        one = LinkTransport(settings, "life", lambda _node, _uuid: True, time.monotonic)
        heard = _Heard()
        await one.start(heard)
        pair.append((one, heard))
    await until(lambda: all(h.up for _, h in pair))
    yield pair
    for one, _ in pair:
        await one.stop()


def test_defect_13_a_stock_link_that_was_idle_drops_the_first_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first message after some idle seconds is not sent: it ends the link, in every real election."""
    clock = VirtualClock()
    monkeypatch.setattr(stock_connection, "monotonicTime", clock.monotonic)
    here, there = socket.socketpair()
    here.setblocking(False)
    connection = stock_connection.TcpConnection(_Poller(), socket=here, timeout=3.5)
    connection.send("before")
    assert there.recv(4096)
    clock.now += 4
    connection.send("vote for me")
    assert connection.state == stock_connection.CONNECTION_STATE.DISCONNECTED
    assert there.recv(4096) == b""
    there.close()


async def test_defect_13_our_link_stays_up_while_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep-alive goes both ways: an idle link is as good as a busy one, and a dead one is noticed."""
    monkeypatch.setattr(transport, "PING_S", 0.05)
    monkeypatch.setattr(transport, "SILENCE_S", 0.3)
    async with linked_pair(tmp_path) as [(one, heard_one), (_, heard_other)]:
        await asyncio.sleep(0.9)
        assert one.send("v1", m.encode(m.Heartbeat(1)))
        await until(lambda: heard_other.messages)
        assert heard_one.down == heard_other.down == []


class _Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_defect_15_the_stock_port_runs_whatever_is_sent_to_it(tmp_path: Path) -> None:
    """Whoever reaches the port runs code, and is believed whatever length it announces."""
    port, other = reserve_ports(2)
    conf = SyncObjConf(autoTick=False, bindAddress=f"127.0.0.1:{port}")
    voter = SyncObj(f"127.0.0.1:{port}", [f"127.0.0.1:{other}"], conf)
    try:
        bomb = zlib.compress(pickle.dumps(_Bomb(tmp_path / "made")))
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.sendall(struct.pack("i", len(bomb)) + bomb)
            for _ in range(50):
                voter.doTick(0.01)
        assert (tmp_path / "made").exists()
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            stranger.setblocking(False)
            stranger.send(struct.pack("i", 2**31 - 1))
            sent = 0
            while sent < 8 << 20:
                with contextlib.suppress(BlockingIOError):
                    sent += stranger.send(bytes(1 << 20))
                voter.doTick(0)
    finally:
        voter.destroy()


async def test_defect_15_our_port_runs_nothing(tmp_path: Path) -> None:
    """A stranger's bytes are not even read until TLS knows it; without TLS they are at most a small hello."""
    for tls in (True, False):
        folder = tmp_path / str(tls)
        async with linked_pair(folder, tls=tls) as [(one, _), _]:
            port = int(one._settings.address.rsplit(":", 1)[1])
            for length in (None, 2**31 - 1):
                bomb = pickle.dumps(_Bomb(folder / "made"))
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(struct.pack("<I", length or len(bomb)) + bomb)
                async with asyncio.timeout(2):  # sooner than for want of a hello
                    with contextlib.suppress(ConnectionResetError):
                        while await reader.read(4096):
                            pass
                writer.close()
            assert not (folder / "made").exists()
            assert len(one._links) == 1


def sockets_of(pid: int) -> set[str]:
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(str(fd.readlink()))
    return {link for link in links if link.startswith("socket:")}


class _Endless:
    def __reduce__(self) -> Any:
        time.sleep(60)
        return str, ()


def test_defect_19_a_child_holds_no_socket_of_its_parent(tmp_path: Path) -> None:
    """A child that outlives its killed parent keeps the port, so that the voter cannot start again."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        inode = str(Path(f"/proc/self/fd/{listening.fileno()}").readlink())
        serializer = Serializer(str(tmp_path / "dump"), 1 << 16, True, None, None, None)
        serializer.serialize(_Endless(), 1)
        stock = serializer._Serializer__pid
        ours = ForkedChild(lambda: time.sleep(60))
        try:
            deadline = time.monotonic() + 5
            while inode in sockets_of(ours._pid) and time.monotonic() < deadline:
                time.sleep(0.005)
            assert inode in sockets_of(stock)
            assert sockets_of(ours._pid) <= {str(Path(f"/proc/self/fd/{fd}").readlink()) for fd in (0, 1, 2)}
        finally:
            ours.kill()
            os.kill(stock, signal.SIGKILL)
            os.waitpid(stock, 0)


class _Counted(bytes):
    """Bytes that count what is copied to make them longer or shorter."""

    copied = 0

    def __add__(self, other: bytes) -> _Counted:
        _Counted.copied += len(self) + len(other)
        return _Counted(bytes(self) + other)

    def __getitem__(self, key: Any) -> Any:
        piece = super().__getitem__(key)
        if isinstance(key, slice):
            _Counted.copied += len(piece)
            return _Counted(piece)
        return piece


def test_defect_21_a_stock_link_copies_its_backlog_at_each_message() -> None:
    """To queue a message the library copies all that waits, so that a slow reader costs the square of its backlog."""
    here, there = socket.socketpair()
    here.setblocking(False)
    connection = stock_connection.TcpConnection(_Poller(), socket=here)
    connection._TcpConnection__writeBuffer = _Counted()
    _Counted.copied = 0
    messages = [os.urandom(20_000) for _ in range(100)]
    for message in messages:
        connection.send(message)
    connection.disconnect()
    there.close()
    assert _Counted.copied > 20 * sum(map(len, messages))


class _CountedList(list[Any]):
    copied = 0

    def __getitem__(self, key: Any) -> Any:
        piece = super().__getitem__(key)
        if isinstance(key, slice):
            _CountedList.copied += len(piece)
        return piece


def test_defect_21_a_lagging_follower_costs_what_it_lacks(world_of: WorldOf, monkeypatch: pytest.MonkeyPatch) -> None:
    """For each message to a follower that lags, the library copies the whole rest of the log."""
    monkeypatch.setattr("consensus.replication.MAX_MESSAGE_BYTES", 1000)
    world = world_of("abc", stock={"appendEntriesBatchSizeBytes": 1000})
    leader = world.leader()
    behind = next(n for n in world.names if n != leader)
    rest = [n for n in world.names if n != behind]
    world.cut(behind, rest)
    for _ in range(400):
        world.write([b"x" * 100], leader, only=rest)
    if isinstance(world, Stock):
        journal = world.voters[leader]._SyncObj__raftLog
        journal._FileJournal__journal = _CountedList(journal[:])
    else:
        journal = world.voters[leader].raft.journal
        journal._entries = _CountedList(journal._entries)
    _CountedList.copied = 0
    world.heal(behind, rest)
    assert world.until(lambda: len(world.values(behind)) == 400, 20)
    assert _CountedList.copied > 10 * 400 if world.stock else _CountedList.copied <= 3 * 400


async def test_defect_15_nothing_of_ours_reads_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elections, commits, snapshots, restarts: the library's unpickling is never called."""

    def refuse(*_: object) -> None:
        raise AssertionError("a pickle was read")

    import pysyncobj.pickle as stock_pickle

    monkeypatch.setattr(stock_pickle, "loads", refuse)
    monkeypatch.setattr(stock_pickle, "load", refuse)
    settings = settings_of(tmp_path, 3)
    for _ in range(2):
        async with contextlib.AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(Replica(each, Ledger())) for each in settings]
            leader = await leader_of(replicas)
            leader = await commit(replicas, [put("k", client=leader.role().node_id, seq=leader.role().term)])
            await leader.snapshot_now()
