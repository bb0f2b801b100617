from __future__ import annotations

import pytest

from tests.unit.machine.driver import Driver


@pytest.fixture
def workerless() -> Driver:
    """A machine with one open kind."""
    made = Driver()
    made.kind()
    return made


@pytest.fixture
def driver(workerless: Driver) -> Driver:
    """And one worker."""
    workerless.worker()
    return workerless
