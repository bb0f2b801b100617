"""The search's arithmetic against trees computed by hand, and searches that begin and end one by one."""

from __future__ import annotations

import numpy as np
import pytest

from engine.nets.evaluator import UniformEvaluator
from engine.players.player import legal_of
from engine.rules import layout as lay
from engine.rules.batch import GameBatch
from engine.rules.geometry import Geometry, geometry
from engine.search.gumbel import VALUE_SCALE, VISIT_SCALE, GumbelSearch
from engine.search.tree import Trees, back_up, completed, conclude, make_trees, mixed_value

WHERE = geometry("square8", 3)


def by_hand() -> Trees:
    """A root of seat 1 with three edges: visited twice, once and never."""
    trees = make_trees(WHERE, 1, 8)
    trees.fan[0, 0] = 3
    trees.states[0, 0, lay.PLAYER] = 1
    trees.value[0, 0] = (0.4, 0.35, 0.25)
    trees.logit[0, :3] = np.log((0.5, 0.25, 0.25))
    trees.visits[0, :3] = (2, 1, 0)
    trees.total[0, :3] = (1.2, 0.3, 0.0)
    return trees


def test_mixed_value_by_hand() -> None:
    """(0.4 + 3 x (0.5 x 0.6 + 0.25 x 0.3) / 0.75) / 4 = 0.475."""
    assert mixed_value(by_hand(), 0, 0) == pytest.approx(0.475, abs=1e-6)


def test_completed_values_by_hand() -> None:
    """Logit + (50 + 2) x 0.1 x Q, with the mixed value where nothing was visited."""
    out = np.zeros(3, np.float32)
    completed(by_hand(), 0, 0, 50.0, 0.1, out)
    want = np.log((0.5, 0.25, 0.25)) + 5.2 * np.array((0.6, 0.3, 0.475))
    assert np.allclose(out, want, atol=1e-5)


def test_ten_points_of_win_chance_outweigh_a_likelier_move() -> None:
    """The improved policy follows what was found: a move half as likely, but better by a tenth, comes first."""
    trees = by_hand()
    trees.visits[0, :3] = (2, 2, 0)
    trees.total[0, :3] = (1.0, 1.2, 0.0)
    policy, best = np.zeros((1, 3), np.float32), np.zeros(1, np.int32)
    conclude(trees, np.zeros(1, np.int32), VISIT_SCALE, VALUE_SCALE, policy, best)
    assert best[0] == policy[0].argmax() == 1


def test_a_visited_move_of_no_weight_is_no_division_by_zero() -> None:
    """A policy can be so sharp that a visited move's share is below what a float holds."""
    trees = by_hand()
    trees.logit[0, :3] = (-300.0, -300.0, 0.0)
    assert 0 <= mixed_value(trees, 0, 0) <= 1


def test_an_edge_belongs_to_who_chose_it() -> None:
    """Seat 1 moves twice, then seat 3: values go up by chooser, whoever moves next, and are never negated."""
    trees = make_trees(WHERE, 1, 8)
    for node, (parent, via, mover) in enumerate([(-1, 0, 1), (0, 0, 1), (1, 4, 3), (2, 8, 2)]):
        trees.parent[0, node], trees.via[0, node] = parent, via
        trees.states[0, node, lay.PLAYER] = mover
    trees.target[0] = 3
    trees.value[0, 3] = (0.2, 0.7, 0.1)
    back_up(trees, 0)
    assert trees.total[0, [0, 4, 8]] == pytest.approx([0.2, 0.2, 0.1])
    assert list(trees.visits[0, [0, 4, 8]]) == [1, 1, 1]


class Opinionated:
    """Different logits and chances for every position, by its words alone."""

    def __init__(self, where: Geometry) -> None:
        self.where = where

    def evaluate(self, data: np.ndarray, rows: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> tuple:
        del counts
        mark = data[rows].sum(1, dtype=np.int64)
        chances = np.stack([np.sin(mark * (k + 1)) + 1.5 for k in range(self.where.players)], 1).astype(np.float32)
        logits = np.cos(codes * 0.7 + (mark % 17)[:, None]).astype(np.float32)
        return logits, chances / chances.sum(1, keepdims=True)


def decisions(where: Geometry, games: int) -> tuple[np.ndarray, np.ndarray]:
    batch = GameBatch(where, games)
    batch.random_playouts(9, 30)
    rows = np.flatnonzero(~batch.over).astype(np.int32)
    return batch.data, rows[legal_of(batch.data, rows, where)[1] > 1]


@pytest.mark.parametrize("root", ["gumbel", "puct"])
def test_searches_do_not_disturb_each_other(root: str) -> None:
    """A search begun beside others, with another budget and in a used slot, finds what it finds alone."""
    data, rows = decisions(WHERE, 60)
    budgets = np.array([4, 16, 9, 16, 1, 12], np.int32)
    rolling = GumbelSearch(Opinionated(WHERE), 2, 16, root=root)
    found: dict[int, tuple] = {}
    waiting, inside = list(range(6)), {}
    while waiting or inside:
        for slot in {0, 1} - set(inside):
            if waiting:
                inside[slot] = job = waiting.pop(0)
                args = np.array([slot], np.int32), data, rows[job : job + 1], budgets[job : job + 1]
                rolling.begin(*args, [np.random.default_rng(job)])
        for slot in rolling.step().tolist():
            taken = rolling.take(np.array([slot], np.int32))
            found[inside.pop(slot)] = (taken.codes[0], taken.policy[0], taken.value[0])
    for job in range(6):
        alone = GumbelSearch(Opinionated(WHERE), 1, 16, root=root)
        one = alone.run(data, rows[job : job + 1], int(budgets[job]), np.random.default_rng(job))
        assert one.codes[0] == found[job][0]
        assert np.array_equal(one.policy[0], found[job][1])
        assert one.value[0] == found[job][2]


def test_the_policy_alone_is_a_search_without_simulations() -> None:
    """Its target is the net's policy."""
    data, rows = decisions(WHERE, 40)
    search = GumbelSearch(Opinionated(WHERE), 1, 4)
    search.begin(np.zeros(1, np.int32), data, rows[:1], np.zeros(1, np.int32), None)
    assert list(search.step()) == [0]
    found = search.take(np.zeros(1, np.int32))
    codes, counts = legal_of(data, rows[:1], WHERE)
    logits, _ = Opinionated(WHERE).evaluate(data, rows[:1], codes, counts)
    prior = np.exp(logits[0, : counts[0]])
    assert np.allclose(found.policy[0], prior / prior.sum(), atol=1e-5)


def test_puct_shares_its_visits_and_finds_a_win() -> None:
    """Its target is a share of the visits: multiples of one visit that sum to one; unknown roots are refused."""
    data, rows = decisions(WHERE, 40)
    found = GumbelSearch(UniformEvaluator(WHERE), len(rows), 20, root="puct").run(data, rows, 20, None)
    assert np.allclose(found.policy.sum(1), 1)
    assert np.allclose(found.policy * 20, np.round(found.policy * 20), atol=1e-4)
    assert (found.codes == found.legal[np.arange(len(rows)), found.policy.argmax(1)]).mean() > 0.5
    with pytest.raises(ValueError, match="gumbel, puct"):
        GumbelSearch(UniformEvaluator(WHERE), 1, 1, root="ucb")
