"""Requests made up from the OpenAPI document, valid and not: no answer is a server error."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from tests.unit.workqueue.conftest import Voter, running_voter
from workqueue.http.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterator

schema = schemathesis.openapi.from_dict(document()).exclude(path_regex="^/v1/events$")


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Voter]:
    """A voter in a thread of its own, because the generated requests block."""
    folder = tmp_path_factory.mktemp("fuzz")
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started = threading.Event()
    found: list[Voter] = []

    async def serve() -> None:
        async with running_voter(folder) as voter:
            voter.replica.transfer_leadership = _stay  # type: ignore[method-assign]
            found.append(voter)
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(20)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(20)
    loop.close()


async def _stay(target: str | None = None) -> None:
    """The only voter there is has nobody to hand its leadership to; without a leader writes rightly answer 503."""
    del target


@schema.parametrize()
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_request_is_answered_by_a_server_error(live: Voter, case: schemathesis.Case) -> None:
    """Bounded: some requests an operation; `schemathesis run` against a voter looks further."""
    if isinstance(case.body, dict) and "wait_ms" in case.body:
        case.body["wait_ms"] = 0
    token = live.token("admin")
    headers = {"Authorization": f"Bearer {token}"}
    response = case.call(base_url=live.url, headers=headers, verify=str(live.created.ca), timeout=20)
    case.validate_response(response, checks=[not_a_server_error])
