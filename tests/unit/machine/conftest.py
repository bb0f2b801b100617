from __future__ import annotations

import pytest

from tests.unit.machine.driver import Driver


@pytest.fixture
def driver() -> Driver:
    """A machine with one open kind and one worker."""
    made = Driver()
    made.kind()
    made.worker()
    return made
