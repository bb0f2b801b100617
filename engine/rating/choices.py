"""Repeated choices among few alternatives with linear utilities, and their most likely parameters by Newton's method.

Both rating models are of this form (multinomial logit, McFadden 1974): in Plackett-Luce the best of the seats that are
left is chosen again and again; in Davidson's model the first, the second or a tie is chosen. The log-likelihood is
concave, so Newton's method with step halving finds its one maximum.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.int64]
STEPS_MAX = 100
TOLERANCE = 1e-10


class Choices(NamedTuple):
    """Rows of alternatives, each a few parameters with coefficients, and how often each was chosen."""

    places: Index  # [rows, alternatives, features] parameters; unused ones have coefficient 0
    coefficient: Array  # [rows, alternatives, features]
    real: NDArray[np.bool_]  # [rows, alternatives]
    counts: Array  # [rows, alternatives]


class Solution(NamedTuple):
    """The most likely parameters and the information about them."""

    parameters: Array  # [parameters]
    information: Array  # [parameters, parameters] observed Fisher information, with that of the prior
    converged: bool


def probabilities(choices: Choices, parameters: Array) -> Array:
    """Return the chance of each alternative [rows, alternatives]."""
    utility = (choices.coefficient * parameters[choices.places]).sum(2)
    utility = np.where(choices.real, utility, -np.inf)
    utility -= utility.max(1, keepdims=True)
    chances: Array = np.exp(utility)
    chances /= chances.sum(1, keepdims=True)
    return chances


def log_likelihood(choices: Choices, parameters: Array) -> float:
    """Return the log-likelihood of the counts."""
    chances = probabilities(choices, parameters)
    logs = np.log(np.where(choices.real, chances, 1.0))
    return float((choices.counts * logs).sum())


def gradient(choices: Choices, parameters: Array, counts: Array | None = None) -> Array:
    """Return the score: for each parameter what was observed less what was expected."""
    counts = choices.counts if counts is None else counts
    surplus = counts - counts.sum(1, keepdims=True) * probabilities(choices, parameters)
    found = np.zeros(len(parameters))
    np.add.at(found, choices.places, surplus[:, :, None] * choices.coefficient)
    return found


def information(choices: Choices, parameters: Array) -> Array:
    """Return the Fisher information of the rows [parameters, parameters]."""
    chances = probabilities(choices, parameters)
    times = choices.counts.sum(1)
    places, x = choices.places, choices.coefficient
    found = np.zeros((len(parameters), len(parameters)))
    own = (times[:, None] * chances)[:, :, None, None] * x[:, :, :, None] * x[:, :, None, :]
    np.add.at(found, (places[:, :, :, None], places[:, :, None, :]), own)
    rows = len(places)
    flat, mean = places.reshape(rows, -1), (chances[:, :, None] * x).reshape(rows, -1)
    np.add.at(
        found,
        (flat[:, :, None], flat[:, None, :]),
        -times[:, None, None] * mean[:, :, None] * mean[:, None, :],
    )
    return found


def solve(choices: Choices, start: Array, free: NDArray[np.bool_], prior_mean: Array, prior_weight: Array) -> Solution:
    """Maximise the likelihood times a normal prior (weight 0: none) over the free parameters."""

    def value(at: Array) -> float:
        return log_likelihood(choices, at) - 0.5 * float((prior_weight * (at - prior_mean) ** 2).sum())

    at, best, converged = start.copy(), value(start), False
    for _ in range(STEPS_MAX):
        slope = (gradient(choices, at) - prior_weight * (at - prior_mean))[free]
        curve = (information(choices, at) + np.diag(prior_weight))[np.ix_(free, free)]
        step = np.zeros(len(at))
        step[free] = np.linalg.lstsq(curve, slope, rcond=None)[0]
        length = 1.0
        while length > 1e-6 and value(at + length * step) < best:
            length /= 2
        at = at + length * step
        best = max(best, value(at))
        if np.abs(step).max(initial=0.0) < TOLERANCE or length <= 1e-6:
            converged = True
            break
    return Solution(at, information(choices, at) + np.diag(prior_weight), converged)
