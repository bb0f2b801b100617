"""The stream through a whole voter: propose, claim, refuse, survive."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.unit.workqueue.conftest import Voter
from workqueue.client import Client
from workqueue.errors import Rejected, Unavailable
from workqueue.machine.commands import Claim, Complete, Completion, Enqueue, Free, Halt, JobSpec
from workqueue.machine.outcomes import Completed, Empty, Enqueued, Granted, Settled

FREE = Free(1, 1, 1)


def jobs(*ids: str) -> Enqueue:
    return Enqueue(tuple(JobSpec(name, "open") for name in ids))


def claim(limit: int = 1) -> Claim:
    return Claim("w", "b", FREE, limit)


async def test_a_job_lives_through_the_stream(voter: Voter) -> None:
    """Enqueue, claim and complete reach the machine and answer with its outcomes."""
    async with voter.client() as client:
        assert await client.submit(jobs("a", "b")) == [Enqueued(("a", "b"))]
        granted = await client.claim(claim(2), 0)
        assert isinstance(granted, Granted)
        assert [lease.job for lease in granted.leases] == ["a", "b"]
        done = await client.submit(Complete("w", tuple(Completion(lease.job, 1) for lease in granted.leases)))
        assert done == [Completed((Settled("a", "completed"), Settled("b", "completed")))]
        assert voter.machine.completed == {"a", "b"}


async def test_a_claim_waits_for_a_job(voter: Voter) -> None:
    """A claim on an empty queue is answered as soon as a job arrives, and Empty when none does in time."""
    async with voter.client("worker") as worker, voter.client() as admin:
        assert isinstance(await worker.claim(claim(), 0), Empty)
        waiting = asyncio.create_task(worker.claim(claim(), 5_000))
        await _until(lambda: voter.context.core.state.parked == 1 or waiting.done())
        assert not waiting.done()
        started = time.perf_counter()
        await admin.submit(jobs("a"))
        granted = await waiting
        assert isinstance(granted, Granted)
        assert time.perf_counter() - started < 1


async def test_a_waiting_claim_travels_with_the_job(voter: Voter) -> None:
    """A job that is added while a claim waits is granted in the same log entry."""
    async with voter.client("worker") as worker, voter.client() as admin:
        waiting = asyncio.create_task(worker.claim(claim(), 5_000))
        await _until(lambda: voter.context.core.state.parked == 1)
        index = voter.replica.role().commit_index
        await admin.submit(jobs("a"))
        assert isinstance(await waiting, Granted)
        assert voter.replica.role().commit_index == index + 1


async def test_one_job_goes_to_one_of_many_waiting(voter: Voter) -> None:
    """Each of several jobs wakes a waiting claim; none is granted twice."""
    async with voter.client("worker") as worker, voter.client() as admin:
        waiting = [asyncio.create_task(worker.claim(claim(), 3_000)) for _ in range(20)]
        await _until(lambda: voter.context.core.state.parked == 20)
        names = [f"job-{n}" for n in range(15)]
        await admin.submit(*(jobs(name) for name in names))
        await _until(lambda: sum(task.done() for task in waiting) == 15)
        granted = [task.result() for task in waiting if task.done()]
        assert sorted(lease.job for each in granted if isinstance(each, Granted) for lease in each.leases) == sorted(
            names
        )
        for task in waiting:
            task.cancel()


async def test_a_claim_ends_with_its_connection(voter: Voter) -> None:
    """A worker that goes away leaves no claim behind that could take a job."""
    async with voter.client("worker") as worker:
        waiting = asyncio.create_task(worker.claim(claim(), 30_000))
        await _until(lambda: voter.context.core.state.parked == 1)
        waiting.cancel()
    await _until(lambda: voter.context.core.state.parked == 0)
    async with voter.client() as admin:
        await admin.submit(jobs("a"))
        assert "a" in voter.machine.available


async def test_a_worker_may_not_do_what_admins_do(voter: Voter) -> None:
    """A worker's token can neither halt the queue nor read tokens nor feed built-in kinds."""
    async with voter.client("worker") as worker:
        with pytest.raises(Rejected, match="may not propose Halt"):
            await worker.submit(Halt("*", "because"))
        with pytest.raises(Rejected, match="needs the role `admin`"):
            await worker.query("tokens")
        with pytest.raises(Rejected, match="built-in kind `selfplay`"):
            await worker.submit(Enqueue((JobSpec("a", "selfplay"),)))
        await worker.submit(jobs("open-one"))
    assert [type(request.command).__name__ for request in voter.machine.applied] == ["Enqueue"]


async def test_the_actor_is_the_token(voter: Voter) -> None:
    """Whoever a client claims to be, the log holds whose token it was."""
    async with Client([voter.url], token=voter.token("admin"), ca=voter.created.ca, actor="mallory") as client:
        await client.submit(jobs("a"))
    assert voter.machine.applied[0].actor == "admin:first admin/mallory"


async def test_a_wrong_token_is_rejected(voter: Voter) -> None:
    """A bad token ends the call at once, with a sentence."""
    async with Client([voter.url], token="rift_abc_def", ca=voter.created.ca, deadline_s=2) as client:
        with pytest.raises(Rejected, match="does not accept this token"):
            await client.query("status")


async def test_an_ambiguous_answer_takes_effect_once(voter: Voter) -> None:
    """When the log cannot say what became of a request, it is sent again and counted once."""
    async with voter.client() as client:
        voter.replica.answer_unknown(2)
        assert await client.submit(jobs("a")) == [Enqueued(("a",))]
    assert len(voter.machine.applied) == 1


async def test_without_a_leader_calls_end_as_unavailable(voter: Voter) -> None:
    """No leader: writes fail within the deadline, stale reads go on and say their age."""
    voter.replica.lose_leadership()
    async with voter.client(deadline_s=4.0) as client:
        with pytest.raises(Unavailable):
            await client.submit(jobs("a"))
        value, index, age_ms = await client.query_stale("status")
        assert value["available"] == 0
        assert (index, age_ms) == (2, 0)
        voter.replica.become_leader()
    async with voter.client() as client:
        assert await client.submit(jobs("a")) == [Enqueued(("a",))]


async def test_a_revoked_token_ends_its_stream(voter: Voter) -> None:
    """Revocation closes open connections and lets no new one in."""
    async with voter.client("worker", deadline_s=3) as client:
        await client.query("status")
        voter.machine.tokens = [{**token, "revoked": True} for token in voter.machine.tokens]
        with pytest.raises(Rejected):
            await _query_for_ever(client)


async def _query_for_ever(client: Client) -> None:
    async with asyncio.timeout(10):
        while True:
            await client.query("status")
            await asyncio.sleep(0.05)


async def _until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
