"""Every measurement can be started: its modules import."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_a_measurement_imports(name: str) -> None:
    assert importlib.import_module(f"benchmarks.{name}").__doc__
