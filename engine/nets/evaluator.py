"""Batched inference: states and their legal codes in, logits and win chances out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.nets.encoder import PLANES, SCALARS, Floats, encode_rows, head_index
from engine.nets.net import Net
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.geometry import Geometry

BATCH_MAX = 1024


class Evaluator(Protocol):
    """Says of positions which codes look good and who is likely to win."""

    where: Geometry

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """Return logits [n, width] at codes [n, width] (counts[n] of them real) and win chances [n, players] by seat.

        `rows` [n] are the rows of `data` to look at.
        """


class NetEvaluator:
    """A net on one device."""

    def __init__(self, net: Net, where: Geometry, device: str = "cpu") -> None:
        self.where = where
        self.device = torch.device(device)
        self.net = net.to(self.device).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.half = self.device.type == "cuda"
        self._index = head_index(where)
        self.evaluations = 0

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """See Evaluator."""
        parts = [
            self._part(data, rows[k : k + BATCH_MAX], codes[k : k + BATCH_MAX], counts[k : k + BATCH_MAX])
            for k in range(0, len(rows), BATCH_MAX)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _part(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        n, size = len(rows), self.where.size
        planes = np.empty((n, PLANES, size * size), dtype=np.float32)
        scalars = np.empty((n, SCALARS), dtype=np.float32)
        encode_rows(data, rows, self.where.tables, planes, scalars)
        self.evaluations += n
        policy, value = self._forward(planes.reshape(n, PLANES, size, size), scalars)
        width = max(1, int(counts.max()))
        used = np.clip(codes[:, :width], 0, self.where.tables.policy_size - 1)
        logits = np.take_along_axis(policy, self._index[used], axis=1).astype(np.float32)
        if width < codes.shape[1]:
            logits = np.pad(logits, ((0, 0), (0, codes.shape[1] - width)))
        return logits, absolute(value, data[rows, lay.PLAYER])

    def _forward(self, planes: Floats, scalars: Floats) -> tuple[Floats, Floats]:
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            x = torch.from_numpy(planes).to(self.device).to(memory_format=torch.channels_last)
            policy, value = self.net.answer(x, torch.from_numpy(scalars).to(self.device))
            chances = torch.softmax(value.float(), 1)
            return policy.float().cpu().numpy(), chances.cpu().numpy()


def absolute(value: Floats, movers: Words) -> Floats:
    """Turn values by relative seat [n, players] into values by seat."""
    players = value.shape[1]
    seats = (np.arange(players)[None, :] - (movers[:, None] - 1)) % players
    turned: Floats = np.take_along_axis(value, seats, axis=1)
    return turned


class UniformEvaluator:
    """Knows nothing: equal logits, equal chances. A null net for tests and for measuring search."""

    def __init__(self, where: Geometry) -> None:
        self.where = where

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """See Evaluator."""
        del data, counts
        chances: NDArray[np.float32] = np.full(
            (len(rows), self.where.players), 1 / self.where.players, dtype=np.float32
        )
        return np.zeros(codes.shape, dtype=np.float32), chances
