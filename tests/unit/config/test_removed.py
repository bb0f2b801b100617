"""Keys that may no longer be set: every one gets its sentence, and a log that holds it is still read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import typer

from config import removed
from config.cluster import ClusterSettings, Section
from config.errors import ConfigError
from config.load import convert
from config.loop import LoopSettings
from workqueue.cli.settings import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER = {"cluster_id": "c", "voters": [{"id": "v1", "host": "h"}]}


def keys(kind: type[Section], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted keys and their defaults."""
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, Section):
            yield from keys(type(field.default), f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field.default


def tree(key: str, value: object) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value  # type: ignore[return-value]


OF_LOGS = dict(keys(removed._Loop))
NOW = {*dict(keys(LoopSettings)), *dict(keys(ClusterSettings))}


def test_what_is_retired_cannot_be_set() -> None:
    """No key is both; every key that only a log may hold has its sentence."""
    assert not NOW & set(removed.INSTEAD)
    assert set(OF_LOGS) - NOW <= set(removed.INSTEAD)


@pytest.mark.parametrize("key", removed.INSTEAD)
def test_a_file_that_names_it_is_told_what_holds_instead(key: str) -> None:
    """One sentence with the whole path."""
    sentence = re.escape(f"`{key}` can no longer be set, leave it out: {removed.INSTEAD[key]}")
    kind, base = (LoopSettings, {}) if key in OF_LOGS else (ClusterSettings, CLUSTER)
    with pytest.raises(ConfigError, match=f"file.yaml: {sentence}$"):
        convert(kind, base | tree(key, 1), "file.yaml")


def test_the_command_that_sets_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    """Instead of near names of other keys."""
    with pytest.raises(typer.Exit):
        parse(["gate.alpha_milli=10"], {"gate.elo1": 50})
    assert "`gate.alpha_milli` can no longer be set" in capsys.readouterr().err


@pytest.mark.parametrize("key", sorted(set(OF_LOGS) - NOW))
def test_a_log_that_holds_it_is_read(key: str) -> None:
    """With its value of then; a value that was refused then is refused now."""
    assert removed.recorded(tree(key, OF_LOGS[key]) | {"target_elo": 1800}) == LoopSettings(target_elo=1800)
    with pytest.raises(msgspec.ValidationError, match=re.escape(f"`$.{key}`")):
        removed.recorded(tree(key, "wrong"))
