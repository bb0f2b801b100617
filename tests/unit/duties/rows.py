"""Views of a config and a worker about which there is nothing to say, for tests that look at one thing of them."""

from __future__ import annotations

from typing import Any

import msgspec

from workqueue.machine.commands import Capability
from workqueue.machine.views import ConfigView, WorkerView

CONFIG = "square8_2p"
NOW = 10**12


def config_view(config: str = CONFIG, **fields: Any) -> ConfigView:
    made = ConfigView(
        config,
        games=0,
        games_new=0,
        positions=0,
        trainings=0,
        last_selfplay_ms=0,
        last_training_ms=0,
        loss_milli=0,
        matches=0,
        champion="",
        champion_since_ms=0,
        promotions=0,
        rollbacks_day=0,
        candidates=(),
        live={},
        running={},
        elo_milli=0,
        halted="",
    )
    return msgspec.structs.replace(made, **fields)


def worker_view(name: str = "w", capability: Capability | None = None, **fields: Any) -> WorkerView:
    made = WorkerView(
        name,
        boot="b",
        live=True,
        drain=False,
        quarantined=False,
        reason="",
        address="",
        registered_ms=0,
        seen_ms=NOW,
        running=(),
        completed=0,
        failed=0,
        node_faults=0,
        capability=capability or Capability(4, 1, 1),
    )
    return msgspec.structs.replace(made, **fields)
