"""A net as play needs it: policy and win chances only, every normalisation folded into the layer before it.

Folding (Jacob et al. 2018, §3.2) saves the passes over memory that normalising costs; the answers stay the same up to
rounding. In bfloat16 the trunk and the policy compute in half precision, the few numbers behind the chances in full.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.nets.net import Block, Net


class Answer(nn.Module):
    """Policy logits [batch, planes * frame] and win chances [batch, players]; shares no weights with its net."""

    def __init__(self, net: Net, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.net, self.dtype = folded(net), dtype
        for part in (self.net.stem, self.net.scalars, self.net.tower, self.net.policy_mix, self.net.policy):
            part.to(dtype)

    def forward(self, planes: Tensor, scalars: Tensor) -> tuple[Tensor, Tensor]:
        """planes [batch, 29, size, size], scalars [batch, 34]."""
        x, pool = self.net.trunk(planes.to(self.dtype), scalars.to(self.dtype))
        hidden = functional.relu(self.net.pooled(pool.float()))
        return self.net.logits(x, hidden), torch.softmax(self.net.value(hidden), 1)


def folded(net: Net) -> Net:
    """Return a copy for play whose normalisations do nothing: what they did is in the weights before them."""
    net = copy.deepcopy(net).eval()
    _fold_stem(net, net.norm)
    net.norm = nn.Identity()  # type: ignore[assignment]
    for block in net.tower:
        assert isinstance(block, Block)
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2")):
            setattr(block, conv, fuse_conv_bn_eval(getattr(block, conv), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    return net.requires_grad_(requires_grad=False)


def _fold_stem(net: Net, norm: nn.BatchNorm2d) -> None:
    """The first normalisation follows a sum: both terms take its scale, the scalars' bias its shift."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        net.stem.weight *= scale[:, None, None, None]
        net.scalars.weight *= scale[:, None]
        net.scalars.bias.copy_((net.scalars.bias - norm.running_mean) * scale + norm.bias)
