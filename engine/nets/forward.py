"""What computes a net's answers: torch on a device, or another runtime on the CPU.

A batch is filled in place: `inputs` lends the arrays, `answer` evaluates them. Arrays and answers are good until the
next call, so that a device can keep its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.nets.encoder import PLANES, SCALARS, Floats

Places = NDArray[np.int64]
CPU_BATCH_MAX = 1024


class Forward(Protocol):
    """Policy and win chances of encoded positions."""

    name: str  # backend and precision, such as `openvino:bf16`
    batch_max: int

    def inputs(self, n: int) -> tuple[Floats, Floats]:
        """Return planes [n, 29, frame] and scalars [n, 34] to be filled, n at most `batch_max`."""
        ...

    def answer(self, planes: Floats, scalars: Floats, places: Places) -> tuple[Floats, Floats]:
        """Return logits [n, width] at places [n, width] of the policy and chances [n, players] by relative seat."""
        ...


def frames(planes: Floats, size: int) -> Floats:
    """View planes [n, 29, frame] as [n, 29, size, size]."""
    return planes.reshape(len(planes), PLANES, size, size)


class CpuForward:
    """A function from planes [n, 29, size, size] and scalars [n, 34] to the whole policy and the chances."""

    batch_max = CPU_BATCH_MAX

    def __init__(self, name: str, size: int, run: Callable[[Floats, Floats], tuple[Floats, Floats]]) -> None:
        self.name, self.size, self._run = name, size, run

    def inputs(self, n: int) -> tuple[Floats, Floats]:
        """See Forward."""
        return np.empty((n, PLANES, self.size**2), np.float32), np.empty((n, SCALARS), np.float32)

    def answer(self, planes: Floats, scalars: Floats, places: Places) -> tuple[Floats, Floats]:
        """See Forward."""
        policy, chances = self._run(frames(planes, self.size), scalars)
        return np.take_along_axis(policy, places, axis=1), chances


def torch_run(answer: nn.Module) -> Callable[[Floats, Floats], tuple[Floats, Floats]]:
    """Return the function of a net on the CPU."""
    answer = answer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(planes: Floats, scalars: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode():
            x = torch.from_numpy(planes).to(memory_format=torch.channels_last)
            policy, chances = answer(x, torch.from_numpy(scalars))
            return policy.float().numpy(), chances.numpy()

    return run
