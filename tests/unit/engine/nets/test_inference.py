"""Every runtime answers as torch does, or is refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import nn

from engine.nets import inference, runtimes
from engine.nets.evaluator import NetEvaluator
from engine.nets.fold import Answer
from engine.nets.forward import CpuForward, frames, torch_run
from engine.nets.inference import (
    SLACK,
    Backend,
    InferenceError,
    candidates,
    check_agreement,
    make_forward,
    open_forward,
    parse_backend,
    sample_inputs,
)
from engine.nets.net import Net
from engine.players.player import legal_of
from engine.rules import layout as lay
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import new_game, playout_words, seed_random

CPU = ("torch:f32", "torch:bf16", "onnxruntime:f32", "openvino:f32", "openvino:bf16")
HERE = [name for name in CPU if inference.installed(name.partition(":")[0])]
WHERE = geometry("square8", 2)


def trained(where: Geometry, channels: int = 16, blocks: int = 2) -> Net:
    """A net whose normalisations do something, as after training."""
    torch.manual_seed(3)
    net = Net(where, channels, blocks)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0, 0.3)
            nn.init.normal_(part.running_mean, 0, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 2)
    return net.eval()


def test_folding_changes_nothing_but_rounding() -> None:
    """The folded copy answers as the net does, and the net keeps its weights."""
    for board, players in (("square8", 2), ("hex8", 3), ("square8", 4)):
        where = geometry(board, players)
        net = trained(where)
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        planes, scalars = (torch.from_numpy(each) for each in sample_inputs(where))
        planes = planes.reshape(len(planes), -1, where.size, where.size)
        with torch.inference_mode():
            policy, value = net.answer(planes, scalars)
            got_policy, got_chances = Answer(net)(planes, scalars)
        assert torch.allclose(got_policy, policy, atol=1e-4)
        assert torch.allclose(got_chances, torch.softmax(value, 1), atol=1e-5)
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize(("board", "players"), [("square8", 2), ("hex8", 3)])
def test_every_installed_runtime_answers_as_torch_does(backend: str, board: str, players: int) -> None:
    """Whatever the batch, through the whole evaluator: logits of legal codes and chances by seat."""
    where = geometry(board, players)
    net = trained(where)
    data, rows = positions(where)
    codes, counts = legal_of(data, rows, where)
    real = np.arange(codes.shape[1])[None, :] < counts[:, None]
    logits, chances = NetEvaluator(net, where).evaluate(data, rows, codes, counts)
    evaluator = NetEvaluator(net, where, backend=backend)
    assert evaluator.forward.name == backend
    slack = SLACK[backend.partition(":")[2]]
    for n in (1, 5, len(rows)):
        got_logits, got_chances = evaluator.evaluate(data, rows[:n], codes[:n], counts[:n])
        worst = np.abs(got_logits - logits[:n])[real[:n]].max()
        assert worst <= slack * (1 + np.abs(logits).max())
        assert np.abs(got_chances - chances[:n]).max() <= slack


def positions(where: Geometry) -> tuple[np.ndarray, np.ndarray]:
    g, rng = where.tables, np.zeros(1, np.int64)
    data, legal = np.zeros((12, g.state_words), np.int32), np.zeros(g.max_legal, np.int32)
    for k, state in enumerate(data):
        new_game(state, g)
        seed_random(rng, k)
        playout_words(state, g.table, legal, rng, 3 * k)
    return data, np.flatnonzero(data[:, lay.PHASE] != lay.OVER).astype(np.int32)


def test_more_rows_than_a_batch_are_answered_in_parts() -> None:
    """And put together in order."""
    net = trained(WHERE, 8, 1)
    data, rows = positions(WHERE)
    codes, counts = legal_of(data, rows, WHERE)
    whole = NetEvaluator(net, WHERE)
    parts = NetEvaluator(net, WHERE)
    parts.forward.batch_max = 5
    (logits, chances), (got_logits, got_chances) = (each.evaluate(data, rows, codes, counts) for each in (whole, parts))
    real = np.arange(codes.shape[1])[None, :] < counts[:, None]
    assert got_logits.shape == logits.shape
    assert np.allclose(got_logits[real], logits[real], atol=1e-5)
    assert np.allclose(got_chances, chances, atol=1e-5)


@pytest.mark.parametrize("part", ["value", "policy"])
def test_a_runtime_that_answers_differently_is_refused(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name it is an error; `auto` passes it over with a warning and takes the next."""
    net, other = trained(WHERE), trained(WHERE)
    with torch.no_grad():
        getattr(other, part).bias[0] += 1.0
    wrong = CpuForward("openvino:f32", WHERE.size, torch_run(Answer(other)))
    with pytest.raises(InferenceError, match=r"openvino:f32 answers differently from torch, by up to 0\.\d+"):
        check_agreement(net, WHERE, wrong, SLACK["f32"])
    real = inference.make_forward

    def make(net: Net, where: Geometry, device: str, backend: Backend) -> object:
        return wrong if backend.name == "openvino" else real(net, where, device, backend)

    monkeypatch.setattr(inference, "make_forward", make)
    monkeypatch.setattr(inference, "installed", lambda name: name != "onnxruntime")
    monkeypatch.setattr(inference, "_fastest_precision", lambda: "f32")
    with pytest.raises(InferenceError, match="choose torch"):
        open_forward(net, WHERE, backend="openvino")
    with pytest.warns(RuntimeWarning, match="openvino:f32 is passed over"):
        assert open_forward(net, WHERE, backend="auto").name == "torch:f32"


@pytest.mark.parametrize("error", [ImportError("libtbb.so.12: no such file"), RuntimeError("no CPU plugin")])
def test_a_runtime_that_does_not_work_is_passed_over(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed but without a library of the system, say: by name it is an error that says what to choose."""

    def broken(*_: object) -> object:
        raise error

    for name in ("openvino_run", "openvino_has_bf16"):
        monkeypatch.setattr(runtimes, name, broken)
    monkeypatch.setattr(inference, "installed", lambda name: name != "onnxruntime")
    with pytest.warns(RuntimeWarning, match=f"openvino:f32 is passed over: {error}"):
        assert open_forward(trained(WHERE), WHERE, backend="auto").name == "torch:f32"
    with pytest.raises(InferenceError, match=f"{error}; choose torch or auto"):
        open_forward(trained(WHERE), WHERE, backend="openvino")


def test_errors_of_onnx_runtime_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are of kinds of its own, when a graph is read and when it runs."""
    run = runtimes.onnxruntime_run(trained(WHERE), 1)
    with pytest.raises(RuntimeError, match="planes"):
        run(np.zeros((1, 1, 1, 1), np.float32), np.zeros((1, 34), np.float32))
    monkeypatch.setattr(runtimes, "onnx_bytes", lambda _: b"no graph")
    with pytest.raises(InferenceError, match="onnxruntime:f32 cannot be used here"):
        open_forward(trained(WHERE), WHERE, backend="onnxruntime")


def test_answers_that_are_not_numbers_are_refused() -> None:
    """A comparison with them is false: it must not pass for agreement."""
    net = trained(WHERE)
    broken = torch_run(Answer(net))
    forward = CpuForward("x", WHERE.size, lambda planes, scalars: tuple(x * np.nan for x in broken(planes, scalars)))
    with pytest.raises(InferenceError, match="nan"):
        check_agreement(net, WHERE, forward, SLACK["bf16"])


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With how to install it; `auto` does without."""
    monkeypatch.setattr(inference, "installed", lambda name: name == "torch")
    with pytest.raises(InferenceError, match=r"pip install 'riftq\[openvino\]'"):
        candidates(parse_backend("openvino"), "cpu")
    assert candidates(parse_backend("auto"), "cpu") == (Backend("torch", "f32"),)
    assert candidates(parse_backend("auto:bf16"), "cpu") == (Backend("torch", "bf16"),)


def test_backends_read_as_text() -> None:
    """Name and precision; anything else is refused with the choices."""
    assert parse_backend("openvino:bf16") == Backend("openvino", "bf16")
    assert str(parse_backend("torch")) == "torch"
    assert candidates(parse_backend("auto"), "cuda:0") == (Backend("torch", "bf16"),)
    assert candidates(parse_backend("torch:f32"), "cuda:0") == (Backend("torch", "f32"),)
    with pytest.raises(InferenceError, match="computes on the CPU only"):
        candidates(parse_backend("openvino"), "cuda:0")
    for wrong in ("tensorrt", "torch:int8", "onnxruntime:bf16", ""):
        with pytest.raises(ValueError, match="backend"):
            parse_backend(wrong)


def test_a_choice_of_torch_needs_no_other_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the extras plays: nothing of theirs is imported."""
    for module in ("onnx", "onnxruntime", "openvino", "engine.nets.graph", "engine.nets.runtimes"):
        monkeypatch.setitem(sys.modules, module, None)
    planes, scalars = sample_inputs(WHERE)
    forward = make_forward(trained(WHERE), WHERE, "cpu", Backend("torch", "f32"))
    logits, chances = forward.answer(planes, scalars, np.zeros((len(planes), 1), np.int64))
    assert logits.shape == (len(planes), 1)
    assert np.allclose(chances.sum(1), 1, atol=1e-5)
    assert frames(planes, WHERE.size).shape[2:] == (WHERE.size, WHERE.size)
