"""Rounded batches on devices, and the batch size that is fast enough."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.nets import batch
from engine.nets.batch import Batch, batch_for, find_batch, rate_of, remembered
from engine.nets.buckets import GraphForward, Run, bucket_of, bucket_sizes
from engine.nets.evaluator import NetEvaluator
from engine.nets.fold import Answer
from engine.nets.inference import sample_inputs
from engine.nets.net import Net
from engine.rules.geometry import geometry

WHERE = geometry("square8", 2)


@pytest.fixture
def net() -> Net:
    torch.manual_seed(5)
    return Net(WHERE, 8, 1).eval()


def test_batches_are_rounded_up_by_a_third_at_most() -> None:
    """To a few sizes, the largest of which is the limit itself."""
    sizes = bucket_sizes(1000)
    assert sizes[:5] == (8, 12, 16, 24, 32)
    assert sizes[-1] == 1000
    assert len(sizes) < 20
    for n in range(8, 1001):
        assert n <= bucket_of(n, sizes) <= n * 1.5
    assert bucket_of(1, sizes) == 8
    assert bucket_sizes(4) == (4,)
    with pytest.raises(ValueError, match="1001 rows do not fit"):
        bucket_of(1001, sizes)


def test_rounded_batches_answer_as_the_net_does(net: Net) -> None:
    """Rows that an earlier batch left beyond the end change nothing; each size is recorded once."""
    forward = GraphForward("torch:f32", Answer(net), WHERE, "cpu", batch_max=32)
    recorded: list[int] = []

    def record(run: object, device: object) -> object:
        recorded.append(1)
        return run

    forward._record = record  # type: ignore[assignment]
    planes, scalars = sample_inputs(WHERE)
    with torch.inference_mode():
        policy, value = net.answer(torch.from_numpy(planes).reshape(-1, 29, 8, 8), torch.from_numpy(scalars))
    places = np.arange(policy.shape[1])[None, :].repeat(len(planes), 0)
    for n in (30, 3, 7, 20, 30, 1):
        filled = forward.inputs(n)
        filled[0][:], filled[1][:] = planes[-n:], scalars[-n:]
        logits, chances = forward.answer(*filled, places[:n])
        assert np.allclose(logits, policy[-n:].numpy(), atol=1e-4)
        assert np.allclose(chances, torch.softmax(value[-n:], 1).numpy(), atol=1e-5)
    assert len(recorded) == len({32, 8, 24})


def test_answers_are_not_overwritten_by_the_next_batch(net: Net) -> None:
    """A search keeps them while it asks for more."""
    forward = GraphForward("torch:f32", Answer(net), WHERE, "cpu", batch_max=16)

    def record(run: Run, device: torch.device) -> Run:
        """As a graph does: every replay answers in the same memory."""
        policy, chances = run()

        def replay() -> tuple[torch.Tensor, torch.Tensor]:
            for kept, found in zip((policy, chances), run(), strict=True):
                kept.copy_(found)
            return policy, chances

        return replay

    forward._record = record
    planes, scalars = sample_inputs(WHERE)
    answers, kept = [], []
    for k in (0, 8):
        filled = forward.inputs(8)
        filled[0][:], filled[1][:] = planes[k : k + 8], scalars[k : k + 8]
        answers.append(forward.answer(*filled, np.zeros((8, 1), np.int64)))
        kept.append([each.copy() for each in answers[-1]])
    assert not np.array_equal(kept[0][1], kept[1][1])
    for before, after in zip(kept, answers, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("rates", "chosen"),
    [
        ({16: 100, 32: 190, 64: 300, 128: 310, 256: 305, 512: 999}, 64),  # the last is never tried
        ({16: 100, 32: 200, 64: 400, 128: 800, 256: 1600, 512: 3200}, 512),
        ({16: 100, 32: 101, 64: 99, 128: 500}, 16),
        ({16: 100, 32: 90, 64: 200, 128: 400, 256: 400, 512: 400}, 128),  # one bad sample does not end it
    ],
)
def test_the_batch_grows_until_it_brings_no_more(rates: dict[int, float], chosen: int) -> None:
    """The smallest size within noise of the best."""
    assert find_batch(lambda size: rates[size], 512) == Batch(chosen, round(rates[chosen]))


@pytest.mark.parametrize("error", [MemoryError, torch.OutOfMemoryError])
def test_the_batch_grows_until_memory_ends(error: type[Exception]) -> None:
    """What fitted last is taken; nothing at all is an error."""

    def rate(size: int) -> float:
        if size > 64:
            raise error("full")
        return size * 10.0

    assert find_batch(rate, 4096) == Batch(64, 640)
    with pytest.raises(MemoryError, match="does not fit"):
        find_batch(rate, 4096, smallest=128)


def test_a_rate_is_counted_by_the_clock(net: Net) -> None:
    """Batches of 16 that take 10 ms each are 1600 positions a second."""
    now = [0.0]

    class Slow(GraphForward):
        def answer(self, *given: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            now[0] += 0.01
            return super().answer(*given)

    forward = Slow("torch:f32", Answer(net), WHERE, "cpu", batch_max=16)
    assert rate_of(forward, 16, 0.1, lambda: now[0]) == pytest.approx(1600)


def test_a_batch_size_is_measured_once(net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And remembered for this device, backend and net; a broken memory is measured anew."""
    rates: Iterator[float] = iter([10.0, 10.0, 10.0, 70.0, 80.0, 80.0, 80.0])
    monkeypatch.setattr(batch, "rate_of", lambda *_: next(rates))
    evaluator, memory = NetEvaluator(net, WHERE), tmp_path / "batches.json"
    assert batch_for(evaluator, memory) == Batch(16, 10)
    assert batch_for(evaluator, memory) == Batch(16, 10)
    [key] = remembered(memory)
    assert key.startswith("cpu/torch:f32/")
    assert key.endswith("/square8_2p/8x1")
    memory.write_text("no json")
    assert batch_for(evaluator, memory) == Batch(32, 80)


def test_a_batch_size_is_of_one_number_of_threads(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another number of them is fast with another; one alone is timed by what it computed, which nobody disturbs."""
    evaluator, found = NetEvaluator(net, WHERE), {}
    for count in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=count: count)
        found[batch.name_of(evaluator)] = batch.clock_for(evaluator)
    assert list(found.values()) == [time.process_time, time.perf_counter]
    assert len(found) == 2


def test_jobs_side_by_side_remember_what_each_measured(
    net: Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes last keeps what the other wrote meanwhile; where nothing can be written the size is found anew."""
    evaluator, memory = NetEvaluator(net, WHERE), tmp_path / "batches.json"

    def rate(*_: object) -> float:
        memory.write_text('{"another": {"size": 32, "positions_s": 7}}')
        return 10.0

    monkeypatch.setattr(batch, "rate_of", rate)
    assert batch_for(evaluator, memory) == Batch(16, 10)
    assert remembered(memory).keys() == {"another", batch.name_of(evaluator)}
    assert list(tmp_path.iterdir()) == [memory]
    monkeypatch.setattr(batch, "rate_of", lambda *_: 20.0)
    assert batch_for(evaluator, tmp_path / "missing" / "batches.json") == Batch(16, 20)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_recorded_graphs_answer_as_the_cpu_does(net: Net, precision: str) -> None:
    """Batches of every size, one after another, on a CUDA device."""
    planes, scalars = sample_inputs(WHERE)
    forward = NetEvaluator(net, WHERE, "cuda:0", f"torch:{precision}").forward
    with torch.inference_mode():
        policy, value = net.cpu().answer(torch.from_numpy(planes).reshape(-1, 29, 8, 8), torch.from_numpy(scalars))
    places = np.arange(policy.shape[1])[None, :].repeat(len(planes), 0)
    slack = 1e-3 if precision == "f32" else 3e-2
    for n in (len(planes), 3, 17, len(planes)):
        filled = forward.inputs(n)
        filled[0][:], filled[1][:] = planes[-n:], scalars[-n:]
        logits, chances = forward.answer(*filled, places[:n])
        assert np.abs(logits - policy[-n:].numpy()).max() <= slack * (1 + float(policy.abs().max()))
        assert np.abs(chances - torch.softmax(value[-n:], 1).numpy()).max() <= slack


@pytest.mark.gpu
def test_a_device_finds_its_batch_size(net: Net) -> None:
    """With the memory and the speed that it has."""
    found = batch_for(NetEvaluator(net, WHERE, "cuda:0"))
    assert found.size >= 16
    assert found.positions_s > 0
