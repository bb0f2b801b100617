"""The processes of one training: those of torchrun, or this one alone.

Every process takes its share of each batch and averages the gradients with the others (PyTorch's
DistributedDataParallel); the first one writes, and decides what all must decide alike.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel


class Ranks(NamedTuple):
    """Which process this is, of how many."""

    number: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes and reports."""
        return self.number == 0

    def share(self, net: nn.Module) -> nn.Module:
        """Return what to call for a forward pass, so that gradients are averaged."""
        return net if self.size == 1 else DistributedDataParallel(net)

    def same(self, flag: bool) -> bool:  # noqa: FBT001 - the one thing to say
        """Return what the first process says."""
        if self.size == 1:
            return flag
        said = torch.tensor([float(flag)], device=_device())
        distributed.broadcast(said, 0)
        return bool(said.item())

    def every(self, flag: bool) -> bool:  # noqa: FBT001
        """Return whether all processes say so."""
        if self.size == 1:
            return flag
        said = torch.tensor([float(flag)], device=_device())
        distributed.all_reduce(said, distributed.ReduceOp.MIN)
        return bool(said.item())


def _device() -> torch.device:
    """Where the messages of the processes lie: NCCL sends from GPUs alone."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def join() -> tuple[Ranks, str]:
    """Meet the other processes that torchrun started; returns the ranks and this process's device."""
    count, local = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    on_gpu = torch.cuda.is_available() and torch.cuda.device_count() > local
    if on_gpu:
        torch.cuda.set_device(local)
    if count > 1:
        distributed.init_process_group("nccl" if on_gpu else "gloo")
    return Ranks(int(os.environ.get("RANK", "0")), count), f"cuda:{local}" if on_gpu else "cpu"


def leave() -> None:
    """Part from the other processes."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
