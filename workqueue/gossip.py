"""The gossip process of a voter: the failure detector behind a unix socket."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

from membership.api import new_boot_id
from membership.process import Server, listen
from membership.service import Gossip
from membership.settings import GossipSettings
from workqueue.corelink import GOSSIP_SOCKET, socket_path
from workqueue.process import VoterConfig, run_process, say_ready


def gossip_settings(config: VoterConfig) -> GossipSettings:
    """Return what gossip is told, out of the voter's settings."""
    cluster, me = config.cluster, config.cluster.voter(config.voter.id)
    return GossipSettings(
        node_id=me.id,
        boot_id=new_boot_id(time.time_ns() // 1_000_000),
        role="voter",
        bind=me.gossip,
        seeds=[voter.gossip for voter in cluster.voters if voter.id != me.id],
        key_files=[str(config.folder / path) for path in cluster.gossip_keys],
        period_ms=cluster.gossip.period_ms,
        metadata={"http": me.http},
        cluster=cluster.cluster_id,
    )


async def serve(config: VoterConfig) -> None:
    """Gossip and serve the front until cancelled, then say farewell."""
    async with Gossip(gossip_settings(config)) as gossip:
        listener = listen(Path(socket_path(config.run, GOSSIP_SOCKET)))
        service = Server(gossip)
        server = await asyncio.start_unix_server(service.accept, sock=listener)
        say_ready()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await gossip.leave()
            server.close()
            await service.close()


if __name__ == "__main__":
    sys.exit(run_process("gossip", sys.argv[1:], serve))
