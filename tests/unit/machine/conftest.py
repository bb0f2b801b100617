from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from driver import Driver


@pytest.fixture
def driver() -> Driver:
    """A machine with one open kind and one worker."""
    made = Driver()
    made.kind()
    made.worker()
    return made
