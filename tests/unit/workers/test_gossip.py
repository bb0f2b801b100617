"""The gossip process beside an agent: told what voters say, started anew when it ends, gone with a farewell."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from config.cluster import WorkerSettings
from membership.api import State
from membership.service import Gossip
from membership.settings import METADATA_BYTES_MAX, GossipSettings
from tests.ports import reserve_ports
from workers.gossip import GossipProcess, describe, gossip_settings
from workqueue.errors import Unavailable
from workqueue.machine.commands import Capability
from workqueue.peering import PATH, Peering

if TYPE_CHECKING:
    from pathlib import Path


class Voters:
    """Answers what the voters of a test say of their gossip, or nothing while they are away."""

    def __init__(self, peering: Peering) -> None:
        self.peering = peering
        self.away = 0

    async def get(self, path: str) -> bytes:
        assert path == PATH
        if self.away:
            self.away -= 1
            raise Unavailable(["v"])
        return msgspec.json.encode(self.peering)


def worker(folder: Path, **fields: Any) -> WorkerSettings:
    key = folder / "gossip.key"
    key.write_bytes(bytes(range(32)))
    told = {"id": "w", "join": ("https://v:1",), "token_file": "t", "ca": "c", "data": str(folder)}
    return WorkerSettings(**(told | {"gossip_keys": (str(key),)} | fields))


def test_what_the_process_is_told(tmp_path: Path) -> None:
    """It listens where the machine can, says where it is reached, and takes its pace from the voters."""
    settings = worker(tmp_path, gossip="203.0.113.7:41000", gossip_bind="0.0.0.0:8790")
    peering = Peering("c1", ("10.0.0.1:8790", "10.0.0.2:8790"), 700, 4)
    told = gossip_settings(settings, peering, "boot-1", {"cpus": 4})
    assert (told.node_id, told.boot_id, told.role, told.cluster) == ("w", "boot-1", "worker", "c1")
    assert (told.bind, told.advertise) == ("0.0.0.0:8790", "203.0.113.7:41000")
    assert (told.seeds, told.period_ms, told.suspicion_mult) == (list(peering.seeds), 700, 4)
    same = gossip_settings(worker(tmp_path, gossip="203.0.113.7:41000"), peering, "boot-1", {})
    assert same.bind == same.advertise == "203.0.113.7:41000"


def test_the_description_fits_into_a_packet() -> None:
    """However many devices a machine has."""
    few = describe(Capability(cpus=8, ram_mb=1, disk_mb=1, devices=(("H100", 80_000),), build="1.0"))
    assert few == {"build": "1.0", "cpus": 8, "devices": ["H100"]}
    many = describe(Capability(cpus=8, ram_mb=1, disk_mb=1, devices=(("an accelerator of a long name", 1),) * 64))
    assert len(msgspec.msgpack.encode(many)) <= METADATA_BYTES_MAX
    assert many["devices"]


async def test_it_is_started_anew_and_says_farewell(tmp_path: Path) -> None:
    """Voters that are away are asked again; kill -9 of the process is repaired; leaving is known to the others."""
    key = tmp_path / "k"
    key.write_bytes(bytes(range(32)))
    settings = GossipSettings("v1", "b0", "voter", "127.0.0.1:0", key_files=[str(key)], period_ms=100, cluster="c1")
    async with Gossip(settings) as voter:
        voters = Voters(Peering("c1", (voter.address,), 100, 3))
        voters.away = 2

        def state() -> State | None:
            member = voter.get("w")
            return member.state if member else None

        mine = worker(tmp_path, gossip=f"127.0.0.1:{reserve_ports(1)[0]}")
        async with GossipProcess(mine, "boot-1", {"cpus": 4}, voters, pause_s=0.05) as gossip:  # type: ignore[arg-type]
            await until(lambda: state() is State.ALIVE)
            member = voter.get("w")
            assert member
            assert (member.boot_id, member.role, member.metadata) == ("boot-1", "worker", {"cpus": 4})
            first = gossip.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: gossip.pid not in {0, first})
            await until(lambda: state() is State.ALIVE)
        assert gossip.pid == 0
        assert state() is State.LEFT


async def test_an_agent_that_hangs_is_not_vouched_for(tmp_path: Path) -> None:
    """While its loop stands still gossip falls silent, without a farewell; it is back when the loop goes on."""
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    told = GossipSettings("v", "b", "voter", "127.0.0.1:0", key_files=[str(key)], period_ms=100)
    async with Gossip(told) as voter:
        voters = Voters(Peering("riftq", (voter.address,), 100, 3))
        mine = worker(tmp_path, gossip=f"127.0.0.1:{reserve_ports(1)[0]}")

        def state() -> State | None:
            member = voter.get("w")
            return member.state if member else None

        kept = GossipProcess(mine, "boot-1", {}, voters, pause_s=0.05, pulse_s=0.1, silence_s=1.0)  # type: ignore[arg-type]
        async with kept as gossip:
            await until(lambda: state() is State.ALIVE)
            first = gossip.pid
            await asyncio.sleep(1.5)
            assert gossip.pid == first, "it pulses"
            gossip._pulse_s = 60.0
            await until(lambda: state() is State.DEAD)
            gossip._pulse_s = 0.1
            await until(lambda: state() is State.ALIVE and gossip.pid not in {0, first})


async def test_a_port_in_use_is_told_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A worker that cannot gossip works on; its log has the reason."""
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = taken.sockets[0].getsockname()[1]
    voters = Voters(Peering("c1", ("127.0.0.1:1",), 100, 3))
    mine = worker(tmp_path, gossip=f"127.0.0.1:{port}")
    text = ""

    def told() -> bool:
        nonlocal text
        text += capsys.readouterr().out
        return text.count("gossip.ended") >= 2

    async with GossipProcess(mine, "boot-1", {}, voters, pause_s=0.05):  # type: ignore[arg-type]
        await until(told)
    taken.close()
    assert str(port) in text


async def until(done: Any) -> None:
    async with asyncio.timeout(20):
        while not done():
            await asyncio.sleep(0.02)
