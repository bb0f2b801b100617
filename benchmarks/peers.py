"""Other replicated stores to compare with: five nodes of each on this machine, started, measured and stopped by us.

A peer that is not installed is left out with a sentence that says so. On Debian:

    apt-get install --no-install-recommends etcd-server rabbitmq-server nats-server

What an acknowledgement means differs. etcd and RabbitMQ quorum queues sync to disk on a majority before they
acknowledge, as we do. NATS JetStream keeps messages in the page cache for minutes: it is an upper reference only.
RabbitMQ never acknowledges a completion (basic.ack), so that its job life holds one acknowledged step of three.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers_amqp, peers_etcd, peers_nats
from benchmarks.peers_servers import Servers, Session, installed

KNOWN: dict[str, Callable[[Path], Servers]] = {
    "etcd": lambda folder: peers_etcd.Etcd(folder / "etcd", 24700),
    "rabbitmq": lambda folder: peers_amqp.RabbitMQ(folder / "rabbitmq", 24800),
    "nats": lambda folder: peers_nats.Nats(folder / "nats", 24900),
}


async def connect(name: str, port: int, task: dict[str, Any]) -> Session:
    """Connect to a peer's node."""
    match name:
        case "etcd":
            return await peers_etcd.connect(port, task)
        case "rabbitmq":
            return await peers_amqp.connect(port, task)
        case "nats":
            return await peers_nats.connect(port, task)
        case _:
            raise ValueError(f"no peer is called {name}")


@contextlib.asynccontextmanager
async def running(folder: Path, names: Sequence[str] = tuple(KNOWN)) -> AsyncIterator[dict[str, Servers]]:
    """Run the peers that are installed, side by side; prints a sentence for each that is not."""
    servers: dict[str, Servers] = {}
    try:
        for name in names:
            peer = KNOWN[name](folder)
            if installed(peer.program) is None:
                print(f"{name} is left out: no {peer.program} is installed; see benchmarks/peers.py", flush=True)
                continue
            servers[name] = peer
            await peer.start()
            await peer.leader()
            print(f"{name} is up", flush=True)
        yield servers
    finally:
        await asyncio.gather(*(peer.stop() for peer in servers.values()))
