"""Inference on a CUDA device: batches of a few fixed sizes, each recorded as a CUDA graph when it is first needed.

A graph replays its kernels by one launch, but only for the shapes and the memory that it was recorded with. So a batch
is written into fixed memory and rounded up to the next size; the rows beyond it hold what an earlier batch left there,
and nobody reads their answers. Host memory is pinned: copies from and to it need no other copy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from engine.nets.encoder import PLANES, SCALARS, Floats
from engine.nets.forward import Places
from engine.rules.geometry import Geometry

Run = Callable[[], tuple[Tensor, Tensor]]
CUDA_BATCH_MAX: Final = 4096
SMALLEST: Final = 8
WARM_UPS: Final = 3  # torch asks for some on a side stream before a capture


def bucket_sizes(batch_max: int) -> tuple[int, ...]:
    """Return the sizes that batches are rounded up to: 8, 12, 16, 24, 32, …; at most a third of a batch is waste."""
    sizes, size = {batch_max}, SMALLEST
    while size < batch_max:
        sizes |= {size, min(batch_max, size * 3 // 2)}
        size *= 2
    return tuple(sorted(sizes))


def bucket_of(n: int, sizes: tuple[int, ...]) -> int:
    """Return the smallest size that holds n rows; raises ValueError when none does."""
    for size in sizes:
        if size >= n:
            return size
    raise ValueError(f"{n} rows do not fit a batch of {sizes[-1]}")


def capture(run: Run, device: torch.device) -> Run:
    """Record a run as a CUDA graph and return its replay; it reads and writes the same memory every time."""
    with torch.cuda.device(device):
        return _captured(run)


def _captured(run: Run) -> Run:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        answers = run()

    def replay() -> tuple[Tensor, Tensor]:
        graph.replay()
        return answers

    return replay


def at_once(run: Run, device: torch.device) -> Run:
    """Record nothing: every replay is a run. For devices without graphs."""
    del device
    return run


class GraphForward:
    """A net on a device, by recorded batches."""

    def __init__(
        self, name: str, answer: nn.Module, where: Geometry, device: str, batch_max: int = CUDA_BATCH_MAX
    ) -> None:
        self.name, self.batch_max = name, batch_max
        self.device = torch.device(device)
        self.answer_of = answer.to(self.device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.sizes = bucket_sizes(batch_max)
        self._record = capture if self.device.type == "cuda" else at_once
        self._runs: dict[int, Run] = {}
        side = where.size
        self._planes = torch.zeros(batch_max, PLANES, side, side, device=self.device)
        self._scalars = torch.zeros(batch_max, SCALARS, device=self.device)
        pinned = self.device.type == "cuda"
        self._host_planes = torch.zeros(batch_max, PLANES, side * side, pin_memory=pinned)
        self._host_scalars = torch.zeros(batch_max, SCALARS, pin_memory=pinned)

    def inputs(self, n: int) -> tuple[Floats, Floats]:
        """See Forward."""
        return self._host_planes[:n].numpy(), self._host_scalars[:n].numpy()

    def answer(self, planes: Floats, scalars: Floats, places: Places) -> tuple[Floats, Floats]:
        """See Forward; `planes` and `scalars` are those of `inputs`."""
        n = len(planes)
        with torch.inference_mode():
            self._planes[:n].copy_(self._host_planes[:n].view(n, *self._planes.shape[1:]), non_blocking=True)
            self._scalars[:n].copy_(self._host_scalars[:n], non_blocking=True)
            index = torch.from_numpy(places).to(self.device, non_blocking=True)
            policy, chances = self._run(bucket_of(n, self.sizes))()
            logits = policy[:n].gather(1, index).float().cpu()
            return np.array(logits.numpy()), np.array(chances[:n].float().cpu().numpy())

    def _run(self, size: int) -> Run:
        if size not in self._runs:
            planes, scalars = self._planes[:size], self._scalars[:size]

            def run() -> tuple[Tensor, Tensor]:
                found: tuple[Tensor, Tensor] = self.answer_of(
                    planes.contiguous(memory_format=torch.channels_last), scalars
                )
                return found

            self._runs[size] = self._record(run, self.device)
        return self._runs[size]
