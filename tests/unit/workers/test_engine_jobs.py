"""Jobs that play and train, with the real engine at its smallest."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.rules.records import read_record
from engine.training.train import TrainSpec
from workers.jobs import find
from workers.jobs.context import JobError, Stopped
from workqueue.machine.commands import ArtifactRef
from workqueue.schema import (
    BenchmarkPayload,
    EvaluatePayload,
    GauntletPayload,
    PlayerSpec,
    SelfplayPayload,
    TournamentPayload,
    TrainPayload,
    VerifyPayload,
    VerifyResult,
)

RANDOM, HEURISTIC = PlayerSpec("random"), PlayerSpec("heuristic")
SELFPLAY = SelfplayPayload("square8", 2, HEURISTIC, games=6, seed=7, batch_games=3)


class Store:
    """Artifacts of all attempts."""

    def __init__(self) -> None:
        self.bytes: dict[str, bytes] = {}


class Context:
    """A worker in memory."""

    config, kind, attempt, job, threads, device = "square8_2p", "x", 1, "j", 1, "cpu"
    backend, batches = "torch", None

    def __init__(self, folder: Path, store: Store, cursor: dict[str, object] | None = None) -> None:
        folder.mkdir()
        self.work, self.store, self.cursor = folder, store, cursor or {}
        self.refs: list[ArtifactRef] = []
        self.stop_after = -1  # calls of should_stop until it says yes
        self.told: list[dict[str, object]] = []

    def progress(self, **values: object) -> None:
        self.told.append(values)

    def checkpoint(self, cursor: dict[str, object]) -> None:
        self.cursor = msgspec.msgpack.decode(msgspec.msgpack.encode(cursor))

    def should_stop(self) -> bool:
        self.stop_after -= self.stop_after > 0
        return self.stop_after == 0

    def fetch(self, sha256: str) -> Path:
        path = self.work / f"in-{sha256[:8]}"
        path.write_bytes(self.store.bytes[sha256])
        return path

    def publish(self, path: Path, kind: str) -> ArtifactRef:
        data = path.read_bytes()
        ref = ArtifactRef(hashlib.sha256(data).hexdigest(), len(data), kind)
        self.store.bytes[ref.sha256] = data
        self.refs.append(ref)
        path.unlink()
        return ref

    def include(self, ref: ArtifactRef) -> None:
        self.refs.append(ref)


@pytest.fixture
def store() -> Store:
    return Store()


def test_selfplay_counts_what_its_shards_hold(tmp_path: Path, store: Store) -> None:
    """Games, positions and wins are sums over stored shards, and the shards are what the engine reads."""
    from engine.data.shards import read_shard, replay

    result = find("selfplay").run(Context(tmp_path / "a", store), SELFPLAY)
    shards = [read_shard(store.bytes[shard.sha256]) for shard in result.shards]
    assert result.games == 6 == sum(shard.meta.games for shard in shards)
    assert result.positions == sum(shard.meta.positions for shard in shards)
    assert result.plies == sum(int(shard.plies.sum()) for shard in shards)
    assert sum(result.wins) == 6
    assert result.player_key == HEURISTIC.key == shards[0].meta.player
    for shard in shards:
        assert len(replay(shard)[1]) == shard.meta.games


def test_selfplay_goes_on_at_its_cursor(tmp_path: Path, store: Store) -> None:
    """A stopped attempt keeps its finished games; the next one plays others and names all shards as its own."""
    from engine.data.shards import read_shard

    first = Context(tmp_path / "a", store)
    first.stop_after = 220
    with pytest.raises(Stopped):
        find("selfplay").run(first, msgspec.structs.replace(SELFPLAY, games=40))
    second = Context(tmp_path / "b", store, first.cursor)
    result = find("selfplay").run(second, msgspec.structs.replace(SELFPLAY, games=40))
    assert result.games == 40
    assert {ref.sha256 for ref in second.refs} == {shard.sha256 for shard in result.shards}
    assert len(result.shards) == 2
    seeds = [int(seed) for shard in result.shards for seed in read_shard(store.bytes[shard.sha256]).seeds]
    assert len(set(seeds)) == len(seeds) == 40


@pytest.fixture
def data(tmp_path: Path, store: Store) -> tuple[str, ...]:
    """A shard to train on."""
    result = find("selfplay").run(Context(tmp_path / "data", store), SELFPLAY)
    return tuple(shard.sha256 for shard in result.shards)


def training(data: tuple[str, ...], **fields: Any) -> TrainPayload:
    return TrainPayload("square8", 2, data, **{"steps": 6, "seed": 1, "size": "8x1", "batch_size": 16} | fields)


def test_train_publishes_weights_that_play(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """The model's name is the digest of its weights, the manifest says what they are, and they play."""
    context = Context(tmp_path / "a", store)
    result = find("train").run(context, training(data))
    assert hashlib.sha256(store.bytes[result.model]).hexdigest() == result.model
    manifest = msgspec.msgpack.decode(result.manifest)
    assert (manifest["board"], manifest["size"], manifest["data"]) == ("square8", "8x1", list(data))
    assert store.bytes[result.curves].startswith(b"\x89PNG")
    payload = GauntletPayload("square8", 2, PlayerSpec("gumbel", result.model, 2), (RANDOM,), 4, 1)
    assert len(find("gauntlet").run(Context(tmp_path / "b", store), payload).games) == 4


def test_a_net_of_another_layout_is_for_another_worker(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """A worker of an older or newer build gives the job back as its own fault, whatever would use the net."""
    from engine.nets import store as nets
    from engine.nets.net import Net
    from engine.rules.geometry import geometry

    net = Net(geometry("square8", 2), 8, 1)
    for number, changed in enumerate(({"encoder": "seats-1x1"}, {"rules_version": "0"})):
        name = str(number) * 64
        manifest = nets.Manifest("square8", 2, "8x1", **changed)
        store.bytes[name] = nets.dump(net, manifest)
        player = PlayerSpec("gumbel", name, 2)
        for kind, payload in (
            ("gauntlet", GauntletPayload("square8", 2, player, (RANDOM,), 2, 1)),
            ("selfplay", msgspec.structs.replace(SELFPLAY, player=player)),
            ("train", training(data, parent=name)),
            ("benchmark", BenchmarkPayload("square8", 2, seconds=1, model=name)),
        ):
            with pytest.raises(JobError, match="install the build") as caught:
                find(kind).run(Context(tmp_path / f"{kind}{number}", store), payload)
            assert (caught.value.cause, caught.value.fault) == ("version.mismatch", "node")


def test_every_setting_of_a_training_reaches_the_engine(
    tmp_path: Path, store: Store, data: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A payload that differs from the defaults everywhere gives a training that does."""
    asked = TrainPayload(
        "square8", 2, data, steps=7, seed=8, size="8x2", variant="other", batch_size=9, learning_rate_micro=4000,
        checkpoint_steps=3, heldout_milli=100, surprise_milli=250,
    )  # fmt: skip
    given: list[TrainSpec] = []

    def train(spec: TrainSpec, *_: object, **__: object) -> None:
        given.append(spec)
        raise ValueError("seen enough")

    monkeypatch.setattr("engine.training.train.train", train)
    with pytest.raises(JobError, match="seen enough"):
        find("train").run(Context(tmp_path / "a", store), asked)
    assert given == [
        TrainSpec(
            board="square8", players=2, steps=7, seed=8, size="8x2", variant="other", batch_size=9, learning_rate=0.004,
            checkpoint_steps=3, heldout=0.1, surprise=0.25,
        )
    ]  # fmt: skip


def test_train_resumes_to_the_same_weights(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """A run that was stopped and went on elsewhere ends with the bytes of one that never stopped."""
    whole = find("train").run(Context(tmp_path / "whole", store), training(data))
    first = Context(tmp_path / "a", store)
    first.stop_after = 4
    with pytest.raises(Stopped):
        find("train").run(first, training(data))
    assert 0 < int(str(first.cursor["step"])) < 6
    resumed = find("train").run(Context(tmp_path / "b", store, first.cursor), training(data))
    assert resumed.model == whole.model


def test_a_corrupt_shard_ends_the_training_with_its_cause(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """A window without one usable shard is the payload's fault."""
    store.bytes[data[0]] = store.bytes[data[0]][:-40]
    with pytest.raises(JobError, match="no shard of the window") as raised:
        find("train").run(Context(tmp_path / "a", store), training(data[:1]))
    assert raised.value.fault == "payload"


@pytest.mark.parametrize(
    ("kind", "payload", "games"),
    [
        ("tournament", TournamentPayload("square8", 2, (RANDOM, HEURISTIC), 4, 1), 4),
        ("gauntlet", GauntletPayload("square8", 2, HEURISTIC, (RANDOM,), 4, 1), 4),
        ("tournament", TournamentPayload("hex8", 3, (RANDOM, HEURISTIC), 6, 1), 6),
        ("evaluate", EvaluatePayload("square8", 2, HEURISTIC, RANDOM, 400, 1), None),
    ],
)
def test_matches_name_players_and_records(
    kind: str, payload: Any, games: int | None, tmp_path: Path, store: Store
) -> None:
    """Each game has its own id, the keys of its players by seat, and its record; a replay has the same ids."""
    result = find(kind).run(Context(tmp_path / "a", store), payload)
    assert len({game.id for game in result.games}) == len(result.games)
    if games is None:
        assert result.verdict == "accept"
        assert len(result.games) < 400, "a clear difference ends the match early"
    else:
        assert len(result.games) == games
    [name] = {game.record for game in result.games}
    for game, record in zip(result.games, msgspec.msgpack.decode(store.bytes[name], type=list[bytes]), strict=True):
        read = read_record(record)
        assert (len(read.codes), read.result.ranks, read.result.reason) == (game.plies, game.ranks, game.reason)
    again = find(kind).run(Context(tmp_path / "b", store), payload)
    assert [game.id for game in again.games] == [game.id for game in result.games]


def verified(tmp_path: Path, store: Store, **names: Any) -> VerifyResult:
    result = find("verify").run(Context(tmp_path / f"v{len(list(tmp_path.iterdir()))}", store), VerifyPayload(**names))
    assert isinstance(result, VerifyResult)
    return result


def damaged(store: Store, name: str, at: int) -> str:
    """Store other bytes under a name of their own, as a cheating worker would."""
    data = bytearray(store.bytes[name])
    data[at] ^= 1
    other = hashlib.sha256(data).hexdigest()
    store.bytes[other] = bytes(data)
    return other


def test_verify_tells_what_a_shard_holds(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """Every move by the rules, every result as claimed; damage and bytes that are no shard are findings."""
    good = verified(tmp_path, store, shard=data[0])
    assert (good.ok, good.games, len(good.outcomes), min(good.plies) > 5) == (True, 6, 6, True)
    store.bytes["0" * 64] = b"invented"
    for wrong in (damaged(store, data[0], len(store.bytes[data[0]]) // 2), "0" * 64):
        found = verified(tmp_path, store, shard=wrong)
        assert not found.ok
        assert found.detail


def test_verify_plays_games_again_as_they_were_asked_for(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """Of a first attempt and of a later one; other seeds, players and boards than asked for are findings."""
    found = verified(tmp_path, store, shard=data[0], asked=SELFPLAY, again=(7, 8))
    assert found.ok
    assert found.decisions == found.agreed > 20
    alone, more = (verified(tmp_path, store, shard=data[0], asked=SELFPLAY, again=lots) for lots in ((7,), (7, 1)))
    assert alone.decisions * 1.2 < found.decisions, "two lots draw two games"
    assert more.decisions == alone.decisions, "lots that draw the same game play it once"
    first = Context(tmp_path / "a", store)
    first.stop_after = 220
    more = msgspec.structs.replace(SELFPLAY, games=40)
    with pytest.raises(Stopped):
        find("selfplay").run(first, more)
    result = find("selfplay").run(Context(tmp_path / "b", store, first.cursor), more)
    for shard in result.shards:
        found = verified(tmp_path, store, shard=shard.sha256, asked=more, again=(3,))
        assert found.ok
        assert found.decisions == found.agreed > 10
    for other in ({"seed": 8}, {"seed": 5}, {"player": PlayerSpec("policy")}, {"board": "hex8"}):
        asked = msgspec.structs.replace(SELFPLAY, **other)
        assert not verified(tmp_path, store, shard=data[0], asked=asked, again=(7,)).ok


def test_verify_stops_when_it_is_told_to(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """Games that were played again in part are no finding, good or bad."""
    context = Context(tmp_path / "a", store)
    context.stop_after = 3
    with pytest.raises(Stopped):
        find("verify").run(context, VerifyPayload(shard=data[0], asked=SELFPLAY, again=(0, 1, 2)))


def test_verify_tells_how_match_games_really_ended(tmp_path: Path, store: Store) -> None:
    """Ranks and plies of the records are those of an honest result, so that invented ones show."""
    payload = TournamentPayload("square8", 2, (RANDOM, HEURISTIC), 4, 1)
    result = find("tournament").run(Context(tmp_path / "a", store), payload)
    record = result.games[0].record
    found = verified(tmp_path, store, record=record)
    assert found.ok
    assert found.outcomes == tuple(game.ranks for game in result.games)
    assert found.plies == tuple(game.plies for game in result.games)
    assert not verified(tmp_path, store, record=damaged(store, record, 60)).ok
    with pytest.raises(JobError, match="only one"):
        verified(tmp_path, store, record=record, shard=record)


def test_verify_looks_at_a_model(tmp_path: Path, store: Store, data: tuple[str, ...]) -> None:
    """Whole weights are fine, cut ones are not."""
    model = find("train").run(Context(tmp_path / "a", store), training(data)).model
    assert verified(tmp_path, store, model=model).ok
    store.bytes["1" * 64] = store.bytes[model][:-40]
    assert not verified(tmp_path, store, model="1" * 64).ok
