"""The core process of a voter: replica and state machine behind a unix socket, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from pathlib import Path

from consensus import ConsensusError, Replica, ReplicaSettings, StorageCorrupt, StorageFailed, WrongIdentity
from workqueue.core_server import CoreServer
from workqueue.corelink import SOCKET, make_private, socket_path
from workqueue.errors import EXIT_DATA, EXIT_DISK, EXIT_FAILED, ProcessFailure
from workqueue.machine.machine import Machine
from workqueue.process import VoterConfig, prepare_data, run_process, say_ready

SNAPSHOT_BYTES = 64 << 20  # of log, after which a snapshot is taken: a restart replays no more than that
_YOUNG = 20_000  # allocations between collections of young objects, a millisecond each


def replica_settings(config: VoterConfig) -> ReplicaSettings:
    """Return what the replica is told, out of the voter's settings."""
    cluster, me = config.cluster, config.cluster.voter(config.voter.id)
    raft = cluster.raft
    return ReplicaSettings(
        node_id=me.id,
        address=me.raft,
        peers={voter.id: voter.raft for voter in cluster.voters if voter.id != me.id},
        data_dir=config.data / "raft",
        cluster_id=cluster.cluster_id,
        replaced=tuple((each.old, each.new, each.index) for each in cluster.replaced),
        ca=config.ca,
        cert=config.cert,
        key=config.key,
        election_ms=raft.election_ms,
        heartbeat_ms=max(10, min(50, raft.election_ms_min // 4)),
        snapshot_bytes=SNAPSHOT_BYTES,
    )


async def serve(config: VoterConfig) -> None:
    """Run until cancelled; raises ProcessFailure when the replica cannot start or go on."""
    prepare_data(config)
    machine = Machine()
    async with contextlib.AsyncExitStack() as stack:
        try:
            replica = await stack.enter_async_context(Replica(replica_settings(config), machine))
        except ConsensusError as error:
            raise _failure(error) from error
        server = CoreServer(replica, machine)
        replica.on_role = lambda _: server.changed()
        path = socket_path(config.run, SOCKET)
        listener = await asyncio.get_running_loop().create_unix_server(server.connection, path)
        make_private(path)
        stack.callback(listener.close)
        _tame_collector()
        say_ready()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.run())
            try:
                await replica.wait_failed()
            except ConsensusError as error:
                raise _failure(error) from error


def _tame_collector() -> None:
    """Have the collector look at young objects only: a walk over a large state would stall commits for 100 ms."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 1 << 30, 1 << 30)


def _failure(error: ConsensusError) -> ProcessFailure:
    match error:
        case StorageCorrupt() | WrongIdentity():
            return ProcessFailure(str(error), EXIT_DATA)
        case StorageFailed():
            return ProcessFailure(str(error), EXIT_DISK)
        case _:
            return ProcessFailure(str(error), EXIT_FAILED)


def main(config: Path) -> int:
    """Run the core of the voter described by `config`; returns the exit code."""
    return run_process("core", ["--config", str(config)], serve)


if __name__ == "__main__":
    sys.exit(run_process("core", sys.argv[1:], serve))
