"""`rift up` before anything starts: first use, another shape, taken ports, no space."""

import socket
from collections import namedtuple
from pathlib import Path

import msgspec
import pytest

from config.errors import ConfigError
from config.loop import LoopSettings
from workqueue import local
from workqueue.errors import EXIT_DISK, EXIT_PORT, ProcessFailure


def plan(data, **changes) -> local.Plan:
    fields = {"data": data, "voters": 1, "workers": 1, "base_port": 24500, "loop": LoopSettings()}
    return local.Plan(**(fields | changes))


def test_first_use_writes_a_cluster_and_a_second_keeps_it(tmp_path) -> None:
    first = local.prepare(plan(tmp_path))
    again = local.prepare(plan(tmp_path))
    assert first == again
    assert (tmp_path / "context.yaml").exists()
    assert "https://127.0.0.1:24500" in (tmp_path / "context.yaml").read_text()


def test_another_number_of_voters_is_refused_with_the_right_one(tmp_path) -> None:
    local.prepare(plan(tmp_path))
    with pytest.raises(ConfigError, match="--voters 1"):
        local.prepare(plan(tmp_path, voters=3))


def test_a_taken_port_ends_it_with_one_sentence(tmp_path, capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code = local.main(plan(tmp_path, base_port=port))
    assert code == EXIT_PORT
    said = capsys.readouterr().err
    assert f"port {port}" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "logs").exists()


def test_a_full_disk_is_found_before_anything_starts(tmp_path, monkeypatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("workqueue.local.shutil.disk_usage", lambda _: usage(1, 1, 5))
    with pytest.raises(ProcessFailure) as failed:
        local.prepare(plan(tmp_path))
    assert failed.value.exit_code == EXIT_DISK
    assert not (tmp_path / "cluster.yaml").exists()


def test_workers_gossip_with_the_keys_of_the_cluster(tmp_path: Path) -> None:
    """Also after the operator has named others: the one that seals first."""
    settings = local.prepare(plan(tmp_path))
    rotated = msgspec.structs.replace(settings, gossip_keys=("secrets/new.key", "secrets/gossip.key"))
    for child in local.workers_of(tmp_path, rotated, 2):
        told = list(zip(child._arguments, child._arguments[1:], strict=False))
        keys = [value for flag, value in told if flag == "--gossip-key"]
        assert keys == [str(tmp_path / key) for key in rotated.gossip_keys]
        assert ("--gossip", "127.0.0.1:0") in told
