"""A simulation that cannot fail proves nothing: each deliberate bug is caught, and within 2,000 seeds."""

from __future__ import annotations

import pytest

from consensus.simulation import Violation, World
from tests.simulation.mutants import MUTANTS

SEEDS = 2000


@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_a_deliberate_bug_is_caught(mutant: object) -> None:
    assert callable(mutant)
    for seed in range(SEEDS):
        try:
            with mutant(), World(seed) as world:
                world.run()
        except Violation:
            return
    pytest.fail(f"{SEEDS} worlds ended well although {mutant.__doc__}")
