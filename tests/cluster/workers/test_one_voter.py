"""The worker's command as a real process against a real front, stream and artifact routes over TLS."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.cluster.workers.harness import EXAMPLE, ROOT, Worker, workers_ended
from tests.cluster.workers.twin import WorkerTwin
from tests.unit.workers.memory import NIL
from tests.unit.workqueue import conftest as service
from workqueue.machine.commands import Enqueue, JobSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.unit.workers.memory import MemoryVoters

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


class World:
    """The voter, its state, and a way to start workers."""

    def __init__(self, voter: service.Voter, folder: Path) -> None:
        self.voter = voter
        self.folder = folder

    @property
    def state(self) -> MemoryVoters:
        machine = self.voter.machine
        assert isinstance(machine, WorkerTwin)
        return machine.state

    def worker(self, name: str = "w", *flags: str) -> Worker:
        created = self.voter.created
        flags = ("--slots", "1", *flags)
        return Worker(self.folder, name, [self.voter.url], created.worker_token, created.ca, flags)

    async def enqueue(self, *names: str, payload: dict[str, Any] | None = None, **fields: Any) -> None:
        raw = msgspec.Raw(msgspec.msgpack.encode(payload or {}))
        async with self.voter.client() as client:
            await client.submit(Enqueue(tuple(JobSpec(name, "fake", raw, **fields) for name in names)))


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(service, "TwinMachine", WorkerTwin)
    async with service.running_voter(tmp_path / "voter") as voter:
        yield World(voter, tmp_path)


async def until(done: Callable[[], bool], timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not done():
            await asyncio.sleep(0.02)


async def test_joins_works_and_leaves(world: World) -> None:
    """Jobs are claimed by the stream, files uploaded over HTTPS, and SIGTERM ends it with nothing left behind."""
    worker = world.worker()
    await world.enqueue("a", "b", payload={"steps": 4, "publish_every": 2})
    async with workers_ended(worker):
        await worker.start()
        await world.state.finished("a", "b", timeout_s=40)
        assert len(world.state.artifacts) == 4
        await worker.signal(signal.SIGTERM)
        assert await worker.wait() == 0, worker.text()
        assert world.state.boots == {}


async def test_runners_die_with_their_agent(world: World) -> None:
    """kill -9 of the agent leaves no process; its next start gets the job at once and finishes it."""
    worker = world.worker()
    await world.enqueue("a", payload={"steps": 60, "step_ms": 50, "publish_every": 5}, lease_ms=8_000)
    async with workers_ended(worker):
        await worker.start()
        await until(lambda: world.state.jobs["a"].cursor != NIL)
        [runner] = worker.runners()
        await worker.kill()
        await until(lambda: not runner.is_running())
        await worker.start()
        await world.state.finished("a", timeout_s=40)
    job = world.state.jobs["a"]
    assert job.attempt == 2
    assert msgspec.msgpack.decode(job.result)["first"] >= 5


async def test_a_killed_runner_is_replaced(world: World) -> None:
    """kill -9 of the runner fails the attempt by the machine's fault and the job is done again."""
    worker = world.worker()
    await world.enqueue("a", payload={"steps": 40, "step_ms": 50})
    async with workers_ended(worker):
        await worker.start()
        await until(lambda: world.state.jobs["a"].state == "running")
        await asyncio.sleep(0.5)
        [runner] = worker.runners()
        runner.kill()
        await world.state.finished("a", timeout_s=40)
    assert world.state.jobs["a"].ended[0].cause == "runner.killed"


async def test_a_second_agent_on_the_same_folder_is_refused(world: World) -> None:
    """Two agents never share a spool."""
    first, second = world.worker(), world.worker()
    async with workers_ended(first, second):
        await first.start()
        await until(lambda: "w" in world.state.boots)
        await second.start()
        assert await second.wait() == 2
    assert "another worker uses" in first.text()


async def test_a_clock_an_hour_off(world: World) -> None:
    """No decision of a worker depends on its wall clock."""
    worker = world.worker()
    await world.enqueue("a", payload={"steps": 20, "step_ms": 50}, lease_ms=2_000)
    shift = world.folder / "sitecustomize.py"
    shift.write_text(
        f"open({str(world.folder / 'shifted')!r}, 'a').close()\n"
        "import time\n_real, _ns = time.time, time.time_ns\n"
        "time.time = lambda: _real() + 3600\ntime.time_ns = lambda: _ns() + 3600 * 10**9\n"
    )
    async with workers_ended(worker):
        await worker.start(prefix=["env", f"PYTHONPATH={world.folder}:{EXAMPLE}:{ROOT}"])
        await world.state.finished("a", timeout_s=40)
    assert (world.folder / "shifted").exists()
    assert world.state.jobs["a"].attempt == 1


async def test_the_agent_imports_no_engine(world: World) -> None:
    """The live agent's memory maps show neither torch nor numba nor pysyncobj."""
    worker = world.worker()
    async with workers_ended(worker):
        await worker.start()
        await until(lambda: "w" in world.state.boots)
        assert worker.process
        maps = Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert "libtorch" not in maps
    assert "llvmlite" not in maps
    assert "numpy" not in maps


async def test_a_message_for_a_missing_token(tmp_path: Path) -> None:
    """A mistake in the flags gets one sentence and exit code 2."""
    worker = Worker(tmp_path, "w", ["https://127.0.0.1:1"], tmp_path / "none", tmp_path / "ca.pem", ())
    await worker.start()
    assert await worker.wait() == 2
    assert "token_file" in worker.text()
    assert "Traceback" not in worker.text()
