"""Training: what is held out, surprise, transfer, precision, resumption, several processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.data.shards import Shard, load_shard, replay
from engine.nets.net import Net
from engine.nets.store import Manifest, save
from engine.players.player import PlayerConfig
from engine.rules.geometry import geometry
from engine.selfplay import SelfplaySpec, play
from engine.training.surprise import chances, surprises
from engine.training.train import LOSS_WEIGHTS, Stopped, Training, TrainSpec, losses, train
from engine.training.window import Window, held_out, load_window, make_batch

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """For so little work more threads wait for each other."""
    torch.set_num_threads(1)


def shards_of(folder: Path, board: str = "square8", players: int = 2, games: int = 8, seed: int = 1) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    what = SelfplaySpec(
        board=board, players=players, player=PlayerConfig("heuristic"), player_key="x", games=games, seed=seed
    )
    return [folder / f"{info.sha256}.npz" for info in play(what, folder).shards]


def spec(**fields: object) -> TrainSpec:
    base = {"board": "square8", "players": 2, "steps": 4, "seed": 3, "size": "8x1", "batch_size": 32}
    return TrainSpec(**{**base, "heldout": 0.2, **fields})  # type: ignore[arg-type]


def out(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_a_game_is_held_out_in_every_window(tmp_path: Path) -> None:
    """So that no later training learns from what measures it; about as many as asked for."""
    first, second = shards_of(tmp_path, games=60), shards_of(tmp_path, games=60, seed=2)
    shard = load_shard(first[0])
    share = held_out(shard, 0.3)
    assert 5 <= share.sum() <= 31
    alone, both = load_window(first, 0.3), load_window(second + first, 0.3)
    assert np.array_equal(both.heldout[-len(alone.heldout) :], alone.heldout)
    assert np.array_equal(alone.heldout, share[alone.game])


def names(window: Window) -> list[bytes]:
    """Each position as its state and the end of its game."""
    every = np.arange(len(window.game))
    return [state.tobytes() + window.finals[window.game[k]].tobytes() for k, state in enumerate(window.states(every))]


def test_of_a_window_that_is_too_large_as_much_as_there_is_room_for_is_chosen_by_lot(tmp_path: Path) -> None:
    """Each position with its own target and result, from old and new shards alike; the seed alone decides."""
    paths = [path for seed in (1, 2, 3) for path in shards_of(tmp_path, games=20, seed=seed)]
    whole = load_window(paths, 0.3)
    notes: list[str] = []
    part = load_window(paths, 0.3, notes.append, room=300, seed=5)
    total = len(whole.game)
    assert len(part.game) == 300 < total
    assert notes == [f"{total - 300} of {total} positions are left out by lot: no more than 300 are needed"]
    place = {name: k for k, name in enumerate(names(whole))}
    found = np.array([place[name] for name in names(part)])
    few = load_window(paths, 0.3, room=20, seed=5)  # of many games none is left
    assert len(few.ranks) <= 20
    assert [whole.ranks[whole.game[place[name]]].tolist() for name in names(few)] == few.ranks[few.game].tolist()
    assert (np.diff(found) > 0).all()
    ours, theirs = make_batch(part, np.arange(300), None), make_batch(whole, found, None)
    for name, mine, other in zip(ours._fields, ours, theirs, strict=True):
        assert np.array_equal(mine, other), name
    assert np.array_equal(part.heldout, whole.heldout[found])
    share = np.histogram(found, bins=3, range=(0, total))[0] / 300
    assert (np.abs(share - 1 / 3) < 0.12).all()
    again, other = (load_window(paths, 0.3, room=300, seed=seed) for seed in (5, 6))
    assert names(again) == names(part)
    assert names(other) != names(part)


def game_of(shard: Shard) -> list[int]:
    """The game that each target is of."""
    plies = shard.plies.tolist()
    return [next(game for game in range(len(plies)) if ply < sum(plies[: game + 1])) for ply in shard.targets_ply]


@pytest.mark.parametrize("board", ["square8", "hexagonal"])
def test_positions_come_back_as_they_were(tmp_path: Path, board: str) -> None:
    """In whatever order they are picked, one of them more than once."""
    paths = [path for seed in (1, 2) for path in shards_of(tmp_path, board, games=3, seed=seed)]
    shards = [load_shard(path) for path in paths]
    states = np.concatenate([replay(shard)[0] for shard in shards])
    ends = [np.repeat(replay(shard)[1], np.bincount(game_of(shard), minlength=3), 0) for shard in shards]
    window = load_window(paths, 0.0)
    assert np.array_equal(window.finals[window.game], np.concatenate(ends))
    picked = np.array([len(states) - 1, 0, 5, 5, 1])
    assert np.array_equal(window.states(picked), states[picked])
    assert sum(each.nbytes for each in (window.word, window.value)) < states.nbytes / 4


def test_a_window_of_any_size_takes_the_memory_of_what_is_picked_of_it(tmp_path: Path) -> None:
    """Four times the shards take as much as one, for as long as they are read."""
    shards = shards_of(tmp_path, games=40)

    def peak(times: int) -> int:
        tracemalloc.start()
        try:
            window = load_window(shards * times, 0.1, room=200)
            assert len(window.game) == 200
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(12) < 1.3 * peak(3)


def test_a_training_reads_as_much_as_it_picks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is resumed goes on with the same positions."""
    monkeypatch.setattr("engine.training.train.ROOM_MIN", 64)
    shards = shards_of(tmp_path, games=20)
    told: list[dict[str, object]] = []
    summary = train(spec(), shards, out(tmp_path, "a"), progress=told.append)
    assert (told[0]["positions"], len(told[0]["left_out"])) == (128, 1)
    assert train(spec(), shards, out(tmp_path, "b")).model == summary.model


def test_surprise_is_the_distance_from_the_net(tmp_path: Path) -> None:
    """Zero for a target that is the net's own policy; picked in proportion to it, each still possible."""
    window = load_window(shards_of(tmp_path, games=2), 0.0)
    torch.manual_seed(1)
    net = Net(window.where, 8, 1)
    ids = np.arange(20)
    found = surprises(net, window, ids, "cpu")
    batch = make_batch(window, ids, None)
    with torch.inference_mode():
        net.eval()
        heads = net(torch.from_numpy(batch.planes), torch.from_numpy(batch.scalars))
        cross = losses(heads, batch, window.where, torch.device("cpu"))["policy"]
    entropy = -(batch.policy * np.log(np.maximum(batch.policy, 1e-12))).sum(1)
    assert found.mean() == pytest.approx(float(cross) - entropy.mean(), abs=1e-3)
    assert (found > 0).all()
    share = chances(found, 0.5)
    assert share.sum() == pytest.approx(1.0)
    assert share.min() > 0.5 / 20
    assert share.argmax() == found.argmax()
    assert np.allclose(chances(np.zeros(4), 0.5), 0.25)


@pytest.mark.parametrize("fields", [{}, {"optimizer": "sgd"}, {"surprise": 0.5}])
def test_an_interrupted_training_ends_as_a_whole_one(fields: dict[str, object], tmp_path: Path) -> None:
    """To the bit, with every optimiser and with weighted picks."""
    shards = shards_of(tmp_path / "shards")
    what = spec(**fields)
    torch.manual_seed(5)
    parent, _ = save(Net(geometry("square8", 2), 8, 1), Manifest("square8", 2, "8x1"), tmp_path)
    whole = train(what, shards, out(tmp_path, "a"), parent=parent)
    seen: list[int] = []
    with pytest.raises(Stopped) as stopped:
        train(
            what, shards, out(tmp_path, "b"), parent=parent,
            should_stop=lambda: seen.append(1) or len(seen) > 2,  # type: ignore[func-returns-value]
        )  # fmt: skip
    assert stopped.value.step == 2
    rest = train(what, shards, out(tmp_path, "c"), parent=parent, resume=stopped.value.checkpoint)
    assert rest.model == whole.model
    assert whole.manifest.transferred == ()


@pytest.mark.parametrize(("board", "players"), [("square8", 3), ("hex8", 2)])
def test_weights_start_another_config_and_say_what_carried_over(board: str, players: int, tmp_path: Path) -> None:
    """The trunk always; heads whose shape depends on the seats or the board's moves only where they agree."""
    parent, _ = save(Net(geometry("square8", 2), 8, 1), Manifest("square8", 2, "8x1"), tmp_path)
    done = train(
        spec(board=board, players=players, steps=1), shards_of(tmp_path / "s", board, players, 3),
        out(tmp_path, "a"), parent=parent,
    )  # fmt: skip
    carried = set(done.manifest.transferred)
    assert {"stem.weight", "tower.0.conv1.weight", "policy_mix.weight", "pooled.weight"} <= carried
    assert ("value.weight" in carried) == (players == 2)
    assert ("policy.weight" in carried) == (board == "square8")
    assert json.loads((tmp_path / "a/model.json").read_text())["transferred"] == list(done.manifest.transferred)


def test_half_precision_learns_too(tmp_path: Path) -> None:
    """The loss falls, and the weights stay whole numbers of single precision."""
    done = train(spec(steps=30, precision="bfloat16", warm_up=2), shards_of(tmp_path / "s"), out(tmp_path, "a"))
    first = train(spec(steps=2, precision="bfloat16", warm_up=2), shards_of(tmp_path / "s"), out(tmp_path, "b"))
    assert done.heldout_loss < first.heldout_loss
    assert all(t.dtype != torch.bfloat16 for t in load_file(done.path).values())


def test_a_batch_that_is_no_number_is_skipped_and_counted(tmp_path: Path) -> None:
    """The weights stay what they were."""
    window = load_window(shards_of(tmp_path), 0.0)
    run = Training(spec(), window, None, "cpu")
    before = {name: tensor.clone() for name, tensor in run.net.named_parameters()}
    window.prob[:] = np.nan
    run.advance()
    assert (run.step, run.skipped) == (1, 1)
    assert all(torch.equal(before[name], tensor) for name, tensor in run.net.named_parameters())


def test_settings_that_make_no_sense_are_refused() -> None:
    """Each with what to choose."""
    with pytest.raises(ValueError, match="adamw, sgd"):
        spec(optimizer="adam")
    with pytest.raises(ValueError, match="float32"):
        spec(precision="half")
    with pytest.raises(ValueError, match="0 to 1"):
        spec(surprise=2.0)


def halves_by_hand(what: TrainSpec, shards: list[Path]) -> dict[str, torch.Tensor]:
    """One step of plain SGD with the mean of the gradients of the two halves of the batch."""
    run = Training(what, load_window(shards, what.heldout), None, "cpu")
    rng = np.random.default_rng([what.seed, 0])
    picked = np.sort(rng.choice(run.train_ids, what.batch_size))
    state = rng.bit_generator.state
    run.net.train()
    for half in (0, 1):
        rng.bit_generator.state = state
        batch = make_batch(run.window, picked[half::2], rng)
        heads = run.net(torch.from_numpy(batch.planes), torch.from_numpy(batch.scalars))
        parts = losses(heads, batch, run.where, run.device)
        (sum(LOSS_WEIGHTS[name] * part for name, part in parts.items()) / 2).backward()  # type: ignore[union-attr]
    torch.nn.utils.clip_grad_norm_(run.net.parameters(), 1.0)
    for group in run.optimizer.param_groups:
        group["lr"] = run.learning_rate()
    run.optimizer.step()
    return dict(run.net.named_parameters())


@pytest.mark.timeout(300)
def test_two_processes_average_their_gradients(tmp_path: Path) -> None:
    """`torchrun` with two processes: one step is the step of the mean gradient; only one process writes."""
    shards = shards_of(tmp_path / "s", games=4)
    what = spec(steps=2, optimizer="sgd", checkpoint_steps=1, warm_up=1)
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode(what))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "engine.training.distributed", str(tmp_path / "spec.json"), str(out(tmp_path, "o")), *map(str, shards),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("done 2 total 2") == 1
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "checkpoint.safetensors", "curves.png", "model.json", "model.safetensors",
    }  # fmt: skip
    found = load_file(tmp_path / "o/checkpoint.safetensors")
    for name, tensor in halves_by_hand(what, shards).items():
        assert torch.allclose(found[f"net/{name}"], tensor, atol=1e-5), name
