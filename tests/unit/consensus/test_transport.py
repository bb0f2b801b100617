"""Strangers, liars and broken peers at a voter's port: they are dropped, cost little, and the cluster goes on."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from attack import Attack, framed, hello
from cluster import leader_of, running, until
from hypothesis import given
from hypothesis import strategies as st
from virtual import VirtualClock
from virtual_ours import Ours

from consensus import Replica, transport
from consensus import messages as m
from consensus.certificates import make_certificates


async def test_random_bytes_end_the_connection(attack: Attack) -> None:
    """A hundred strangers who speak no TLS, of all lengths."""
    for number in range(100):
        reader, writer = await attack.connect()
        writer.write(os.urandom(1 + number * 37))
        await attack.dropped(reader)
    await attack.still_serves()


async def test_half_open_connections_are_few_and_short(attack: Attack) -> None:
    """Hundreds who connect and say nothing: only so many are held, none for long, and voters get through meanwhile."""
    streams = [await attack.connect() for _ in range(300)]
    await attack.still_serves()
    assert len(attack.wire._handshakes) <= transport.MAX_STRANGERS
    attack.voters[2]._transport.drop_all()  # a voter has to come back among them
    await attack.still_serves()
    started = time.monotonic()
    for reader, _ in streams:
        await attack.dropped(reader)
    assert time.monotonic() - started < 5


async def test_who_says_no_hello_is_dropped(attack: Attack) -> None:
    """Connections with a good certificate and half a hello: bounded in number and time."""
    context = attack.context("v1")
    streams = [await attack.connect(context) for _ in range(transport.MAX_STRANGERS + 10)]
    for _, writer in streams[::2]:
        writer.write(hello()[:20])
    await until(lambda: len(attack.wire._strangers) <= transport.MAX_STRANGERS)
    await attack.still_serves()
    for reader, _ in streams:
        await attack.dropped(reader)


@pytest.mark.parametrize("who", ["nobody", "another authority", "itself"])
async def test_a_certificate_of_another_authority_gets_nowhere(attack: Attack, who: str) -> None:
    """No certificate, one of another authority, one signed by itself with the right name: nothing is read from them."""
    elsewhere = attack.folder / "elsewhere"
    make_certificates(elsewhere, ["v1"])
    if who == "itself":
        shutil.copy(elsewhere / "ca.pem", elsewhere / "v1.pem")
        shutil.copy(elsewhere / "ca.key", elsewhere / "v1.key")
    context = attack.context(None if who == "nobody" else "v1", elsewhere)
    with contextlib.suppress(OSError):
        reader, writer = await attack.connect(context)
        writer.write(hello())
        assert await attack.dropped(reader) == b""
    assert attack.wire._strangers == {}


async def test_a_voter_that_dials_an_impostor_tells_it_nothing(tmp_path: Path, attack: Attack) -> None:
    """The dialled side must name the voter that was dialled: v0's port with v1's certificate gets no hello."""
    server_tls, _ = transport.tls_contexts(*(tmp_path / "tls" / n for n in ("ca.pem", "v1.pem", "v1.key")))
    heard = b""

    async def impostor(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        with contextlib.suppress(OSError):
            heard += await reader.read(100)
        writer.close()

    server = await asyncio.start_server(impostor, "127.0.0.1", 0, ssl=server_tls)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    dialler: Any = attack.voters[2]._transport
    task = asyncio.create_task(dialler._dial("v0-elsewhere", address))
    await asyncio.sleep(0.5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    server.close()
    assert heard == b""


@pytest.mark.parametrize(
    ("certificate", "changes"),
    [
        ("outsider", {"node_id": "outsider"}),
        ("outsider", {"node_id": "v1"}),
        ("v1", {"node_id": "v2"}),
        ("v1", {"node_id": "v0"}),
        ("v1", {"cluster_id": "another"}),
        ("v1", {"protocol": transport.PROTOCOL + 1}),
        ("v1", {"uuid": "of a wiped folder"}),
    ],
)
async def test_the_name_in_the_certificate_decides(attack: Attack, certificate: str, changes: dict[str, Any]) -> None:
    """The right authority is not enough: unknown and borrowed names, other clusters and wiped folders are refused."""
    authorised(attack, "outsider")
    refused = attack.wire.refused
    reader, writer = await attack.connect(attack.context(certificate))
    writer.write(hello(**changes))
    assert await attack.dropped(reader) == b""
    assert attack.wire.refused == refused + 1
    assert attack.victim.metrics()["links_refused"] == refused + 1


def authorised(attack: Attack, name: str) -> None:
    """Sign a certificate for another name by the cluster's own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    from consensus import certificates as c

    folder = attack.folder / "tls"
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    start = authority.not_valid_before_utc
    certificate = c._sign(c._name(name), authority.subject, key, authority_key, start, [name])  # type: ignore[arg-type]
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(c._pem(key))


BAD_FRAMES = {
    "oversized": (transport.MAX_FRAME_BYTES + 1).to_bytes(4, "little") + bytes(100_000),
    "random": framed(os.urandom(500)),
    "of no message": framed(msgspec.msgpack.encode([99, 1, 2, 3])),
    "of wrong types": framed(msgspec.msgpack.encode([1, "term", None, 3, 4, 5])),
    "nested": framed(b"\x97\x01\x00\x00\x00\x00\x90" + b"\x91" * 100_000 + b"\x90"),
}


@pytest.mark.parametrize("bad", BAD_FRAMES)
async def test_a_peer_that_breaks_the_protocol_is_dropped(attack: Attack, bad: str) -> None:
    """Even with a voter's own key and life: the link is closed, and the true voter comes back."""
    reader, writer = await attack.connect(attack.context("v1"))
    writer.write(hello(uuid=attack.life("v1")) + BAD_FRAMES[bad])
    await attack.dropped(reader)
    await attack.still_serves()


async def test_a_truncated_frame_is_waited_for_and_forgotten(attack: Attack) -> None:
    """Half a frame of the greatest length, then nothing: it is dropped with the link when that falls silent."""
    _, writer = await attack.connect(attack.context("v1"))
    writer.write(hello(uuid=attack.life("v1")) + transport.MAX_FRAME_BYTES.to_bytes(4, "little") + bytes(1000))
    await asyncio.sleep(0.3)
    writer.transport.abort()
    await attack.still_serves()


async def test_a_link_that_is_closing_takes_nothing(tmp_path: Path) -> None:
    """Between the close of a connection and the news of it, messages count as not sent."""
    async with running(tmp_path, 2) as voters:
        await leader_of(voters)
        wire: Any = voters[0]._transport
        assert wire.backlog("v1") is not None
        wire._links["v1"].drop()
        assert wire._links["v1"].is_closing
        assert wire.send("v1", b"x") is False
        assert wire.backlog("v1") is None


async def test_a_voter_out_of_files_accepts_again_later(attack: Attack, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process may open no more files, connections wait; they are taken when it may again."""
    loop = asyncio.get_running_loop()
    accept, failures = loop.sock_accept, []

    async def exhausted(listening: socket.socket) -> Any:
        connection, address = await accept(listening)
        if len(failures) < 3:
            failures.append(connection.close())
            raise OSError(errno.EMFILE, "Too many open files")
        return connection, address

    monkeypatch.setattr(loop, "sock_accept", exhausted)
    for _ in range(5):
        attack.wire.drop_all()
        await attack.still_serves()
    assert len(failures) == 3


async def test_a_link_that_falls_silent_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that vanished without an end of its connection is noticed by its silence, and comes back."""
    monkeypatch.setattr(transport, "PING_S", 0.1)
    monkeypatch.setattr(transport, "SILENCE_S", 0.6)
    async with running(tmp_path, 2) as voters:
        await leader_of(voters)
        wire: Any = voters[0]._transport
        link = wire._links["v1"]
        other: Any = voters[1]._transport
        monkeypatch.setattr(other._links["v0"], "send_frame", lambda _data: None)
        await until(lambda: wire._links.get("v1") not in (None, link))


@pytest.mark.parametrize("tls", [True, False])
async def test_a_slow_reader_costs_a_bounded_backlog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    """A peer that takes nothing is dropped when too much waits for it."""
    monkeypatch.setattr(transport, "MAX_UNSENT_BYTES", 1 << 20)
    async with running(tmp_path, 2, tls=tls) as voters:
        await leader_of(voters)
        wire: Any = voters[0]._transport
        link = wire._links["v1"]
        other: Any = voters[1]._transport._links["v0"]
        other.transport.pause_reading()
        most = 0
        for _ in range(400):
            if not wire.send("v1", bytes(64 << 10)):
                break
            most = max(most, link.unsent())
            await asyncio.sleep(0)
        await until(lambda: wire._links.get("v1") is not link)
        assert 1 << 20 < most < 3 << 20


async def test_replayed_bytes_of_a_link_are_worth_nothing(attack: Attack) -> None:
    """What a voter once sent over TLS, sent again by somebody who listened, opens no link."""
    recorded = bytearray()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: bytearray | None) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if note is not None:
                    note += data
                writer.write(data)
        writer.close()

    async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", attack.port)
        await asyncio.gather(pass_on(reader, back, recorded), pass_on(there, writer, None))

    proxy = await asyncio.start_server(between, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=attack.context("v1"))
    writer.write(hello(uuid=attack.life("v1")))
    assert await reader.read(100), "the recorded link was accepted"
    writer.transport.abort()
    proxy.close()
    links = attack.wire._links.copy()
    reader, writer = await attack.connect()
    writer.write(bytes(recorded))
    await attack.dropped(reader)
    assert attack.wire._strangers == {}
    assert attack.wire._links.keys() <= links.keys() | {"v1"}


def test_repeated_messages_change_nothing(tmp_path: Path, clock: VirtualClock) -> None:
    """Every message between voters arrives twice, the second time late, through writes, a new leader and a snapshot."""
    world = Ours("abcde", tmp_path, clock, ours={"snapshot_entries": 20})
    send = world.send
    late: list[tuple[str, str, bytes]] = []

    def twice(sender: str, to: str, data: bytes) -> bool:
        late.append((sender, to, data))
        if len(late) > 50:
            send(*late.pop(0))
        return send(sender, to, data)

    world.send = twice  # type: ignore[method-assign]
    leader = world.leader()
    world.write(range(30), leader)
    world.kill(leader)
    rest = [n for n in world.names if n != leader]
    world.write(range(30, 60), world.leader(rest), only=rest)
    world.start(leader)
    assert world.until(lambda: all(world.values(n) == list(range(60)) for n in world.names), 20)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error(data: bytes) -> None:
    """The decoder raises nothing else."""
    with contextlib.suppress(m.DecodeError):
        assert m.decode(m.encode(m.decode(data))) == m.decode(data)


async def test_an_address_that_is_taken_is_refused_at_once(tmp_path: Path) -> None:
    """A second voter on the same port does not start, and says why."""
    async with running(tmp_path, 2) as voters:
        taken = voters[0].settings
        with socket.create_server(("127.0.0.1", 0)) as other:
            port = other.getsockname()[1]
            second = msgspec.structs.replace(taken, address=f"127.0.0.1:{port}", data_dir=tmp_path / "second")
            with pytest.raises(OSError, match="in use"):
                await Replica(second, voters[0].machine).__aenter__()
