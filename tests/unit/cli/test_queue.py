"""`rift queue` refuses what makes no sense before it asks a voter."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from workqueue.cli.queue import app


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["explain"], "name a job, or a worker by --worker"),
        (["explain", "job-1", "--worker", "w1"], "name a job, or a worker by --worker"),
        (["ls", "--state", "runing"], "did you mean running?"),
        (["ls", "--limit", "-1"], "--limit"),
        (["drain"], "--kind, --config, or --all"),
    ],
)
def test_bad_input_gets_a_sentence(arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to do; the exit code is that of wrong usage."""
    monkeypatch.setattr("workqueue.cli.queue.ask", lambda *_, **__: pytest.fail("a voter was asked"))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
