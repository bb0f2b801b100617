"""Batched inference: states and their legal codes in, logits and win chances out."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from engine.nets.encoder import Floats, encode_rows, head_index
from engine.nets.inference import open_forward
from engine.nets.net import Net
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.geometry import Geometry


class Evaluator(Protocol):
    """Says of positions which codes look good and who is likely to win."""

    where: Geometry

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """Return logits [n, width] at codes [n, width] (counts[n] of them real) and win chances [n, players] by seat.

        `rows` [n] are the rows of `data` to look at.
        """


class NetEvaluator:
    """A net on one device, computed by a backend (`engine.nets.inference`); raises InferenceError when made."""

    def __init__(self, net: Net, where: Geometry, device: str = "cpu", backend: str = "") -> None:
        self.where, self.device, self.net = where, torch.device(device), net
        self.forward = open_forward(net, where, device, backend)
        self._index = head_index(where)
        self.evaluations = 0

    def evaluate(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        """See Evaluator."""
        most = self.forward.batch_max
        if len(rows) <= most:
            return self._part(data, rows, codes, counts)
        parts = [
            self._part(data, rows[k : k + most], codes[k : k + most], counts[k : k + most])
            for k in range(0, len(rows), most)
        ]
        return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])

    def _part(self, data: Words, rows: Words, codes: Words, counts: Words) -> tuple[Floats, Floats]:
        planes, scalars = self.forward.inputs(len(rows))
        encode_rows(data, rows, self.where.tables, planes, scalars)
        self.evaluations += len(rows)
        width = max(1, int(counts.max()))
        used = np.clip(codes[:, :width], 0, self.where.tables.policy_size - 1)
        logits, chances = self.forward.answer(planes, scalars, self._index[used])
        if width < codes.shape[1]:
            logits = np.pad(logits, ((0, 0), (0, codes.shape[1] - width)))
        return logits, absolute(chances, data[rows, lay.PLAYER])


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
