"""What is forgotten and what is not: an artifact stays while a job, a model, a window or a cursor needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from tests.unit.workqueue.conftest import running_voter
from workqueue.duties.context import DutyContext
from workqueue.duties.retain import DAY_MS, ORPHAN_MS, WORKERS_MS, Retain
from workqueue.machine.commands import (
    ArtifactRef,
    Capability,
    Claim,
    Enqueue,
    Free,
    JobSpec,
    LeaseRenewal,
    QuarantineWorker,
    RegisterArtifact,
    RegisterKind,
    RegisterWorker,
    Renew,
)

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.client import Client

IDLE, SHARD, CHECKPOINT = ("a" * 64, "b" * 64, "c" * 64)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


async def run_a_job(client: Client) -> None:
    """A worker's job whose cursor names two of three stored artifacts."""
    await client.submit(
        RegisterKind("open"), Enqueue((JobSpec("j", "open"), JobSpec("k", "open"), JobSpec("l", "open")))
    )
    capability = Capability(cpus=1, ram_mb=1, disk_mb=1, kinds=("open",))
    await client.submit(RegisterWorker("w", "b", capability))
    await client.claim(Claim("w", "b", Free(cpus=1, ram_mb=1, disk_mb=1), 1), 1_000)
    stored = [RegisterArtifact(ArtifactRef(name, 1, "other"), ("v",)) for name in (IDLE, SHARD, CHECKPOINT)]
    await client.submit(*stored)
    cursor = raw({"step": 3, "files": [SHARD], "checkpoint": {"sha256": CHECKPOINT}})
    await client.submit(Renew("w", "b", (LeaseRenewal("j", 1, raw({}), cursor),)))


async def held(client: Client) -> set[str]:
    return {row["sha256"] for row in await client.query("artifacts", limit=10, offset=0)}


async def test_what_a_cursor_names_is_not_collected(tmp_path: Path) -> None:
    """Hours after the upload; what nobody names goes."""
    async with running_voter(tmp_path, real=True) as voter, voter.client() as client:
        await run_a_job(client)
        now_ms = (await client.query("status"))["now_ms"]
        await Retain().run(DutyContext(voter.context, "retain", lambda: now_ms + ORPHAN_MS // 2))
        assert await held(client) == {IDLE, SHARD, CHECKPOINT}
        later = DutyContext(voter.context, "retain", lambda: now_ms + 2 * ORPHAN_MS)
        await Retain().run(later)
        assert await held(client) == {SHARD, CHECKPOINT}
        await client.submit(Renew("w", "b", (LeaseRenewal("j", 1, raw({}), raw({"checkpoint": CHECKPOINT})),)))
        await Retain().run(later)
        assert await held(client) == {CHECKPOINT}


async def test_workers_that_are_gone_for_good_are_forgotten(tmp_path: Path) -> None:
    """Days later, and never in the first hour of a voter, in which others may not know the command yet."""
    async with running_voter(tmp_path, real=True) as voter, voter.client() as client:
        await run_a_job(client)
        small = Capability(cpus=1, ram_mb=1, disk_mb=1, kinds=("open",))
        await client.submit(RegisterWorker("gone", "b", small), RegisterWorker("bad", "b", small))
        await client.submit(QuarantineWorker("bad"))
        voter.machine.ledger.state.now_ms += 8 * DAY_MS
        await client.submit(RegisterWorker("new", "b", small))
        context = DutyContext(voter.context, "retain", lambda: voter.machine.ledger.state.now_ms)
        duty = Retain()
        await duty.run(context)
        assert {row["id"] for row in await client.query("workers")} == {"w", "gone", "bad", "new"}
        voter.machine.ledger.state.now_ms += WORKERS_MS
        await duty.run(context)
        assert {row["id"] for row in await client.query("workers")} == {"w", "bad", "new"}
