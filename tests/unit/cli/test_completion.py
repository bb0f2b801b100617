"""Shells complete commands, what is below them, and their options."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("rift qu", {"queue"}),
        ("rift queue ex", {"explain"}),
        ("rift cluster v", {"verify"}),
        ("rift queue ls --st", {"--state"}),
        ("rift status --wa", {"--watch"}),
    ],
)
def test_bash_is_offered_what_there_is(typed: str, offered: set[str]) -> None:
    """Below the first level too, though commands are imported only when they are called."""
    words = {"_RIFT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split()) - 1)}
    found = subprocess.run(
        [sys.executable, "-m", "rift"], cwd=ROOT, env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert set(found.stdout.split()) == offered, found.stderr


def test_zsh_is_offered_the_same() -> None:
    """It hands over what was typed in another variable."""
    words = {"_RIFT_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "rift queue ho"}
    found = subprocess.run(
        [sys.executable, "-m", "rift"], cwd=ROOT, env=os.environ | words, capture_output=True, text=True, check=False
    )
    assert '"hold"' in found.stdout
