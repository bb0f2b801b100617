"""Five real voters in one event loop, for tests."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from consensus import NotLeader, Replica, ReplicaSettings, Unknown
from consensus.certificates import make_certificates
from consensus.ledger import Command, Ledger
from tests.ports import reserve_ports


def put(key: str, value: bytes = b"x", client: str = "c", seq: int = 1) -> bytes:
    """Return the bytes of one command."""
    return msgspec.msgpack.encode(Command(client, seq, "put", key, value))


def settings_of(folder: Path, size: int, *, tls: bool = True, **changes: object) -> list[ReplicaSettings]:
    """Return the settings of every voter of a cluster on loopback."""
    addresses = {f"v{i}": f"127.0.0.1:{port}" for i, port in enumerate(reserve_ports(size))}
    if tls:
        make_certificates(folder / "tls", addresses)
    return [
        ReplicaSettings(
            node_id=n,
            address=a,
            peers={p: q for p, q in addresses.items() if p != n},
            data_dir=folder / n,
            cluster_id="test",
            ca=folder / "tls" / "ca.pem" if tls else None,
            cert=folder / "tls" / f"{n}.pem" if tls else None,
            key=folder / "tls" / f"{n}.key" if tls else None,
            **{"election_ms": (600, 1200)} | changes,  # type: ignore[arg-type]  # longer: one loop turns all of them
        )
        for n, a in addresses.items()
    ]


@contextlib.asynccontextmanager
async def running(folder: Path, size: int, *, tls: bool = True, **changes: object) -> AsyncIterator[list[Replica]]:
    """Run a cluster."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(Replica(s, Ledger())) for s in settings_of(folder, size, tls=tls, **changes)
        ]


async def until(true: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "the condition was not reached in time"
        await asyncio.sleep(0.005)


async def leader_of(replicas: list[Replica]) -> Replica:
    """Wait for a leader that is ready."""
    await until(lambda: any(r.role().is_leader and r.role().ready for r in replicas))
    return next(r for r in replicas if r.role().is_leader)


async def commit(replicas: list[Replica], commands: list[bytes], seconds: float = 20.0) -> Replica:
    """Commit at whoever leads, under the same request ids again if the leadership moves; return the leader."""
    end = time.monotonic() + seconds
    while True:
        leader = await leader_of(replicas)
        try:
            await leader.propose(commands)
        except (NotLeader, Unknown):  # on a busy machine an election may come between
            assert time.monotonic() < end, "no leader stayed long enough"
            await asyncio.sleep(0.05)
        else:
            return leader
