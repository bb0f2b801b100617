"""The examples that people start from are read by the same loaders as the real files."""

from __future__ import annotations

import configparser
import importlib
import shlex
from pathlib import Path

import msgspec
import pytest
import typer.main
import yaml

import rift
from config.cluster import ClusterSettings, Section, VoterSettings, WorkerSettings
from config.load import load
from config.loop import LoopSettings
from workqueue.cli import context

EXAMPLES = Path(__file__).parents[3] / "config/examples"
KINDS: dict[str, type[Section]] = {
    "cluster.yaml": ClusterSettings,
    "voter.yaml": VoterSettings,
    "worker.yaml": WorkerSettings,
    "loop.yaml": LoopSettings,
    "context.yaml": context.Context,
}
UNITS = ("rift-voter.service", "rift-worker.service")


def test_every_example_is_looked_at() -> None:
    """A file that nothing reads would rot."""
    assert {path.name for path in EXAMPLES.iterdir()} == {*KINDS, *UNITS}


@pytest.mark.parametrize("name", KINDS)
def test_an_example_loads_as_it_is_written(name: str) -> None:
    """Every key of the file arrives, and none is unknown."""
    loaded = load(KINDS[name], EXAMPLES / name)
    written = yaml.safe_load((EXAMPLES / name).read_text())
    _same(written, loaded)


def _same(written: object, loaded: object) -> None:
    if isinstance(written, dict) and not isinstance(loaded, dict):
        for key, value in written.items():
            _same(value, getattr(loaded, key))
    elif isinstance(written, list):
        assert isinstance(loaded, tuple)
        for one, other in zip(written, loaded, strict=True):
            _same(one, other)
    else:
        assert written == loaded


def test_the_examples_belong_together() -> None:
    """Worker and operator name the voters of the cluster; the voter is one of them."""
    cluster = load(ClusterSettings, EXAMPLES / "cluster.yaml")
    urls = tuple(voter.http for voter in cluster.voters)
    assert load(WorkerSettings, EXAMPLES / "worker.yaml").join == urls
    assert load(context.Context, EXAMPLES / "context.yaml").servers == urls
    assert cluster.voter(load(VoterSettings, EXAMPLES / "voter.yaml").id)


def test_the_operators_context_is_read_by_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """As RIFT_CONTEXT names it."""
    monkeypatch.setenv("RIFT_CONTEXT", str(EXAMPLES / "context.yaml"))
    for name in ("RIFT_SERVERS", "RIFT_TOKEN_FILE", "RIFT_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(context, "_flags", {})
    assert len(context.load_context().servers) == 3


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    """Its options are options of that command, and systemd knows its sections."""
    unit = configparser.ConfigParser(interpolation=None, strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string((EXAMPLES / name).read_text())
    assert set(unit.sections()) == {"Unit", "Service", "Install"}
    program, group, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).is_absolute()
    module, attribute = rift.COMMANDS[group][0].split(":")
    command = typer.main.get_command(getattr(importlib.import_module(module), attribute))
    known = {option for param in command.params for option in param.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known
    assert unit["Service"]["User"] != "root"


def test_the_cluster_file_is_what_init_writes() -> None:
    """The example shows every section there is."""
    written = yaml.safe_load((EXAMPLES / "cluster.yaml").read_text())
    optional = {"gossip_keys", "replaced"}
    assert set(written) >= {field.name for field in msgspec.structs.fields(ClusterSettings)} - optional
