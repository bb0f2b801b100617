"""Policy-surprise weighting (Wu, KataGoMethods.md): where search disagreed with the net, training looks more often."""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from engine.nets.evaluator import NetEvaluator
from engine.nets.net import Net
from engine.players.player import legal_of
from engine.training.window import Window, aligned

PART = 1024


def surprises(net: Net, window: Window, ids: NDArray[np.int64], device: str) -> NDArray[np.float64]:
    """Return for chosen positions how far the target lies from the net's policy: Kullback-Leibler, in nats [n]."""
    evaluator = NetEvaluator(copy.deepcopy(net), window.where, device)
    found = np.zeros(len(ids))
    for k in range(0, len(ids), PART):
        part = ids[k : k + PART]
        states, rows = window.states(part), np.arange(len(part), dtype=np.int32)
        codes, counts = legal_of(states, rows, window.where)
        codes = codes[:, : int(counts.max())].copy()
        target = aligned(window, part, codes, counts)
        logits, _ = evaluator.evaluate(states, rows, codes, counts)
        legal = np.arange(codes.shape[1])[None, :] < counts[:, None]
        prior = torch.log_softmax(torch.from_numpy(np.where(legal, logits, -np.inf)), 1).numpy()
        gap = np.log(np.maximum(target, 1e-12)) - np.where(legal, prior, 0.0)
        found[k : k + len(part)] = np.maximum(0.0, (target * gap).sum(1))
    return found


def chances(surprise: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """Return the chance of each position to be picked: `share` of it in proportion to surprise, the rest even."""
    even = np.full(len(surprise), 1 / len(surprise))
    total = float(surprise.sum())
    return even if total <= 0 else (1 - share) * even + share * surprise / total
