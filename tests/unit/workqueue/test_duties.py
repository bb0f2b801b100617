"""Duties: run on the leader only, after the term has begun; what each decides is a plain function of what it reads."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from config.load import load
from config.loop import LoopSettings
from membership.api import Member, State
from tests.unit.workqueue.conftest import Voter, running_voter
from workqueue.duties.bootstrap import DUTY as BOOTSTRAP
from workqueue.duties.bootstrap import settings_of
from workqueue.duties.context import DutyContext
from workqueue.duties.expire import DUTY as EXPIRE
from workqueue.duties.presence import Presence, confirmed
from workqueue.duties.retain import KEEP_MAX, KEEP_MS, MIN_AGE_MS, append, due
from workqueue.duties.runner import all_duties, run_duties
from workqueue.errors import EXIT_DISK, EXIT_FAILED, EXIT_PORT, ProcessFailure
from workqueue.machine.commands import BeginTerm, EndBoot, Enqueue, JobSpec, RegisterKind
from workqueue.machine.outcomes import Enqueued
from workqueue.process import explain, prepare_data, read_config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Probe:
    """Counts its runs."""

    name = "probe"
    period_s = 0.01

    def __init__(self) -> None:
        self.runs = 0

    async def run(self, context: DutyContext) -> None:
        self.runs += 1
        await context.query("status")
        if self.runs == 1:
            raise RuntimeError("a failed run does not end a duty")


@contextlib.asynccontextmanager
async def duties(voter: Voter, *running: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(run_duties(voter.context, running, lambda: 1_000))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_duties_run_while_their_voter_leads(voter: Voter) -> None:
    """They stop with the leadership and go on with it; each term begins once, before any duty."""
    probe = Probe()
    async with duties(voter, probe):
        await _until(lambda: probe.runs >= 3)
        voter.replica.lose_leadership()
        await _until(lambda: not voter.context.core.leads)
        await asyncio.sleep(0.05)
        before = probe.runs
        await asyncio.sleep(0.1)
        assert probe.runs == before
        voter.replica.become_leader()
        await _until(lambda: probe.runs > before)
    begun = [request.command for request in voter.machine.applied if isinstance(request.command, BeginTerm)]
    assert begun == [BeginTerm(1), BeginTerm(2)]


async def test_a_new_cluster_gets_its_settings_once(tmp_path: Path) -> None:
    """loop.yaml becomes the replicated settings at version 0, and is not laid over what people set later."""
    async with running_voter(tmp_path, real=True) as voter:
        context = DutyContext(voter.context, "bootstrap", lambda: 1_000)
        for _ in range(2):
            await BOOTSTRAP.run(context)
        found = await context.query("settings")
        assert found["version"] == 1
        assert found["values"]["target_elo"] == LoopSettings().target_elo


async def test_time_passes_only_when_something_is_due(tmp_path: Path) -> None:
    """An idle cluster's log does not grow; a scheduled job becomes available when its moment has come."""
    async with running_voter(tmp_path, real=True) as voter, voter.client() as client:
        index = voter.replica.role().commit_index
        await EXPIRE.run(DutyContext(voter.context, "expire", lambda: 1 << 60))
        assert voter.replica.role().commit_index == index
        now_ms = (await client.query("status"))["now_ms"]
        await client.submit(RegisterKind("open"))
        [outcome] = await client.submit(Enqueue((JobSpec("later", "open", run_at_ms=now_ms + 1_000),)))
        assert outcome == Enqueued(("later",))
        assert (await client.query("job", job="later"))["state"] == "scheduled"
        await _until(lambda: voter.context.core.state.next_due_ms > 0)
        await asyncio.sleep(1.0)
        await EXPIRE.run(DutyContext(voter.context, "expire", lambda: 1 << 60))
        assert (await client.query("job", job="later"))["state"] == "available"


def test_the_settings_are_whole() -> None:
    """Dotted keys and values give loop.yaml back."""
    values = settings_of(LoopSettings(target_elo=1234))
    assert msgspec.msgpack.decode(values["target_elo"]) == 1234
    assert msgspec.msgpack.decode(values["gate.floor_games"]) == LoopSettings().gate.floor_games
    assert all(isinstance(value, msgspec.Raw) for value in values.values())


def member(state: State, *, boot: str = "b", via: str = "gossip", observers: int = 0, since_ms: int = 0) -> Member:
    return Member("w", boot, "worker", "", {}, state, via, since_ms, observers)


@pytest.mark.parametrize(
    ("seen", "dead"),
    [
        (None, False),
        (member(State.ALIVE), False),
        (member(State.SUSPECT, observers=5), False),
        (member(State.DEAD, observers=1), False),
        (member(State.DEAD, observers=2), True),
        (member(State.DEAD, observers=2, since_ms=9_900), False),
        (member(State.DEAD, observers=2, boot="older"), False),
        (member(State.DEAD, via="lease"), True),
        (member(State.LEFT), True),
    ],
)
def test_a_boot_is_ended_only_when_its_death_is_confirmed(seen: Member | None, dead: bool) -> None:
    """One accuser is not enough, a fresh verdict may be refuted, another boot is another life."""
    assert bool(confirmed(seen, "b", 10_000)) == dead


class Watched:
    """What the presence duty sees of a leader: its term, its workers, members, and what it does."""

    def __init__(self, *members: Member) -> None:
        self.term = 1
        self.found = list(members)
        self.expected: list[tuple[str, str]] = []
        self.proposed: list[Any] = []
        self.workers = [{"id": "w", "boot": "b", "live": True}, {"id": "old", "boot": "a", "live": False}]

    core = front = membership = presence = property(lambda self: self)

    def expect(self, worker: str, boot: str) -> None:
        self.expected.append((worker, boot))

    def members(self, role: str) -> list[Member]:
        assert role == "worker"
        return self.found

    async def query(self, name: str) -> Any:
        assert name == "workers"
        return self.workers

    async def propose(self, command: Any) -> None:
        self.proposed.append(command)


async def test_each_term_expects_every_registered_worker_to_beat() -> None:
    """Once a term: a worker may have died together with the leader that heard it."""
    seen, duty = Watched(), Presence()
    for _ in range(2):
        await duty.run(seen)  # type: ignore[arg-type]
    assert seen.expected == [("w", "b")]
    seen.term = 2
    await duty.run(seen)  # type: ignore[arg-type]
    assert seen.expected == [("w", "b"), ("w", "b")]


async def test_the_boot_of_a_confirmed_death_is_ended() -> None:
    """By name and boot, with the reason; an unconfirmed one is left alone."""
    seen = Watched(member(State.DEAD, observers=1))
    await Presence().run(seen)  # type: ignore[arg-type]
    assert seen.proposed == []
    seen.found = [member(State.DEAD, observers=3)]
    await Presence().run(seen)  # type: ignore[arg-type]
    assert seen.proposed == [EndBoot("w", "b", "3 members found it dead")]


def test_ended_jobs_are_kept_for_a_day_unless_they_are_many() -> None:
    """Old ones go; of too many the oldest go, but nobody's result vanishes within minutes."""
    rows = [{"id": str(age), "ended_ms": 10**12 - age} for age in (1, MIN_AGE_MS + 1, KEEP_MS + 1)]
    assert due(rows, 3, 10**12) == [str(KEEP_MS + 1)]
    assert due(rows, KEEP_MAX + 3, 10**12) == [str(KEEP_MS + 1), str(MIN_AGE_MS + 1)]


def test_archived_jobs_are_lines_of_json(tmp_path: Path) -> None:
    """Appended, never overwritten."""
    path = tmp_path / "archive/jobs.jsonl"
    append(path, [{"id": "a"}])
    append(path, [{"id": "b"}])
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["a", "b"]


def test_every_duty_is_found() -> None:
    """A module with DUTY takes part; names differ."""
    names = [duty.name for duty in all_duties()]
    assert len(names) == len(set(names))
    assert {"expire", "presence", "bootstrap", "retain"} <= set(names)


@pytest.mark.parametrize(
    ("error", "code", "hint"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), EXIT_DISK, "free some"),
        (OSError(errno.EADDRINUSE, "address already in use ('127.0.0.1', 8770)"), EXIT_PORT, "8770"),
        (ProcessFailure("why", 4), 4, "why"),
        (PermissionError(errno.EACCES, "Permission denied", "/data"), EXIT_FAILED, "/data"),
    ],
)
def test_an_error_is_a_sentence_and_an_exit_code(error: BaseException, code: int, hint: str) -> None:
    """What operators meet has words and a code of its own."""
    sentence, found = explain(error)
    assert found == code
    assert hint in sentence


def test_a_data_folder_is_marked_and_checked(tmp_path: Path) -> None:
    """The first start marks it; a damaged mark is refused."""
    from config.cluster import VoterAddress
    from workqueue.init import create

    made = create(tmp_path, [VoterAddress("voter-1", "127.0.0.1")])
    config = read_config(made.voters[0])
    prepare_data(config)
    prepare_data(config)
    (config.data / "voter.json").write_text("{")
    with pytest.raises(ProcessFailure, match="damaged"):
        prepare_data(config)
    assert load(LoopSettings, made.loop) == LoopSettings()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)
