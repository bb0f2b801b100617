"""The roads between real members: advertised addresses, replays on the way, the second path, the socket's client."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from membership import frames
from membership.api import Event, MembershipError, State
from membership.process import Server
from membership.remote import RemoteMembership
from membership.service import Gossip
from membership.settings import GossipSettings
from membership.tasks import Tasks


class Road(asyncio.DatagramProtocol):
    """A translating host before a member that delivers every packet to it again, and cut short as well."""

    def __init__(self) -> None:
        self.target: tuple[str, int] = ("127.0.0.1", 0)
        self.carried = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport
        self.port: int = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr == self.target:
            self._transport.sendto(data, self._client)
            return
        self._client = addr
        self.carried += 1
        for packet in (data, data, data[:-1], data[:40]):
            self._transport.sendto(packet, self.target)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as entered:
        yield entered


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "gossip.key"
    file.write_text(secrets.token_hex(32))
    return file


async def member(
    stack: AsyncExitStack, key: Path, node_id: str, *seeds: Gossip, advertise: str | None = None, period_ms: int = 100
) -> Gossip:
    settings = GossipSettings(
        node_id=node_id,
        boot_id="boot-1",
        role="worker",
        bind="127.0.0.1:0",
        advertise=advertise,
        seeds=[seed.address for seed in seeds],
        key_files=[str(key)],
        period_ms=period_ms,
    )
    return await stack.enter_async_context(Gossip(settings))


async def until(reached: Callable[[], bool], limit_s: float = 15) -> None:
    async with asyncio.timeout(limit_s):
        while not reached():
            await asyncio.sleep(0.01)


def sees(gossip: Gossip, count: int) -> Callable[[], bool]:
    return lambda: len(gossip.members(state=State.ALIVE)) == count


async def test_an_advertised_address_is_used_and_replays_on_the_way_to_it_change_nothing(
    stack: AsyncExitStack, key: Path
) -> None:
    """Every packet to the member comes four times, two of them cut short: the first copy counts, once."""
    transport, road = await asyncio.get_running_loop().create_datagram_endpoint(Road, local_addr=("127.0.0.1", 0))
    stack.callback(transport.close)
    one = await member(stack, key, "one")
    behind = await member(stack, key, "behind", one, advertise=f"127.0.0.1:{road.port}")
    road.target = ("127.0.0.1", behind._datagrams.port)
    await until(sees(one, 2))
    await until(sees(behind, 2))
    found = one.get("behind")
    assert found is not None
    assert found.address == f"127.0.0.1:{road.port}"
    events = one.events()
    await until(lambda: road.carried > 10)
    assert behind.counters["replayed"] >= road.carried - 2
    assert behind.counters["forged"] >= road.carried - 2
    one._hub.close()
    assert [event async for event in events] == []


async def test_a_member_that_only_connections_reach_is_suspected_and_never_buried(
    stack: AsyncExitStack, key: Path
) -> None:
    """The second path: datagrams to it are lost, a challenge over TCP is answered and brings its refutation."""
    members = [await member(stack, key, "m0")]
    members += [await member(stack, key, f"m{index}", members[0]) for index in (1, 2, 3)]
    for each in members:
        await until(sees(each, 4))
    events = members[0].events()
    members[3]._datagrams._receiver = lambda _payload, _source: None
    seen: list[Event] = []
    while [event.kind for event in seen].count("alive") < 2:
        event = await asyncio.wait_for(anext(events), 15)
        seen += [event] if event.member is not None and event.member.id == "m3" else []
    kinds = {event.kind for event in seen}
    assert kinds == {"suspect", "alive"}


async def test_two_members_on_one_port_are_refused(stack: AsyncExitStack, key: Path) -> None:
    """They would share each other's packets."""
    one = await member(stack, key, "one")
    settings = GossipSettings(
        node_id="two", boot_id="b", role="worker", bind=f"127.0.0.1:{one._datagrams.port}", key_files=[str(key)]
    )
    with pytest.raises(MembershipError, match="free the port"):
        await Gossip(settings).__aenter__()


async def test_a_client_reconnects_to_a_restarted_process_and_resyncs(
    stack: AsyncExitStack, key: Path, tmp_path: Path
) -> None:
    """While the process is away the last view stays readable and commands say so."""
    gossip = await member(stack, key, "one")
    path = tmp_path / "gossip.sock"
    service = Server(gossip)
    listener = await asyncio.start_unix_server(service.accept, path)
    remote = await stack.enter_async_context(RemoteMembership(path))
    events = remote.events()
    listener.close()
    await service.close()
    await until(lambda: not remote.connected)
    assert [m.id for m in remote.members()] == ["one"]
    with pytest.raises(MembershipError, match="No gossip process serves"):
        await remote.set_metadata(load=1)
    remote.hint_suspect("one", "lost in the meantime")
    path.unlink()
    second = Server(gossip)
    again = await asyncio.start_unix_server(second.accept, path)
    stack.callback(again.close)
    stack.push_async_callback(second.close)
    assert (await asyncio.wait_for(anext(events), 5)).kind == "resync"
    await remote.set_metadata(load=1)
    found = remote.get("one")
    assert found is not None
    assert found.metadata == {"load": 1}


async def test_a_client_without_a_process_is_told(tmp_path: Path) -> None:
    """In one sentence, after the time it was given."""
    with pytest.raises(MembershipError, match="start it first"):
        await RemoteMembership(tmp_path / "none.sock", connect_timeout_s=0.1).__aenter__()


@pytest.mark.parametrize(
    "sent",
    [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x02\x91\x01", b"GET / HTTP/1.1\r\n\r\n"],
)
async def test_what_is_no_frame_ends_the_connection_only(
    stack: AsyncExitStack, key: Path, tmp_path: Path, sent: bytes
) -> None:
    """The server hangs up on that client and goes on serving."""
    service = Server(await member(stack, key, "one"))
    path = tmp_path / "gossip.sock"
    listener = await asyncio.start_unix_server(service.accept, path)
    stack.callback(listener.close)
    stack.push_async_callback(service.close)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(sent)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    await frames.hang_up(writer)
    async with RemoteMembership(path) as remote:
        assert remote.connected


@pytest.mark.parametrize(
    ("op", "body"),
    [("members", None), ("members", {"role": None, "state": "odd"}), ("set_metadata", 3), ("nothing", None)],
)
async def test_a_command_that_cannot_be_carried_out_is_answered_with_a_sentence(
    stack: AsyncExitStack, key: Path, tmp_path: Path, op: str, body: object
) -> None:
    """The connection survives it."""
    service = Server(await member(stack, key, "one"))
    listener = await asyncio.start_unix_server(service.accept, tmp_path / "gossip.sock")
    stack.callback(listener.close)
    stack.push_async_callback(service.close)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "gossip.sock")
    writer.write(frames.pack(frames.Frame(7, op, body)))
    answer = await frames.read(reader)
    assert answer is not None
    assert (answer.id, answer.op) == (7, "error")
    assert op in str(answer.body)
    await frames.hang_up(writer)


async def test_tasks_are_bounded_and_end_with_their_owner() -> None:
    """The one too many does not run."""
    tasks, ran = Tasks(2), list[int]()

    async def work(number: int) -> None:
        ran.append(number)
        await asyncio.sleep(60)

    assert [tasks.start(work(number)) for number in range(3)] == [True, True, False]
    await asyncio.sleep(0)
    assert (ran, len(tasks)) == ([0, 1], 2)
    await tasks.cancel()
    assert len(tasks) == 0
