"""Whether weights answer sensibly on this machine, and how fast."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np

from engine.nets.batch import batch_for, name_of, remembered
from engine.nets.evaluator import Evaluator, NetEvaluator
from engine.nets.inference import SLACK, InferenceError
from engine.nets.net import Net
from engine.nets.store import ModelError, load
from engine.players.player import legal_of
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.geometry import Geometry
from engine.rules.kernels import apply, new_game

POSITIONS, PLIES, SEED = 64, 40, 11
BATCH = 256
SLACK_CPU, SLACK_DEVICE = SLACK["f32"], SLACK["bf16"]  # of a chance; a device may compute in bfloat16


class Probed(msgspec.Struct, frozen=True):
    """Positions evaluated and what is wrong; an empty detail means that nothing is."""

    games: int  # games that the known positions come from
    detail: str = ""


def known_positions(where: Geometry, games: int = POSITIONS) -> tuple[Words, Words]:
    """Return positions that are the same on every machine, and the rows of those that are not over."""
    g, rng = where.tables, np.random.default_rng(SEED)
    data = np.zeros((games, g.state_words), np.int32)
    for state in data:
        new_game(state, g)
    for _ in range(PLIES):
        rows = np.flatnonzero(data[:, lay.PHASE] != lay.OVER).astype(np.int32)
        codes, counts = legal_of(data, rows, where)
        draws = (rng.random(len(rows)) * counts).astype(np.int32)
        for k, row in enumerate(rows):
            apply(data[row], g, int(codes[k, draws[k]]))
    return data, np.flatnonzero(data[:, lay.PHASE] != lay.OVER).astype(np.int32)


def verify(path: Path, device: str = "cpu") -> Probed:
    """Load weights and evaluate known positions: chances are numbers that sum to one, alike alone and on the CPU."""
    try:
        net, manifest = load(path)
    except (ModelError, OSError, ValueError) as error:
        return Probed(0, str(error))
    where = manifest.geometry()
    data, rows = known_positions(where)
    codes, counts = legal_of(data, rows, where)
    whole = NetEvaluator(net, where, "cpu", "torch")
    logits, chances = whole.evaluate(data, rows, codes, counts)
    if not (np.isfinite(logits).all() and np.isfinite(chances).all()):
        return Probed(len(rows), "it answers with values that are not numbers")
    if np.abs(chances.sum(1) - 1).max() > SLACK_CPU:
        return Probed(len(rows), "its win chances do not sum to one")
    _, alone = whole.evaluate(data, rows[:1], codes[:1], counts[:1])
    if np.abs(alone - chances[:1]).max() > SLACK_CPU:
        return Probed(len(rows), "it answers differently alone and in a batch")
    if device != "cpu":
        try:
            _, other = NetEvaluator(net, where, device, "torch").evaluate(data, rows, codes, counts)
        except InferenceError as error:
            return Probed(len(rows), str(error))
        worst = float(np.abs(other - chances).max())
        if worst > SLACK_DEVICE:
            return Probed(len(rows), f"{device} answers differently from the CPU, by up to {worst:.3f} of a chance")
    return Probed(len(rows))


def batch_sizes(path: Path, device: str = "cpu", memory: Path | None = None) -> dict[str, int]:
    """Return the batch sizes remembered in a file, that for these weights among them; raises ModelError."""
    net, manifest = load(path)
    evaluator = NetEvaluator(net, manifest.geometry(), device)
    found = {name_of(evaluator): batch_for(evaluator, memory)}
    return {name: batch.size for name, batch in ((remembered(memory) if memory else {}) | found).items()}


def count_evaluations(path: Path, device: str = "cpu", seconds: float = 1.0) -> int:
    """Evaluate batches of known positions for that long and return how many positions; raises ModelError."""
    net, manifest = load(path)
    return evaluate_for(net, manifest.geometry(), device, seconds)


def evaluate_for(net: Net, where: Geometry, device: str, seconds: float) -> int:
    """Evaluate batches with a net for that long and return how many positions."""
    data, rows = known_positions(where, BATCH)
    codes, counts = legal_of(data, rows, where)
    evaluator: Evaluator = NetEvaluator(net, where, device)
    done, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        evaluator.evaluate(data, rows, codes, counts)
        done += len(rows)
    return done
