"""What a worker says of its machine: measured, kept for a day, measured anew when build or devices change."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from config.cluster import WorkerSettings
from workers import canary
from workers.devices import KEPT_S, Measured, capability, load_measured, save_measured
from workers.start import Extra, plan


def test_a_measurement_holds_for_a_day_of_the_same_build(tmp_path: Path) -> None:
    """Machines slow down, builds speed up, devices are exchanged, and clocks are set back."""
    path = tmp_path / "measured.json"
    kept = Measured("1.0", "1", rates={"games_s/square8_2p": 5}, devices=(("H100", 80_000),), at_s=1_000_000)
    save_measured(path, kept)
    now = Measured("1.0", devices=kept.devices, at_s=kept.at_s + KEPT_S - 1)
    assert load_measured(path, now) == kept
    for change in ({"at_s": kept.at_s + KEPT_S}, {"at_s": kept.at_s - 1}, {"build": "1.1"}, {"devices": ()}):
        assert load_measured(path, msgspec.structs.replace(now, **change)) is None
    path.write_bytes(b"{")
    assert load_measured(path, now) is None


@pytest.mark.timeout(240)
def test_rates_are_measured_for_each_small_board() -> None:
    """Games and evaluations a second, above zero also when the time is over before the first game is."""
    assert canary.game_rate("square8", 2, 0.0) > 10, "thousandths: of one whole game at least"
    assert canary.evaluation_rate("square8", 2, "cpu", 0.05) > 0
    assert canary.device_error("cpu") < 1e-3


def test_a_worker_registers_what_it_measured(tmp_path: Path) -> None:
    """Rates of the engine and of the network side by side; settings bound the kinds."""
    settings = WorkerSettings("w", ("https://a:1",), "t", "c", data=str(tmp_path), kinds=("train",))
    measured = Measured("1.0", "1", rates={"games_s/square8_2p": 5})
    found = capability(settings, ("train", "selfplay"), measured, {"net_up_kbps": 7})
    assert found.rates == {"games_s/square8_2p": 5, "net_up_kbps": 7}
    assert (found.kinds, found.build, found.rules_version) == (("train",), "1.0", "1")


def test_the_backend_that_was_chosen_reaches_the_jobs(tmp_path: Path) -> None:
    """From the command to the limits of the agent; from there it goes with each task."""
    settings = WorkerSettings("w", ("https://a:1",), "t", "c", data=str(tmp_path))
    known = capability(settings, ("selfplay",), Measured("1.0", "1"), {})
    _, limits = plan(settings, Extra(backend="openvino:bf16"), known)
    assert limits.backend == "openvino:bf16"
