"""The network: fully convolutional, so that one shape serves every board, with heads for each question asked of it.

Residual blocks with squeeze-and-excitation (Hu et al. 2018) and a globally pooled bias, as global pooling in KataGo
(Wu 2019, §3.3). The policy head has one plane for each plane of codes; the planes of codes that name no cell come from
the pooled features. Values are relative to the player to move and are never negated: each seat has its own.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from engine.nets.encoder import PLANES, SCALARS
from engine.rules.geometry import Geometry

SCALAR_PLANES = 3  # skip, nothing, swap: the last of the policy planes
OWNERS = 5  # nobody, then four relative seats


class Heads(NamedTuple):
    """What a net says of a batch."""

    policy: Tensor  # [batch, planes * frame] logits
    value: Tensor  # [batch, players] logits of winning, by relative seat
    rank: Tensor  # [batch, players] expected placement in 0..1, before the sigmoid
    owner: Tensor  # [batch, 5, size, size] logits of who owns each cell at the end
    margin: Tensor  # [batch, 2 * players] final territory and eliminated rings, as shares of what wins


class Block(nn.Module):
    """Two convolutions with squeeze-and-excitation around a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)
        self.squeeze = nn.Linear(channels, max(8, channels // 4))
        self.excite = nn.Linear(max(8, channels // 4), 2 * channels)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, channels, size, size] to the same."""
        y = functional.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        scale, bias = self.excite(functional.relu(self.squeeze(y.mean((2, 3))))).chunk(2, 1)
        y = y * torch.sigmoid(scale)[:, :, None, None] + bias[:, :, None, None]
        return functional.relu(x + y)


class Net(nn.Module):
    """A net for one geometry."""

    def __init__(self, where: Geometry, channels: int = 32, blocks: int = 4) -> None:
        super().__init__()
        self.channels, self.blocks = channels, blocks
        self.players, self.size = where.players, where.size
        self.planes = where.tables.policy_planes
        self.stem = nn.Conv2d(PLANES, channels, 3, padding=1, bias=False)
        self.scalars = nn.Linear(SCALARS, channels)
        self.norm = nn.BatchNorm2d(channels)
        self.tower = nn.Sequential(*(Block(channels) for _ in range(blocks)))
        self.policy_mix = nn.Conv2d(channels, channels, 1)
        self.policy = nn.Conv2d(channels, self.planes - SCALAR_PLANES, 1)
        self.policy_scalar = nn.Linear(2 * channels, SCALAR_PLANES)
        self.pooled = nn.Linear(2 * channels, 2 * channels)
        self.value = nn.Linear(2 * channels, where.players)
        self.rank = nn.Linear(2 * channels, where.players)
        self.margin = nn.Linear(2 * channels, 2 * where.players)
        self.owner = nn.Conv2d(channels, OWNERS, 1)

    def trunk(self, planes: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [batch, channels, size, size] and their pool [batch, 2 * channels]."""
        x = self.stem(planes) + self.scalars(scalars)[:, :, None, None]
        x = self.tower(functional.relu(self.norm(x)))
        return x, torch.cat((x.mean((2, 3)), x.amax((2, 3))), 1)

    def answer(self, planes: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """Return policy logits [batch, planes * frame] and value logits [batch, players]: what play needs."""
        x, pool = self.trunk(planes, scalars)
        hidden = functional.relu(self.pooled(pool))
        return self.logits(x, hidden), self.value(hidden)

    def forward(self, planes: Tensor, scalars: Tensor) -> Heads:
        """planes [batch, 29, size, size], scalars [batch, 34]."""
        x, pool = self.trunk(planes, scalars)
        hidden = functional.relu(self.pooled(pool))
        return Heads(self.logits(x, hidden), self.value(hidden), self.rank(hidden), self.owner(x), self.margin(hidden))

    def logits(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return policy logits [batch, planes * frame] of features and their pooled summary, in the features' type."""
        cells = self.policy(functional.relu(self.policy_mix(x)))
        whole = self.policy_scalar(hidden).to(cells.dtype)[:, :, None, None].expand(-1, -1, self.size, self.size)
        return torch.cat((cells, whole), 1).flatten(1)


def parse_size(size: str) -> tuple[int, int]:
    """Return channels and blocks of a size such as `32x4`; raises ValueError."""
    channels, _, blocks = size.partition("x")
    if not (channels.isdigit() and blocks.isdigit() and 8 <= int(channels) <= 512 and 1 <= int(blocks) <= 40):
        raise ValueError(f"size {size!r}: write channels x blocks, such as 32x4 or 96x6")
    return int(channels), int(blocks)
