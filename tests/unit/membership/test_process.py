"""The gossip process that a parent keeps: it ends with its parent, and says farewell for it."""

from __future__ import annotations

import asyncio
import json
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from membership.api import MembershipError, State
from membership.process import listen
from membership.remote import RemoteMembership
from membership.service import Gossip
from membership.settings import GossipSettings

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_end_of_the_parent_is_a_farewell(tmp_path: Path) -> None:
    """SIGTERM does not end it, the end of its standard input does; the others see it leave, not die."""
    key = tmp_path / "gossip.key"
    key.write_bytes(bytes(range(32)))
    told: dict[str, Any] = {"bind": "127.0.0.1:0", "key_files": [str(key)], "period_ms": 100}
    async with Gossip(GossipSettings("voter-1", "b0", "voter", **told)) as voter:
        settings = GossipSettings("w", "b1", "worker", **told, seeds=[voter.address])
        file, path = tmp_path / "gossip.json", tmp_path / "gossip.sock"
        file.write_text(json.dumps(msgspec.to_builtins(settings)))
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "membership.process", "--parent", "--settings", str(file), "--socket", str(path),
            stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            async with RemoteMembership(path) as remote:
                await until(lambda: len(remote.members(state=State.ALIVE)) == 2)
                child.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                assert child.returncode is None
                assert child.stdin
                child.stdin.close()
                async with asyncio.timeout(5):
                    assert await child.wait() == 0
            member = voter.get("w")
            assert member
            assert (member.boot_id, member.state) == ("b1", State.LEFT)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


@pytest.mark.parametrize(("name", "why"), [("x" * 200, "AF_UNIX path too long"), ("none/s", "No such file")])
def test_a_socket_that_cannot_be_made_is_named(tmp_path: Path, name: str, why: str) -> None:
    """With the system's reason and what to do."""
    with pytest.raises(MembershipError, match=f"{why}.*; choose another path"):
        listen(tmp_path / name)


def test_a_socket_is_its_users_alone(tmp_path: Path) -> None:
    """And takes the place of a former process's."""
    path = tmp_path / "s"
    for _ in range(2):
        with listen(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def until(done: Any) -> None:
    async with asyncio.timeout(10):
        while not done():
            await asyncio.sleep(0.02)
