"""Which runtime computes a net's answers, and that it computes the same as torch.

`auto` takes torch on a CUDA device, on the CPU the fastest that is installed: OpenVINO, ONNX Runtime, torch
(`python -m benchmarks.inference`). After a colon the precision, as in `openvino:bf16`; without one it is the fastest
that the device computes natively for `auto` and CUDA, f32 else.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from typing import Final

import msgspec
import numpy as np
import torch

from engine.nets.encoder import PLANES, SCALARS, Floats, encode_rows
from engine.nets.fold import Answer
from engine.nets.forward import CpuForward, Forward, frames, torch_run
from engine.nets.net import Net
from engine.rules import layout as lay
from engine.rules.geometry import Geometry
from engine.rules.kernels import new_game, playout_words, seed_random

BACKENDS: Final = ("auto", "torch", "onnxruntime", "openvino")
PRECISIONS: Final = ("f32", "bf16")
# How far answers may lie from torch's in single precision: of a chance, and of a logit as a share of the largest.
SLACK: Final = {"f32": 1e-3, "bf16": 3e-2}
POSITIONS, SEED = 32, 5  # one after each even number of random plies


class InferenceError(Exception):
    """A runtime that is not installed here or does not answer as it should; the text says which and what to do."""


UNUSABLE = (InferenceError, RuntimeError, ImportError, OSError)  # what a runtime that does not work here raises


class Backend(msgspec.Struct, frozen=True):
    """A runtime and the precision that it computes in, empty where it may choose."""

    name: str
    precision: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.precision}" if self.precision else self.name


REFERENCE: Final = Backend("torch", "f32")


def parse_backend(text: str) -> Backend:
    """Return the backend that a text names; raises ValueError."""
    name, _, precision = text.partition(":")
    if name not in BACKENDS:
        raise ValueError(f"backend {text!r}: choose one of {', '.join(BACKENDS)}")
    if precision and precision not in PRECISIONS:
        raise ValueError(f"backend {text!r}: the precision after the colon is {' or '.join(PRECISIONS)}")
    if name == "onnxruntime" and precision == "bf16":
        raise ValueError(
            "backend 'onnxruntime:bf16': ONNX Runtime computes in f32 here; take openvino:bf16 or torch:bf16"
        )
    return Backend(name, precision)


def installed(name: str) -> bool:
    """Return whether a backend can be used here."""
    modules = {"torch": ("torch",), "onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
    return all(importlib.util.find_spec(module) for module in modules[name])


def candidates(backend: Backend, device: str) -> tuple[Backend, ...]:
    """Return what to try for a backend on a device, best first; raises InferenceError."""
    if device != "cpu":
        if backend.name not in ("auto", "torch"):
            raise InferenceError(f"{backend.name} computes on the CPU only; for {device} choose torch or auto")
        return (Backend("torch", backend.precision or "bf16"),)
    if backend.name != "auto":
        if not installed(backend.name):
            raise InferenceError(
                f"{backend.name} is not installed: pip install 'riftq[{backend.name}]', or choose torch or auto"
            )
        return (Backend(backend.name, backend.precision or "f32"),)
    found = []
    if installed("openvino"):
        found.append(Backend("openvino", backend.precision or _fastest_precision()))
    if installed("onnxruntime") and backend.precision != "bf16":
        found.append(Backend("onnxruntime", "f32"))
    return (*found, Backend("torch", backend.precision or "f32"))


def _fastest_precision() -> str:
    from engine.nets.runtimes import openvino_has_bf16

    try:
        return "bf16" if openvino_has_bf16() else "f32"
    except UNUSABLE:  # it is passed over when it is opened, which says why
        return "f32"


_in_use = "torch"


def use(backend: str) -> None:
    """Let nets be computed by this backend from now on, where none is named; raises ValueError."""
    global _in_use  # of a process, like torch's number of threads
    parse_backend(backend)
    _in_use = backend


def open_forward(net: Net, where: Geometry, device: str = "cpu", backend: str = "") -> Forward:
    """Return what computes the answers of a net; raises InferenceError where it would not be what torch says.

    Without a backend it is the one in use. With `auto` a runtime that does not answer like torch is passed over with a
    warning.
    """
    asked = parse_backend(backend or _in_use)
    tried = candidates(asked, device)
    for each in tried:
        try:
            forward = make_forward(net, where, device, each)
            if device != "cpu" or each != REFERENCE:
                check_agreement(net, where, forward, SLACK[each.precision])
        except (torch.OutOfMemoryError, MemoryError):
            raise
        except UNUSABLE as error:
            if each == tried[-1] and isinstance(error, InferenceError):
                raise
            if each == tried[-1]:
                raise InferenceError(f"{each} cannot be used here: {error}; choose torch or auto") from error
            warnings.warn(f"{each} is passed over: {error}", RuntimeWarning, stacklevel=2)
        else:
            return forward
    raise AssertionError("there is always torch")


def make_forward(net: Net, where: Geometry, device: str, backend: Backend) -> Forward:
    """Return what computes with exactly this backend; unchecked."""
    dtype = torch.bfloat16 if backend.precision == "bf16" else torch.float32
    if device != "cpu":
        from engine.nets.buckets import GraphForward

        return GraphForward(str(backend), Answer(net, dtype), where, device)
    if backend.name == "torch":
        return CpuForward(str(backend), where.size, torch_run(Answer(net, dtype)))
    from engine.nets import runtimes

    threads = torch.get_num_threads()
    if backend.name == "onnxruntime":
        run = runtimes.onnxruntime_run(net, threads)
    else:
        run = runtimes.openvino_run(net, threads, backend.precision)
    return CpuForward(str(backend), where.size, run)


def sample_inputs(where: Geometry) -> tuple[Floats, Floats]:
    """Return planes [n, 29, frame] and scalars [n, 34] of positions that are the same on every machine."""
    g, rng = where.tables, np.zeros(1, np.int64)
    data, legal = np.zeros((POSITIONS, g.state_words), np.int32), np.zeros(g.max_legal, np.int32)
    for k, state in enumerate(data):
        new_game(state, g)
        seed_random(rng, SEED + k)
        playout_words(state, g.table, legal, rng, 2 * k)
    rows = np.flatnonzero(data[:, lay.PHASE] != lay.OVER).astype(np.int32)
    planes = np.zeros((len(rows), PLANES, where.size**2), np.float32)
    scalars = np.zeros((len(rows), SCALARS), np.float32)
    encode_rows(data, rows, g, planes, scalars)
    return planes, scalars


def check_agreement(net: Net, where: Geometry, forward: Forward, slack: float) -> None:
    """Compare with the net by torch in single precision on sample positions; raises InferenceError."""
    planes, scalars = sample_inputs(where)
    reference = copy.deepcopy(net).cpu().eval()
    with torch.inference_mode():
        policy, value = reference.answer(torch.from_numpy(frames(planes, where.size)), torch.from_numpy(scalars))
        chances = torch.softmax(value, 1).numpy()
    filled = forward.inputs(len(planes))
    filled[0][:], filled[1][:] = planes, scalars
    places = np.tile(np.arange(policy.shape[1]), (len(planes), 1))
    got_policy, got_chances = forward.answer(*filled, places)
    largest = 1 + float(policy.abs().max())
    worst = max(float(np.abs(got_chances - chances).max()), float(np.abs(got_policy - policy.numpy()).max()) / largest)
    if not worst <= slack:  # also when it is no number
        raise InferenceError(
            f"{forward.name} answers differently from torch, by up to {worst:.3g} where {slack:g} is allowed: "
            "choose torch"
        )
