"""Alerts: each rule finds what it is for and nothing else; they are raised, sent and ended once."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import stamina
from aiohttp import web

from config.errors import ConfigError
from config.loop import GateSettings, LoopSettings
from tests.unit.duties.rows import NOW, config_view, worker_view
from tests.unit.workqueue.conftest import running_voter
from workqueue.duties.alerts import Alerts
from workqueue.duties.bootstrap import DUTY as BOOTSTRAP
from workqueue.duties.context import DutyContext
from workqueue.duties.rules import DAY_MS, HOUR_MS, MINUTE_MS, RULES, Picture, findings
from workqueue.http.standing import Standing
from workqueue.machine.commands import Capability, RegisterWorker, SetAlert, SilenceAlert
from workqueue.machine.views import (
    Alert,
    CandidateView,
    Event,
    HaltRecord,
    JobRow,
    ModelRow,
    StatusView,
)
from workqueue.webhooks import Message, WebhookError, body_of, deliver, urls_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONFIG = config_view()
WORKER = worker_view("w1")
STATUS = StatusView(NOW, 1, {}, (), (WORKER,), (CONFIG,), {}, {}, (), (), 1, 0, 0, 0, 0)
STANDING = Standing("voter-1", NOW, 90_000, 500, 10, 20_000, 300, 0)
CALM = Picture(
    NOW,
    STATUS,
    LoopSettings(),
    ("voter-1", "voter-2", "voter-3"),
    frozenset({"voter-1", "voter-2", "voter-3"}),
    {"voter-1": (STANDING, 0)},
)
MODEL = ModelRow("m" * 64, "square8_2p", "candidate", 1, (), "j", "w1", NOW, "", 0, 0)
REJECTED = msgspec.structs.replace(MODEL, status="rejected", reason="its gauntlet failed 3 times")
ROW = JobRow("train-1", "train", "square8_2p", "running", 50, 1, "w1", 0, 0, 0, "", None)


def status(**fields: Any) -> Picture:
    return msgspec.structs.replace(CALM, status=msgspec.structs.replace(STATUS, **fields))


def config(**fields: Any) -> Picture:
    return status(configs=(msgspec.structs.replace(CONFIG, **fields),))


def worker(**fields: Any) -> Picture:
    return status(workers=(msgspec.structs.replace(WORKER, **fields),))


def standing(off_ms: int = 0, **fields: Any) -> Picture:
    told = msgspec.structs.replace(STANDING, **fields)
    return msgspec.structs.replace(CALM, standings={"voter-1": (told, off_ms)})


def calm(**fields: Any) -> Picture:
    return msgspec.structs.replace(CALM, **fields)


def events(name: str, count: int, age_ms: int = 0, **detail: str | int) -> Picture:
    return calm(events=[Event(k, NOW - age_ms, name, "x", "", dict(detail)) for k in range(count)])


WRONG = {
    "games.none": config(last_selfplay_ms=NOW - 31 * MINUTE_MS),
    "workers.none": worker(live=False),
    "worker.idle": calm(eligible={"w1": "selfplay"}),
    "worker.failing": worker(node_faults=3),
    "worker.cheating": worker(quarantined=True, reason="cheats: its games do not replay"),
    "job.unclaimed": status(oldest_available_ms=NOW - 31 * MINUTE_MS),
    "job.stuck": msgspec.structs.replace(status(running=(ROW,)), still_ms={"train-1": NOW - 11 * MINUTE_MS}),
    "jobs.failing": events("job.failed", 6, kind="selfplay", reason="broken"),
    "disk.low": standing(disk_free_mb=900),
    "state.diverged": standing(divergences=1),
    "voter.down": calm(reachable=frozenset({"voter-1", "voter-3"})),
    "quorum.at_risk": calm(reachable=frozenset({"voter-1", "voter-3"})),
    "leader.unsteady": events("leader.changed", 4),
    "leases.expiring": events("lease.expired", 11, worker="w1"),
    "clock.skewed": standing(off_ms=-2_500),
    "certificate.expiring": standing(certificate_days=29),
    "loop.halted": status(halts=(HaltRecord("*", "why", "who", 1),)),
    "champion.regressed": config(rollbacks_day=1),
    "rollbacks": config(rollbacks_day=3, halted="3 rollbacks"),
    "evaluation.late": config(candidates=(CandidateView("c" * 64, NOW - 3 * HOUR_MS, ()),)),
    "evaluation.failed": calm(
        models=(msgspec.structs.replace(MODEL, status="rejected", reason="its x failed 3 times"),)
    ),
    "training.failed": events("job.failed", 1, kind="train", config="square8_2p", reason="runner.hung"),
    "promotions.none": msgspec.structs.replace(
        config(champion="m" * 64, champion_since_ms=NOW - 2 * DAY_MS), models=(MODEL,) * 3
    ),
    "test": calm(alerts=(Alert("test", "try-1", "", NOW - 1),)),
}
QUIET = {
    "games.none": config(last_selfplay_ms=NOW - 29 * MINUTE_MS),
    "worker.failing": worker(node_faults=2),
    "job.stuck": msgspec.structs.replace(status(running=(ROW,)), still_ms={"train-1": NOW - 9 * MINUTE_MS}),
    "evaluation.late": msgspec.structs.replace(
        config(candidates=(CandidateView("c" * 64, NOW - 3 * HOUR_MS, ()),)),
        settings=LoopSettings(gate=GateSettings(wait_minutes_max=200)),
    ),
    "jobs.failing": events("job.failed", 6, age_ms=HOUR_MS, kind="selfplay", reason="broken"),
    "disk.low": standing(store_used_mb=17_000),
    "quorum.at_risk": calm(voters=("voter-1",), reachable=frozenset({"voter-1"})),
    "leader.unsteady": events("leader.changed", 9, age_ms=HOUR_MS),
    "leases.expiring": events("lease.expired", 10, worker="w1"),
    "clock.skewed": standing(off_ms=1_500),
    "training.failed": events("job.failed", 1, kind="selfplay", config="square8_2p"),
    "promotions.none": msgspec.structs.replace(
        config(champion="m" * 64, champion_since_ms=NOW - 2 * DAY_MS, elo_milli=2_000_000), models=(MODEL,) * 3
    ),
    "test": calm(alerts=(Alert("test", "try-1", "", NOW - 2 * MINUTE_MS),)),
}


def test_a_healthy_cluster_raises_nothing() -> None:
    """No rule finds anything where all is well."""
    assert findings(CALM) == {}


@pytest.mark.parametrize("name", [rule.name for rule in RULES])
def test_every_rule_finds_what_it_is_for(name: str) -> None:
    """The alert is raised with a sentence; what is just within bounds is not."""
    found = {key[0]: detail for key, (detail, _) in findings(WRONG[name]).items()}
    assert name in found
    assert found[name] or name == "test"
    if name in QUIET:
        assert name not in {key[0] for key in findings(QUIET[name])}


def test_every_alert_has_a_runbook() -> None:
    """A paragraph with the alert's name as its heading says what to do."""
    text = (Path(__file__).parents[3] / "docs/operations.md").read_text()
    headings = set(re.findall(r"^### `([a-z_.]+)`$", text, re.MULTILINE))
    assert headings == {rule.name for rule in RULES}


class Receiver:
    """A webhook's other end; answers with the given statuses first, then 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, Any]]] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.path, await request.json()))
        return web.Response(status=self.answers.pop(0) if self.answers else 204, headers={"Location": "/elsewhere"})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/{tail:.*}", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    with stamina.set_testing(True, attempts=4):
        yield found
    await runner.cleanup()


async def test_both_formats_reach_their_receivers(receiver: Receiver) -> None:
    """Slack gets `text` with its three characters escaped, Discord `content` that mentions nobody."""
    message = Message("c1", "disk.low", "voter-1", "<900 MiB> & @everyone")
    urls = (f"{receiver.url}/services/T/B/x", f"{receiver.url}/api/webhooks/1/x")
    assert await deliver(urls, message) == []
    (_, slack), (_, discord) = receiver.got
    assert slack == {"text": "ALERT disk.low voter-1 (cluster c1): &lt;900 MiB&gt; &amp; @everyone"}
    assert discord["content"].endswith("<900 MiB> & @everyone")
    assert discord["allowed_mentions"] == {"parse": []}
    long = body_of(urls[1], Message("c1", "a", "b", "x" * 5000))
    assert len(str(long["content"])) == 2000


async def test_a_busy_receiver_is_tried_again_and_a_refusing_one_is_not(receiver: Receiver) -> None:
    """5xx and 429 pass; 404 is a wrong URL; the error names the host and never the URL."""
    receiver.answers = [503, 429]
    message = Message("c1", "a", "b", "")
    assert await deliver([f"{receiver.url}/x/secret"], message) == []
    assert len(receiver.got) == 3
    receiver.answers = [404]
    [error] = await deliver([f"{receiver.url}/x/secret"], message)
    assert isinstance(error, WebhookError)
    assert "404" in str(error)
    assert "secret" not in str(error)
    assert len(receiver.got) == 4
    receiver.answers = [307]
    [error] = await deliver([f"{receiver.url}/x/secret"], message)
    assert "307" in str(error)
    assert len(receiver.got) == 5  # what is for one receiver is not carried to another
    with stamina.set_testing(True, attempts=2):
        for port in (9, 99_999):
            [error] = await deliver([f"http://127.0.0.1:{port}/x/secret"], message)
            assert "cannot be reached" in str(error)
            assert "secret" not in str(error)


@pytest.mark.parametrize("content", [b"hello\n", b"ftp://h/x", b"https://", b"https://[secret", b"\xff\xfe"])
def test_a_file_without_a_url_is_refused(tmp_path: Path, content: bytes) -> None:
    """The sentence names the file, and does not repeat what is in it."""
    (tmp_path / "hook").write_bytes(content)
    with pytest.raises(ConfigError, match=r"hook.*URL of a webhook") as refused:
        urls_of(tmp_path, ["hook"])
    assert "secret" not in str(refused.value)


@contextlib.asynccontextmanager
async def watched(tmp_path: Path, url: str) -> AsyncIterator[tuple[DutyContext, list[int]]]:
    """A real voter whose alerts go to `url`, and the clock of its duties."""
    clock = [1_000_000_000_000]
    async with running_voter(tmp_path / "c", real=True) as voter:
        (voter.context.folder / "hook").write_text(url)
        voter.context.settings = msgspec.structs.replace(voter.context.settings, webhook_files=("hook",))
        context = DutyContext(voter.context, "alerts", lambda: clock[0])
        await BOOTSTRAP.run(context)
        yield context, clock


async def test_an_alert_is_raised_sent_and_ended_once_across_leaders(tmp_path: Path, receiver: Receiver) -> None:
    """Held long enough it is raised and sent; a new leader repeats nothing; its end is told too."""
    async with watched(tmp_path, f"{receiver.url}/hook") as (context, clock):
        duty = Alerts()
        await duty.run(context)
        assert await context.query("alerts") == []  # no worker, but not for a minute yet
        clock[0] += 61_000
        await duty.run(context)
        await duty.run(context)
        await Alerts().run(context)  # the next leader's
        [alert] = await context.query("alerts")
        assert (alert["name"], alert["sent"]) == ("workers.none", True)
        await context.propose(RegisterWorker("w1", "b1", Capability(1, 1, 1)))
        await duty.run(context)
        assert await context.query("alerts") == []
        texts = [body["text"].split(" (")[0] for _, body in receiver.got]
        assert texts == ["ALERT workers.none cluster", "ended workers.none cluster"]
        audit = await context.query("status")
        assert audit["alerts"] == []


async def test_a_webhook_that_takes_nothing_holds_nothing_up(tmp_path: Path, receiver: Receiver) -> None:
    """Each try takes its time: after one that failed the others of this look end untold, or are sent at a later one."""
    async with watched(tmp_path, f"{receiver.url}/hook") as (context, _):
        for name in ("loop.halted", "disk.low", "workers.none"):
            await context.propose(SetAlert(name, "x", active=True))
            await context.propose(SetAlert(name, "x", active=True, sent=True))
        for name in ("a", "b"):
            await context.propose(SetAlert("of.others", name, active=True))
        await context.propose(RegisterWorker("w1", "b1", Capability(1, 1, 1)))
        now_ms = (await context.query("status"))["now_ms"]
        context.now_ms = lambda: now_ms
        receiver.answers = [404, 404, 404, 404, 404]
        await Alerts().run(context)
        assert [(alert["name"], alert["key"]) for alert in await context.query("alerts")] == [
            ("of.others", "a"),  # no rule's, so it is not this duty's to end
            ("of.others", "b"),
        ]
        assert len(receiver.got) == 2  # one end, one beginning


async def test_what_cannot_be_sent_is_sent_later_and_the_silenced_never(tmp_path: Path, receiver: Receiver) -> None:
    """A failing webhook costs nothing but time; a silence keeps an alert up and its mouth shut."""
    async with watched(tmp_path, f"{receiver.url}/hook") as (context, _):
        duty = Alerts()
        await context.propose(RegisterWorker("w1", "b1", Capability(1, 1, 1)))
        await context.propose(SetAlert("test", "try-1", active=True, detail="x"))
        await context.propose(SilenceAlert("loop.halted", 1 << 44))
        receiver.answers = [404]
        now_ms = (await context.query("status"))["now_ms"]
        context.now_ms = lambda: now_ms
        await duty.run(context)
        assert [alert.get("sent", False) for alert in await context.query("alerts")] == [False]
        await duty.run(context)
        assert [alert["sent"] for alert in await context.query("alerts")] == [True]
        await context.propose(SilenceAlert("test", 1 << 44))
        await context.propose(SetAlert("test", "try-2", active=True))
        await duty.run(context)
        assert len(receiver.got) == 2
        assert len(await context.query("alerts", silenced=True)) == 2
