"""`rift loop` and `rift alerts` against a voter with the real machine."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from tests.unit.workqueue.conftest import running_voter
from workqueue.cli.alerts import app as alerts
from workqueue.cli.loop import ALL, halt_app, resume_app
from workqueue.cli.loop import app as loop
from workqueue.duties.bootstrap import DUTY as BOOTSTRAP
from workqueue.duties.context import DutyContext
from workqueue.duties.improve import DUTY as IMPROVE
from workqueue.machine.commands import Capability, RegisterWorker, SetAlert

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    Run = Callable[..., Awaitable[Any]]


@pytest.fixture
async def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DutyContext]:
    """A new cluster with one worker, and commands that talk to it."""
    async with running_voter(tmp_path, real=True) as voter:
        monkeypatch.setenv("RIFT_CONTEXT", str(tmp_path / "none.yaml"))
        monkeypatch.setenv("RIFT_SERVERS", voter.url)
        monkeypatch.setenv("RIFT_TOKEN_FILE", str(voter.created.admin_token))
        monkeypatch.setenv("RIFT_CA", str(voter.created.ca))
        found = DutyContext(voter.context, "improve", lambda: 1_800_000_000_000)
        await BOOTSTRAP.run(found)
        await found.propose(RegisterWorker("w1", "b1", Capability(4, 1000, 1000, kinds=("selfplay",))))
        yield found


@pytest.fixture
def run(context: DutyContext) -> Run:
    """Run a command; its JSON, or its words when it does not succeed."""
    del context

    async def invoke(app: Any, *arguments: str, code: int = 0) -> Any:
        result = await asyncio.to_thread(CliRunner().invoke, app, [*arguments])
        assert result.exit_code == code, result.output
        if code or "--json" not in arguments:
            return result.output
        return json.loads(result.stdout)

    return invoke


async def test_the_plan_is_what_the_leader_does(context: DutyContext, run: Run) -> None:
    """The dry run names the jobs that the duty then adds; afterwards there is nothing to do."""
    planned = await run(loop, "plan", "--dry-run", "--json")
    assert {row["what"] for row in planned} == {"Enqueue"}
    assert (await context.query("status"))["jobs"] == {}
    await IMPROVE.run(context)
    added = (await context.query("queue", limit=1000))["total"]
    assert added == len(planned) == 8, "twice the four slots"
    assert await run(loop, "plan", "--json") == []
    assert "nothing" in await run(loop, "plan")


async def test_the_sum_is_explained(run: Run) -> None:
    """Every term with value, weight, part and reason; a config that nobody knows is refused with the way in."""
    said = await run(loop, "explain", "square8_2p", "--json")
    assert said["sum"] == sum(term["part"] for term in said["terms"])
    assert all(term["why"] for term in said["terms"])
    assert said["room"]["selfplay"] == 8
    text = await run(loop, "explain", "square8_2p")
    assert "staleness" in text
    assert "self-play jobs" in text
    assert "rift loop start hex8_2p" in await run(loop, "explain", "hex8_2p", code=1)
    assert "did you mean" in await run(loop, "explain", "square_2p", code=2)


async def test_configs_are_started_and_stopped(context: DutyContext, run: Run) -> None:
    """One or all twelve; a stop adds nothing more, a start ends halts too; each change is in the audit."""
    started = await run(loop, "start", "all", "--reason", "go", "--json")
    assert sorted(started["configs"]) == sorted(ALL)
    await run(loop, "halt", "hex8_2p")
    assert (await run(loop, "status", "hex8_2p", "--json"))["configs"][0]["halted"] == "halted by hand"
    await run(loop, "start", "hex8_2p")
    assert (await run(loop, "status", "hex8_2p", "--json"))["configs"][0]["halted"] == ""
    assert len((await run(loop, "stop", "hex8_2p", "square8_2p", "--json"))["configs"]) == 10
    assert "it works on" in await run(loop, "stop", "hex8_2p", code=1)
    await IMPROVE.run(context)
    jobs = (await context.query("queue", limit=1000))["jobs"]
    assert jobs
    assert "hex8_2p" not in {job["config"] for job in jobs}
    audit = await context.query("audit")
    assert {("set", "configs", "go"), ("resume", "hex8_2p", "")} <= {
        (entry["action"], entry["subject"], entry.get("reason", "")) for entry in audit
    }
    await run(loop, "stop")
    assert (await context.query("loop"))["halts"][0]["scope"] == "*"
    await run(loop, "start")
    assert (await context.query("loop"))["halts"] == []


async def test_halt_and_resume_take_options_on_either_side(context: DutyContext, run: Run) -> None:
    """`rift halt SCOPE --reason …` as people write it."""
    await run(halt_app, "selfplay", "--reason", "too hot", "--json")
    [found] = (await context.query("loop"))["halts"]
    assert (found["scope"], found["reason"]) == ("selfplay", "too hot")
    await run(resume_app, "selfplay", "--json")
    assert (await context.query("loop"))["halts"] == []


async def test_alerts_are_listed_silenced_and_tried(context: DutyContext, run: Run) -> None:
    """A silence hides, a wrong name is told, and a test without a webhook fails with what to do."""
    await context.propose(SetAlert("disk.low", "voter-1", active=True, detail="little"))
    assert [alert["name"] for alert in await run(alerts, "ls", "--json")] == ["disk.low"]
    await run(alerts, "silence", "disk.low", "--reason", "known")
    assert await run(alerts, "ls", "--json") == []
    assert len(await run(alerts, "ls", "--silenced", "--json")) == 1
    assert "did you mean" in await run(alerts, "silence", "disk.lo", code=2)
    assert "disk.low" in await run(alerts, "rules")
    assert "webhook_files" in await run(alerts, "test", "--wait-s", "0", code=1)
    assert [alert["name"] for alert in await run(alerts, "ls", "--json")] == ["test"]


async def test_people_raise_no_alert_but_the_test(run: Run) -> None:
    """Alerts are what the leader found; an admin's own, or one marked as sent, is refused."""
    from workqueue.cli.context import order

    for alert in (SetAlert("disk.low", "v", active=True), SetAlert("test", "x", active=True, sent=True)):
        with pytest.raises(typer.Exit):
            await asyncio.to_thread(order, alert)
