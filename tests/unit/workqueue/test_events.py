"""Server-sent events: resumed after what was seen last, gaps told, the status document on the same stream."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.unit.workqueue.conftest import Voter, running_voter
from workqueue.http import events
from workqueue.http.events import _encode, _gap
from workqueue.machine.commands import Enqueue, Halt, JobSpec
from workqueue.machine.transitions import ENDED
from workqueue.tls import client_context

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def real(tmp_path: Path) -> AsyncIterator[Voter]:
    async with running_voter(tmp_path, real=True) as running:
        yield running


async def read(voter: Voter, query: str, count: int, **headers: str) -> list[tuple[str, str, Any]]:
    """The first `count` events as (id, name, data)."""
    headers |= {"Authorization": f"Bearer {voter.token('admin')}"}
    found: list[tuple[str, str, Any]] = []
    connector = aiohttp.TCPConnector(ssl=client_context(voter.created.ca))
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=1 << 20) as session,
        asyncio.timeout(8),
        session.get(f"{voter.url}/v1/events{query}", headers=headers) as got,
    ):
        assert got.status == 200, await got.text()
        fields: dict[str, str] = {}
        while len(found) < count:
            line = (await got.content.readline()).decode().rstrip("\n")
            name, _, value = line.partition(": ")
            fields |= {name: value} if line and not line.startswith(":") else {}
            if not line and "data" in fields:
                found.append((fields.get("id", ""), fields["event"], json.loads(fields["data"])))
                fields = {}
    return found


async def halt(voter: Voter, count: int) -> None:
    async with voter.client() as client:
        await client.submit(*(Halt(f"kind-{n}", "a test") for n in range(count)))


async def test_each_connection_goes_on_where_the_last_one_ended(real: Voter) -> None:
    """Read in pieces with Last-Event-ID, the numbers are those of one reading: none missing, none twice."""
    await halt(real, 30)
    whole = await read(real, "?since=0", 30)
    pieces: list[tuple[str, str, Any]] = []
    last = "0"
    for size in (1, 7, 2, 20):
        pieces += await read(real, "", size, **{"Last-Event-ID": last})
        last = pieces[-1][0]
    assert pieces == whole
    assert [int(number) for number, _, _ in whole] == list(range(1, 31))


async def test_events_arrive_while_they_happen(real: Voter) -> None:
    """A listener from now on gets what happens after it came, within a moment."""
    waiting = asyncio.create_task(read(real, "?since=-1", 1))
    while real.context.metrics._open == 0:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    await halt(real, 1)
    [(_, name, data)] = await waiting
    assert (name, data["subject"]) == ("audit.halt", "kind-0")


async def test_a_listener_behind_what_is_kept_is_told(real: Voter) -> None:
    """Numbers that will never come are named, and the stream goes on after them."""
    await halt(real, 12)
    kept = real.machine.ledger.state.events
    del kept[:-2]
    found = await read(real, "?since=5", 3)
    assert found[0] == ("", "gap", {"after": 5, "next": kept[0].seq})
    assert [int(number) for number, _, _ in found[1:]] == [event.seq for event in kept]


async def test_a_listener_ahead_of_a_restored_cluster_is_told(real: Voter) -> None:
    """Its numbers are of another history; it must look anew."""
    await halt(real, 2)
    found = await read(real, "?since=4000", 1)
    assert found == [("", "gap", {"after": 4000, "next": real.machine.last_seq + 1})]


def test_no_gap_is_told_where_there_is_none() -> None:
    """Neither the next number nor a listener from now on is a gap."""
    assert _gap(7, 8, [{"seq": 8}]) == b""
    assert _gap(7, 7, []) == b""
    assert _gap(-1, 9, []) == b""


def test_a_name_cannot_forge_a_field() -> None:
    """Names hold what people typed; a line end in one begins no field."""
    event = {"seq": 1, "name": "audit.set champion/x\ndata: forged"}
    assert _encode(event).count(b"\n") == 4


async def test_the_document_comes_with_the_events(real: Voter) -> None:
    """With status=1 the document comes at once, and again after a change, without a number of its own."""
    waiting = asyncio.create_task(read(real, "?since=-1&status=1", 3))
    while real.context.metrics._open == 0:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    async with real.client() as client:
        await client.submit(Halt("train", "a test"), Enqueue((JobSpec("j", "open"),)))
    found = await waiting
    names = [name for _, name, _ in found]
    assert names[0] == "status"
    assert sorted(names) == ["audit.halt", "status", "status"]
    documents = [(number, data) for number, name, data in found if name == "status"]
    assert [number for number, _ in documents] == ["", ""]
    assert [len(data["state"]["halts"]) for _, data in documents] == [0, 1]


async def test_who_is_locked_out_hears_no_more(real: Voter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream ends soon after its token was revoked, and tells nothing of what happens then."""
    monkeypatch.setattr(events, "WAIT_MS", 50)
    tls = client_context(real.created.ca)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session, asyncio.timeout(8):
        admin = {"Authorization": f"Bearer {real.token('admin')}"}
        async with session.post(f"{real.url}/v1/tokens", json={"role": "read"}, headers=admin) as got:
            made = await got.json()
        reader = {"Authorization": f"Bearer {made['token']}"}
        async with session.get(f"{real.url}/v1/events", headers=reader) as stream:
            await stream.content.readline()
            async with session.delete(f"{real.url}/v1/tokens/{made['id']}", headers=admin) as got:
                assert got.status == 200
            rest = await stream.content.read()
        await halt(real, 1)
    assert b"audit.halt" not in rest


@pytest.mark.parametrize("query", ["?status=yes", "?since=x", "?since=-2"])
async def test_a_wrong_query_gets_a_sentence(voter: Voter, query: str) -> None:
    """It says what may be asked for."""
    headers = {"Authorization": f"Bearer {voter.token('admin')}"}
    tls = client_context(voter.created.ca)
    url = f"{voter.url}/v1/events{query}"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=tls) as got:
        assert got.status == 422
        assert ("status is 1" if "status" in query else "-1 follows") in await got.text()


async def test_history_has_samples(real: Voter) -> None:
    """A front samples from its start on."""
    headers = {"Authorization": f"Bearer {real.token('admin')}"}
    tls = client_context(real.created.ca)
    url = f"{real.url}/v1/history"
    async with aiohttp.ClientSession() as session, session.get(url, headers=headers, ssl=tls) as got:
        found = await got.json()
    assert found["step_s"] == 10
    assert set(found["samples"][0]) >= {"at_ms", "jobs", "games", "games_s", "elo", "workers"}


def test_the_api_page_lists_every_event() -> None:
    """What the machine emits and what the table names are the same."""
    root = Path(__file__).parents[3]
    sources = "".join(path.read_text() for path in (root / "workqueue/machine").glob("*.py"))
    emitted = set(re.findall(r'emit\(\s*"([a-z_.]+)"', sources))
    emitted |= {f"job.{state.value}" for state in ENDED}  # emitted under the name of the state
    rows = re.findall(r"^\| (`[a-z_]+\..*?) \|", (root / "docs/api.md").read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([\w.]+)`", row)} - {"audit.ACTION"}
    assert emitted == listed
