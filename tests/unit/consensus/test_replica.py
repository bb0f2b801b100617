"""Real voters in one loop: elections, commits, fail-over, restarts; the in-memory twin keeps the same promises."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster import commit, leader_of, put, running, settings_of, until

from consensus import MemoryReplica, NotLeader, Replica
from consensus.ledger import Ledger


@pytest.mark.parametrize("size", [1, 3, 5])
async def test_what_is_acknowledged_is_on_every_voter(tmp_path: Path, size: int) -> None:
    """One leader; every voter applies the same entries and has the same digest."""
    async with running(tmp_path, size) as replicas:
        leader = await leader_of(replicas)
        for k in range(20):
            leader = await commit(replicas, [put(f"k{k}", b"v", seq=2 * k + 1), put(f"j{k}", b"w", seq=2 * k + 2)])
        index = leader.role().applied_index
        await until(lambda: all(r.role().applied_index >= index for r in replicas))
        assert len({machine_of(r).digest() for r in replicas}) == 1
        assert machine_of(leader).values["k19"] == b"v"
        assert sum(r.role().is_leader for r in replicas) == 1


def machine_of(replica: Replica) -> Ledger:
    return replica.machine  # type: ignore[return-value]


async def test_followers_refuse_and_name_the_leader(tmp_path: Path) -> None:
    """A proposal or a barrier at a follower certainly does nothing."""
    async with running(tmp_path, 3) as replicas:
        leader = await leader_of(replicas)
        follower = next(r for r in replicas if r is not leader)
        await until(lambda: follower.role().leader_id == leader.role().node_id)
        with pytest.raises(NotLeader) as refused:
            await follower.propose([put("k")])
        assert refused.value.leader_id == leader.role().node_id
        with pytest.raises(NotLeader):
            await follower.barrier()
        assert await leader.barrier() <= leader.role().commit_index


async def test_another_leader_goes_on_without_loss(tmp_path: Path) -> None:
    """After the leader is gone the others elect one that holds everything that was acknowledged."""
    async with contextlib.AsyncExitStack() as rest:
        settings = settings_of(tmp_path, 3)
        stacks = [contextlib.AsyncExitStack() for _ in settings]
        replicas = [
            await stack.enter_async_context(Replica(each, Ledger()))
            for stack, each in zip(stacks, settings, strict=True)
        ]
        for stack in stacks:
            rest.push_async_callback(stack.aclose)
        first = await leader_of(replicas)
        for k in range(30):
            first = await commit(replicas, [put(f"k{k}", seq=k + 1)])
        await stacks[replicas.index(first)].aclose()
        others = [r for r in replicas if r is not first]
        second = await leader_of(others)
        assert second.role().term > first.role().term
        assert {f"k{k}" for k in range(30)} <= set(machine_of(second).values)
        await commit(others, [put("after", seq=31)])


async def test_everything_survives_a_restart_of_all(tmp_path: Path) -> None:
    """Entries, terms and votes come from disk; a repeated request still counts once."""
    settings = settings_of(tmp_path, 3)
    for start in range(2):
        async with contextlib.AsyncExitStack() as stack:
            replicas = [await stack.enter_async_context(Replica(each, Ledger())) for each in settings]
            leader = await leader_of(replicas)
            leader = await commit(replicas, [add("total", seq=1)])
            leader = await commit(replicas, [put(f"start{start}", seq=2 + start)])
            assert machine_of(leader).values["total"] == b"x"
            assert {f"start{k}" for k in range(start + 1)} <= set(machine_of(leader).values)


def add(key: str, seq: int) -> bytes:
    import msgspec

    from consensus.ledger import Command

    return msgspec.msgpack.encode(Command("counter", seq, "add", key, b"x"))


async def test_a_snapshot_replaces_the_log(tmp_path: Path) -> None:
    """After a snapshot and a restart the state is whole, and a voter that was away catches up from it."""
    settings = settings_of(tmp_path, 3)
    async with contextlib.AsyncExitStack() as stack:
        replicas = [await stack.enter_async_context(Replica(each, Ledger())) for each in settings[:2]]
        leader = await leader_of(replicas)
        for k in range(50):
            leader = await commit(replicas, [put(f"k{k}", seq=k + 1)])
        for replica in replicas:
            await replica.snapshot_now()
        for k in range(50, 60):
            leader = await commit(replicas, [put(f"k{k}", seq=k + 1)])
        late = await stack.enter_async_context(Replica(settings[2], Ledger()))
        await until(lambda: late.role().applied_index >= leader.role().applied_index, 20)
        assert machine_of(late).values == machine_of(leader).values


async def test_leadership_can_be_handed_over(tmp_path: Path) -> None:
    """The chosen voter leads next."""
    async with running(tmp_path, 3) as replicas:
        leader = await leader_of(replicas)
        leader = await commit(replicas, [put("k")])
        target = next(r for r in replicas if r is not leader)
        await leader.transfer_leadership(target.role().node_id)
        await until(lambda: target.role().is_leader)


@contextlib.asynccontextmanager
async def memory(tmp_path: Path) -> AsyncIterator[MemoryReplica]:
    del tmp_path
    async with MemoryReplica(Ledger()) as replica:
        yield replica


@contextlib.asynccontextmanager
async def single(tmp_path: Path) -> AsyncIterator[Replica]:
    async with running(tmp_path, 1) as [replica]:
        await leader_of([replica])
        yield replica


@pytest.mark.parametrize("make", [memory, single])
async def test_the_twin_keeps_the_same_promises(tmp_path: Path, make: object) -> None:
    """Outcomes in order, indexes that grow, callbacks after each entry."""
    async with make(tmp_path) as replica:  # type: ignore[operator]
        seen: list[int] = []
        replica.on_apply = lambda index, _outcomes: seen.append(index)
        assert await replica.propose([put("a", seq=1), put("b", seq=2)]) == [None, None]
        before = replica.role().applied_index
        await replica.propose([put("c", seq=3)])
        assert replica.role().applied_index > before
        assert await replica.barrier() >= before
        assert seen == sorted(seen)
        assert seen
