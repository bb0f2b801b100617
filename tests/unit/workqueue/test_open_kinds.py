"""Open kinds: the documented example runs as it stands, and schemas are judged without reaching out."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tests.unit.workqueue.conftest import Voter
from workqueue.open_kinds import SchemaMismatch, check, check_schema

DOCUMENT = Path(__file__).parents[3] / "docs/open-kinds.md"


def example() -> str:
    return DOCUMENT.read_text().split("```sh\n")[1].split("```")[0]


async def test_the_documented_example_runs(voter: Voter, tmp_path: Path) -> None:
    """A shell and curl register a kind, add a job, claim, renew and complete it."""
    environment = {"PATH": os.environ["PATH"], "RIFT_URL": voter.url, "RIFT_CA": str(voter.created.ca)}
    for role in ("admin", "worker"):
        path = tmp_path / f"{role}.header"
        path.write_text(f"Authorization: Bearer {voter.token(role)}\n")
        environment[f"RIFT_{role.upper()}"] = str(path)
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", example(), env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await shell.communicate()
    assert shell.returncode == 0, output.decode()
    assert voter.machine.completed == {"thumb-1"}


def test_the_example_is_short() -> None:
    """Thirty lines are enough."""
    assert len([line for line in example().splitlines() if line.strip()]) <= 32


@pytest.mark.parametrize("schema", ["", "[", "3", '{"type": 3}', '{"properties": []}', '{"$ref": 5}'])
def test_what_is_no_schema_is_refused(schema: str) -> None:
    """Each with a sentence, none with a crash."""
    with pytest.raises(SchemaMismatch):
        check_schema(schema)


def test_a_reference_to_another_host_is_not_followed() -> None:
    """A schema cannot make a voter send requests."""
    with pytest.raises(SchemaMismatch, match="cannot be used"):
        check('{"$ref": "https://localhost:1/schema.json"}', {}, "the payload")


def test_a_value_that_does_not_fit_is_located() -> None:
    """The sentence says where."""
    with pytest.raises(SchemaMismatch, match=r"\$\.sizes\[1\]"):
        check('{"properties": {"sizes": {"items": {"type": "integer"}}}}', {"sizes": [1, "x"]}, "the payload")
