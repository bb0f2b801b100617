"""Settings are checked once, with the key's path and the nearest valid name."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from config.cluster import ClusterSettings, RaftSettings, Replaced, Section, VoterSettings, WorkerSettings
from config.errors import ConfigError
from config.load import convert, load
from config.loop import LoopSettings, Shares

CLUSTER = """
cluster_id: test
voters:
  - {id: v1, host: 127.0.0.1}
raft: {election_ms_min: 150}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_typed_settings(tmp_path: Path) -> None:
    """What the file says arrives, what it leaves out has its default."""
    settings = load(ClusterSettings, _write(tmp_path, CLUSTER))
    assert settings.voter("v1").http == "https://127.0.0.1:8770"
    assert settings.raft.election_ms_min == 150
    assert settings.store.replicas == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("voterz: []", ("unknown key `voterz`", "did you mean `voters`?")),
        ("raft: {election_min: 3}", ("unknown key `raft.election_min`", "did you mean `election_ms_min`?")),
        ("raft: {election_ms_min: no}", ("$.raft.election_ms_min",)),
        ("raft: {election_ms_min: 5}", (">= 10", "$.raft.election_ms_min")),
        ("store: {kbps_max: {jobs: 5}}", ("not `connection`, `job` or `provider:NAME`",)),
        ("voters: []", ("name at least one voter",)),
        ("voters: [{id: a, host: h}, {id: a, host: h}]", ("every id must be different",)),
        ("voters: [{id: a, host: h, http_port: 99999}]", ("$.voters[0].http_port",)),
    ],
)
def test_a_wrong_key_or_value_is_named(tmp_path: Path, change: str, words: tuple[str, ...]) -> None:
    """The message carries the path of the key and what is wrong with it."""
    key = change.split(":", 1)[0]
    base = "\n".join(line for line in CLUSTER.splitlines() if not line.startswith(key) or key == "voterz")
    if key == "voters":
        base = "cluster_id: test"
    with pytest.raises(ConfigError) as caught:
        load(ClusterSettings, _write(tmp_path, f"{base}\n{change}\n"))
    for word in words:
        assert word in str(caught.value)


def test_gossip_without_a_key_is_refused() -> None:
    """The sentence says what to copy."""
    worker = {"id": "w", "join": ["https://v:1"], "token_file": "t", "ca": "c", "gossip": "h:1"}
    with pytest.raises(ConfigError, match=r"copy the cluster's secrets/gossip\.key"):
        convert(WorkerSettings, worker, "test")


def test_environment_and_flags_lie_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File < environment < flags."""
    path = _write(tmp_path, "id: v1\ndata: from-file\n")
    monkeypatch.setenv("RIFT_DATA", "from-environment")
    assert load(VoterSettings, path).data == "from-environment"
    assert load(VoterSettings, path, {"data": "from-flag"}).data == "from-flag"


@pytest.mark.parametrize("text", ["- a list", "a: [", "\tx"])
def test_what_is_not_a_map_is_refused(tmp_path: Path, text: str) -> None:
    """Not YAML, or not a map: a sentence, not a traceback."""
    with pytest.raises(ConfigError):
        load(VoterSettings, _write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The path is part of the sentence."""
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read"):
        load(VoterSettings, tmp_path / "nowhere.yaml")


def test_shares_must_add_up() -> None:
    """60/30/10 by default; another split must still be a whole."""
    assert convert(LoopSettings, {}, "loop.yaml").shares == Shares()
    with pytest.raises(ConfigError, match="must be 100"):
        convert(LoopSettings, {"shares": {"selfplay": 90}}, "loop.yaml")


def test_there_are_few_keys() -> None:
    """Fewer than 80 in all: what nobody would change is a constant."""

    def count(kind: type[Section]) -> int:
        total = 0
        for field in msgspec.structs.fields(kind):
            nested = [
                part
                for part in (field.type, *getattr(field.type, "__args__", ()))
                if isinstance(part, type) and issubclass(part, Section)
            ]
            total += sum(count(part) for part in nested) if nested else 1
        return total

    kinds = (ClusterSettings, VoterSettings, WorkerSettings, LoopSettings)
    written_by_commands = count(Replaced) + 1  # and `tuning`
    assert sum(count(kind) for kind in kinds) - written_by_commands < 80


def test_settings_are_frozen() -> None:
    """Read once, changed by nobody."""
    with pytest.raises(AttributeError):
        RaftSettings().election_ms_min = 1  # type: ignore[misc]
