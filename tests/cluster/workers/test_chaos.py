"""Agents, runners and voters killed at random: every job's effect counts once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.workers import chaos

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


async def test_nothing_lost_nothing_twice(tmp_path: Path) -> None:
    """A short run of `python -m benchmarks.workers chaos`, which goes on for ten minutes."""
    found = await chaos.run(tmp_path, 25.0, 1)
    assert sum(found["kills"].values()) >= 5
    assert found["jobs"] >= 100
    assert found["states"] == {"completed": found["jobs"]}
    assert found["completed_events"] == found["jobs"]
    assert found["completed_twice"] == 0
    assert found["whole_results"] == found["jobs"]
    assert found["artifacts_missing"] == 0
