"""An agent and its runners against a voter in memory: what a job may do, and what must follow."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest

from tests.unit.workers.conftest import options
from workers.events import Order
from workers.process import RunnerProcess
from workers.runner import Context
from workers.runner_task import Task
from workqueue.machine.commands import Fail, Fault, Release

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.unit.workers.conftest import Started
    from tests.unit.workers.memory import MemoryVoters

    Start = Callable[..., Started]


def result(voters: MemoryVoters, name: str) -> dict[str, Any]:
    return msgspec.msgpack.decode(voters.jobs[name].result)


async def test_runs_jobs_in_one_warm_runner(voters: MemoryVoters, start: Start, tmp_path: Path) -> None:
    """Jobs run one after another in the same process, and their ends arrive once."""
    trace = tmp_path / "trace"
    for index in range(20):
        voters.enqueue(f"j{index}", {"steps": 3, "trace": str(trace)})
    worker = start()
    await voters.finished(*voters.jobs)
    assert {job.attempt for job in voters.jobs.values()} == {1}
    assert all(len(job.ended) == 1 for job in voters.jobs.values())
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert len({pid for _, pid, *_ in lines}) == 1
    assert len(lines) == 40
    assert await worker.leave() == 0
    assert voters.boots == {}
    assert list((tmp_path / "w" / "spool").iterdir()) == []
    assert list((tmp_path / "w" / "work").iterdir()) == []


async def test_a_task_says_how_nets_are_computed_here(
    voters: MemoryVoters, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backend of this worker and the file of its batch sizes, which the job finds in its context."""
    tasks: list[Task] = []
    send = RunnerProcess.send

    def noted(self: RunnerProcess, *parts: Any) -> None:
        tasks.extend(part for part in parts if isinstance(part, Task))
        send(self, *parts)

    monkeypatch.setattr(RunnerProcess, "send", noted)
    voters.enqueue("j")
    worker = start(backend="openvino:bf16")
    await voters.finished("j")
    [task] = tasks
    context = Context(task, "cpu", None)  # type: ignore[arg-type]
    assert context.backend == "openvino:bf16"
    assert context.batches == worker.agent._data / "batches.json"


async def test_two_slots_run_at_once(voters: MemoryVoters, start: Start, tmp_path: Path) -> None:
    """Each slot has its own runner."""
    trace = tmp_path / "trace"
    for index in range(4):
        voters.enqueue(f"j{index}", {"steps": 10, "step_ms": 20, "trace": str(trace)})
    start(options(slots=2))
    await voters.finished(*voters.jobs)
    assert len({line.split()[1] for line in trace.read_text().splitlines()}) == 2


async def test_files_are_stored_before_the_completion(voters: MemoryVoters, start: Start) -> None:
    """A completed job names its files, and all of them are held."""
    voters.enqueue("j", {"steps": 4, "publish_every": 2})
    start()
    await voters.finished("j")
    [end] = voters.jobs["j"].ended
    assert [ref.sha256 for ref in end.artifacts] == result(voters, "j")["files"]
    assert len(end.artifacts) == 2
    assert all(ref.sha256 in voters.artifacts for ref in end.artifacts)
    assert voters.transfers == [("put", "j")] * 2


@pytest.mark.parametrize(
    ("act", "cause"), [("", "artifact.refused"), ("raise", "job.failed")], ids=["completed", "failed"]
)
async def test_files_that_voters_refuse_do_not_hold_up_the_end(
    voters: MemoryVoters, start: Start, act: str, cause: str
) -> None:
    """Asking again would change nothing: a completion becomes a failure, a failure is told without its files."""
    voters.refusing = "413"
    voters.enqueue("j", {"steps": 4, "publish_every": 2, "act": act, "act_at": 3}, lease_ms=60_000)
    worker = start()
    await voters.until(lambda: bool(voters.jobs["j"].ended))
    assert voters.jobs["j"].ended[0].cause == cause
    assert voters.artifacts == {}
    await worker.leave()


async def test_fetches_what_a_job_needs(voters: MemoryVoters, start: Start) -> None:
    """A job gets artifacts by name; one that nobody holds is nobody's fault but the infrastructure's."""
    data = b"weights"
    name = hashlib.sha256(data).hexdigest()
    voters.artifacts[name] = data
    voters.enqueue("j", {"fetch": name})
    voters.enqueue("k", {"fetch": "0" * 64})
    worker = start()
    await voters.finished("j")
    assert result(voters, "j")["fetched"] == 7
    await voters.until(lambda: bool(voters.jobs["k"].ended))
    end = voters.jobs["k"].ended[0]
    assert (end.cause, end.fault) == ("artifact.unavailable", Fault.INFRASTRUCTURE)
    await worker.leave()


async def failure(voters: MemoryVoters, start: Start, act: str, opts: Any = None, **limits: object) -> Fail:
    voters.enqueue("bad", {"steps": 3, "act": act, "act_at": 1})
    start(opts, **limits)
    await voters.until(lambda: bool(voters.jobs["bad"].ended))
    end = voters.jobs["bad"].ended[0]
    assert isinstance(end, Fail)
    voters.cancelled.add("bad")
    voters.jobs["bad"].state = "cancelled"
    voters.enqueue("good")
    await voters.finished("good")  # the agent lives and works on
    return end


async def test_an_exception_is_the_jobs_fault(voters: MemoryVoters, start: Start) -> None:
    """The cause is typed and the log's tail comes with it."""
    end = await failure(voters, start, "raise")
    assert (end.cause, end.fault) == ("job.failed", Fault.PAYLOAD)
    assert "this job always fails" in end.message
    assert "job bad starts at 0" in end.log_tail
    assert "Traceback" in end.log_tail


async def test_a_segfault_is_a_crash(voters: MemoryVoters, start: Start) -> None:
    """A signal ends the attempt, never the agent."""
    end = await failure(voters, start, "segfault")
    assert (end.cause, end.fault) == ("runner.crashed", Fault.PAYLOAD)
    assert "signal 11" in end.message
    assert "job bad starts" in end.log_tail


async def test_an_exit_is_a_crash(voters: MemoryVoters, start: Start) -> None:
    """So does leaving without a word."""
    assert "exit code 7" in (await failure(voters, start, "exit")).message


async def test_a_kill_from_outside_is_the_machines_fault(voters: MemoryVoters, start: Start) -> None:
    """Signal 9 that the agent did not send costs the job no attempt of its own."""
    end = await failure(voters, start, "killed")
    assert (end.cause, end.fault) == ("runner.killed", Fault.NODE)


async def test_too_much_memory(voters: MemoryVoters, start: Start) -> None:
    """A runner that outgrows its share is killed and the cause is named."""
    end = await failure(voters, start, "memory", memory_mb=300, watch_s=0.05)
    assert (end.cause, end.fault) == ("runner.out_of_memory", Fault.PAYLOAD)
    assert "of the 300 MB" in end.message


async def test_an_allocation_that_fails(voters: MemoryVoters, start: Start) -> None:
    """Out of memory told by an exception has the same name in the job."""
    assert (await failure(voters, start, "bad_alloc")).cause == "job.out_of_memory"


async def test_a_hang_is_found_by_missing_progress(voters: MemoryVoters, start: Start) -> None:
    """A runner that lives but says nothing is killed."""
    end = await failure(voters, start, "hang", options(hang_ms=700))
    assert (end.cause, end.fault) == ("runner.hung", Fault.PAYLOAD)


async def test_children_of_a_killed_runner_die_too(voters: MemoryVoters, start: Start, tmp_path: Path) -> None:
    """The whole process group goes."""
    voters.enqueue("j", {"steps": 100, "step_ms": 50, "act": "child"}, total_ms_max=600)
    start()
    await voters.until(lambda: bool(voters.jobs["j"].ended))
    assert voters.jobs["j"].ended[0].cause == "job.timed_out"
    pid = int((tmp_path / "w" / "child.pid").read_text())

    def gone() -> bool:
        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE

    await voters.until(gone)


async def test_a_lost_lease_kills_the_attempt(voters: MemoryVoters, start: Start) -> None:
    """What another worker has now is not run on, and nothing of it is reported."""
    voters.enqueue("j", {"steps": 1000, "step_ms": 20, "publish_every": 5}, lease_ms=400)
    worker = start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.jobs["j"].attempt += 1  # granted to another
    await voters.until(lambda: not worker.agent._decisions.running and not worker.agent._spool.entries)
    assert voters.jobs["j"].ended == []


async def test_cancel(voters: MemoryVoters, start: Start) -> None:
    """A cancelled job stops within a heartbeat."""
    voters.enqueue("j", {"steps": 1000, "step_ms": 20}, lease_ms=400)
    start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.cancelled.add("j")
    await voters.finished("j", timeout_s=2)
    assert voters.jobs["j"].state == "cancelled"


async def test_a_deaf_job_is_killed_on_cancel(voters: MemoryVoters, start: Start) -> None:
    """One that does not listen is killed after a moment."""
    voters.enqueue("j", {"steps": 1000, "step_ms": 20, "act": "deaf", "act_at": -1}, lease_ms=400)
    start(options(cancel_ms=200))
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.cancelled.add("j")
    await voters.finished("j", timeout_s=5)
    voters.enqueue("good")
    await voters.finished("good")


async def test_drain(voters: MemoryVoters, start: Start) -> None:
    """A drained worker finishes what it has and claims no more."""
    voters.enqueue("j", {"steps": 20, "step_ms": 20}, lease_ms=400)
    start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.draining.add("w")
    await asyncio.sleep(0.2)
    voters.enqueue("k")
    await voters.finished("j")
    await asyncio.sleep(0.2)
    assert voters.jobs["k"].state == "available"


async def test_stop_releases_with_the_cursor_and_another_goes_on(voters: MemoryVoters, start: Start) -> None:
    """An order to stop checkpoints, uploads, releases and leaves; the next worker starts at the cursor."""
    voters.enqueue("j", {"steps": 60, "step_ms": 20, "publish_every": 5})
    first = start()
    await voters.until(lambda: len(voters.artifacts) >= 2)
    assert await first.leave() == 0
    [end] = voters.jobs["j"].ended
    assert isinstance(end, Release)
    start(options("x"))
    await voters.finished("j")
    told = result(voters, "j")
    assert told["first"] >= 10
    assert len(told["files"]) == 12
    assert set(told["files"]) <= set(voters.artifacts)


async def test_stop_after_job(voters: MemoryVoters, start: Start) -> None:
    """The job at hand ends, no other begins."""
    voters.enqueue("j", {"steps": 20, "step_ms": 20})
    voters.enqueue("k")
    worker = start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    assert await worker.leave(Order.STOP_AFTER_JOB) == 0
    assert (voters.jobs["j"].state, voters.jobs["k"].state) == ("completed", "available")


async def test_pause_and_resume(voters: MemoryVoters, start: Start) -> None:
    """A paused job keeps its lease and goes on where it was."""
    voters.enqueue("j", {"steps": 30, "step_ms": 20}, lease_ms=400)
    worker = start(options(hang_ms=600))
    await voters.until(lambda: voters.jobs["j"].state == "running")
    worker.agent.order(Order.PAUSE)
    await asyncio.sleep(1.2)
    assert voters.jobs["j"].state == "running"
    worker.agent.order(Order.RESUME)
    await voters.finished("j")
    assert (voters.jobs["j"].attempt, voters.jobs["j"].state) == (1, "completed")


async def test_an_outage_loses_nothing(voters: MemoryVoters, start: Start) -> None:
    """Without voters the job goes on, ends, waits in the spool, and counts when they are back."""
    voters.enqueue("j", {"steps": 20, "step_ms": 20, "publish_every": 5}, lease_ms=400)
    worker = start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.down = True
    await voters.until(lambda: any(entry.end for entry in worker.agent._spool.entries.values()))
    await asyncio.sleep(0.5)
    assert voters.jobs["j"].ended == []
    voters.jobs["j"].expires_s += 10  # a new leader grants every lease one more term
    voters.down = False
    await voters.finished("j")
    assert voters.jobs["j"].attempt == 1
    assert len(result(voters, "j")["files"]) == 4


async def test_the_spool_survives_a_restart(voters: MemoryVoters, start: Start) -> None:
    """What had ended during an outage is delivered by the agent's next run."""
    voters.enqueue("j", {"steps": 2, "publish_every": 1}, lease_ms=60_000)
    first = start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.down = True
    await voters.until(lambda: any((entry.folder / "end").exists() for entry in first.agent._spool.entries.values()))
    await first.vanish()
    voters.down = False
    start()
    await voters.finished("j")
    assert (voters.jobs["j"].attempt, len(voters.jobs["j"].ended)) == (1, 1)


async def test_a_stale_completion_is_dropped(voters: MemoryVoters, start: Start) -> None:
    """The end of an attempt that is another's now changes nothing and is forgotten."""
    voters.enqueue("j", {"steps": 2}, lease_ms=400)
    worker = start()
    await voters.until(lambda: voters.jobs["j"].state == "running")
    voters.down = True
    await voters.until(lambda: any(entry.end for entry in worker.agent._spool.entries.values()))
    voters.jobs["j"].attempt += 1
    voters.down = False
    await voters.until(lambda: not worker.agent._spool.entries)
    assert voters.jobs["j"].ended == []


async def test_two_workers_with_one_name(voters: MemoryVoters, start: Start, tmp_path: Path) -> None:
    """The second waits for the first to go and then gives up with a clear message."""
    voters.boots["w"] = "boot-other"
    worker = start(options(join_ms_max=300, backoff_ms=50))
    async with asyncio.timeout(10):
        assert await worker.task == 1
    assert voters.boots["w"] == "boot-other"


async def test_another_rules_version_is_refused(voters: MemoryVoters, start: Start) -> None:
    """A job for other rules is given back with a message that says what to install."""
    voters.enqueue("j", {"rules_version": "2"})
    start()
    await voters.until(lambda: bool(voters.jobs["j"].ended))
    end = voters.jobs["j"].ended[0]
    assert (end.cause, end.fault) == ("version.mismatch", Fault.NODE)
    assert "rules 2" in end.message


async def test_unknown_payload(voters: MemoryVoters, start: Start) -> None:
    """A payload with a field that the kind does not know fails by the job's fault."""
    voters.enqueue("j", {"stepz": 2})
    start()
    await voters.until(lambda: bool(voters.jobs["j"].ended))
    assert voters.jobs["j"].ended[0].cause == "payload.invalid"


async def test_a_failed_canary_quarantines(voters: MemoryVoters, start: Start) -> None:
    """A device with wrong answers runs nothing, and the voters are told."""
    voters.enqueue("j")
    start(canary="riftq_example:no_such_function")
    await voters.until(lambda: "w" in voters.quarantined)
    assert voters.jobs["j"].attempt == 0


async def test_full_disk_claims_nothing(voters: MemoryVoters, start: Start) -> None:
    """Below the floor no job is taken."""
    voters.enqueue("j")
    start(floor_bytes=1 << 60, watch_s=0.01)
    await asyncio.sleep(0.7)
    assert voters.jobs["j"].attempt == 0
