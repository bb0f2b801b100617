"""The search's arithmetic against trees computed by hand, and searches that begin and end one by one."""

from __future__ import annotations

import numpy as np
import pytest

from engine.nets.evaluator import UniformEvaluator
from engine.players.player import legal_of
from engine.rules import layout as lay
from engine.rules.batch import GameBatch
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import apply
from engine.search.gumbel import VALUE_SCALE, VISIT_SCALE, GumbelSearch
from engine.search.kept import KEEP, find, reroot
from engine.search.tree import Trees, back_up, completed, conclude, make_trees, mixed_value, plant, root_edge

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


# ---- what the next search keeps


def family() -> Trees:
    """A root with two edges, a child below each, and a grandchild below the second child; nodes in order of making.

    0: edges 0, 1   1 (by edge 0): edges 2, 3, 4   2 (by edge 1): edges 5, 6   3 (by edge 6): edges 7, 8
    """
    trees = make_trees(WHERE, 1, 8)
    trees.nodes[0], trees.edges[0] = 4, 9
    for node, (parent, via, first, fan) in enumerate([(-1, 0, 0, 2), (0, 0, 2, 3), (0, 1, 5, 2), (2, 6, 7, 2)]):
        trees.parent[0, node], trees.via[0, node] = parent, via
        trees.first[0, node], trees.fan[0, node] = first, fan
        trees.value[0, node] = node / 10
        trees.states[0, node, lay.PLIES] = node
        if parent >= 0:
            trees.child[0, via] = node
    trees.code[0, :9] = np.arange(100, 109)
    trees.visits[0, :9] = (1, 3, 0, 0, 0, 0, 2, 1, 0)
    trees.total[0, :9] = (0.5, 1.2, 0, 0, 0, 0, 0.8, 0.3, 0)
    return trees


def test_what_lies_below_the_new_root_is_kept_and_nothing_else() -> None:
    """The second child becomes the root, its grandchild node 1; edges 5 to 8 become 0 to 3."""
    trees = family()
    reroot(trees, 0, 2, 1, 8, 100)
    assert (trees.nodes[0], trees.edges[0]) == (2, 4)
    assert list(trees.code[0, :4]) == [105, 106, 107, 108]
    assert list(trees.visits[0, :4]) == [0, 2, 1, 0]
    assert trees.total[0, :4] == pytest.approx([0, 0.8, 0.3, 0])
    assert list(trees.child[0, :4]) == [-1, 1, -1, -1]
    assert (trees.parent[0, 0], trees.parent[0, 1], trees.via[0, 1]) == (-1, 0, 1)
    assert list(trees.first[0, :2]) == [0, 2]
    assert trees.value[0, :2, 0] == pytest.approx([0.2, 0.3])
    assert list(trees.states[0, :2, lay.PLIES]) == [2, 3]


def test_evaluations_can_be_kept_without_the_visits() -> None:
    """The grandchild is still there, and its edge looks unvisited."""
    trees = family()
    reroot(trees, 0, 2, 0, 8, 100)
    assert trees.nodes[0] == 2
    assert not trees.visits[0, :4].any()
    assert not trees.total[0, :4].any()
    assert list(trees.child[0, :4]) == [-1, 1, -1, -1]


def test_a_node_that_does_not_fit_leaves_its_visits() -> None:
    """One node is kept: what was found by way of the other stays with the edge, which has no child any more."""
    trees = family()
    reroot(trees, 0, 2, 1, 1, 100)
    assert (trees.nodes[0], trees.edges[0]) == (1, 2)
    assert (trees.child[0, 1], trees.visits[0, 1]) == (-1, 2)
    trees = family()
    reroot(trees, 0, 0, 1, 8, 7)  # room for the edges of three nodes
    assert (trees.nodes[0], trees.edges[0]) == (3, 7)
    assert list(trees.child[0, :7]) == [1, 2, -1, -1, -1, -1, -1]


def test_a_position_is_found_by_its_words_where_it_was_expanded() -> None:
    """A ply more is another position; what is known of regions is no part of it."""
    trees, tables = family(), WHERE.tables
    wanted = trees.states[0, 2].copy()
    wanted[lay.REGIONS] = lay.SOME
    assert find(trees, 0, wanted, tables) == 2
    wanted[lay.PLIES] = 9
    assert find(trees, 0, wanted, tables) == -1
    trees.fan[0, 2] = 0
    assert find(trees, 0, trees.states[0, 2].copy(), tables) == -1


def test_halving_counts_the_visits_of_its_own_search_and_values_rest_on_all() -> None:
    """Of three edges with 2, 1 and 0 visits by hand, all kept: each is due its first visit, the best one by Q first.

    Logits log (0.5, 0.25, 0.25) plus 52 x (0.6, 0.3, 0.475): the first; after its visit the third, then the second.
    """
    trees = by_hand()
    trees.known[0, :3] = (2, 1, 0)
    scratch = np.zeros(WHERE.tables.max_legal, np.float32)
    order = []
    for _ in range(3):
        edge = root_edge(trees, 0, 0, VISIT_SCALE, VALUE_SCALE, scratch)
        order.append(edge)
        trees.visits[0, edge] += 1
        trees.total[0, edge] += 0.4
    assert order == [0, 2, 1]
    assert root_edge(trees, 0, 0, VISIT_SCALE, VALUE_SCALE, scratch) == -1
    policy, best = np.zeros((1, 3), np.float32), np.zeros(1, np.int32)
    trees.visits[0, 2] += 1  # the only one with two visits of this search
    trees.total[0, 2] += 0.4
    conclude(trees, np.zeros(1, np.int32), VISIT_SCALE, VALUE_SCALE, policy, best)
    assert best[0] == 2
    assert policy[0].argmax() == 0  # (1.2 + 0.4) / 3 = 0.53 against 0.35 and 0.4


def played_on(keep: str, root: str = "gumbel") -> tuple[list[np.ndarray], int, list[bool]]:
    """Search eight decisions of a game; returns what was found, the evaluations and which roots were known."""
    data, rows = decisions(WHERE, 40)
    state = data[rows[:1]].copy()
    search = GumbelSearch(Opinionated(WHERE), 1, 24, root=root, keep=keep)
    found, known = [], []
    for k in range(8):
        codes, counts = legal_of(state, np.zeros(1, np.int32), WHERE)
        while counts[0] == 1:
            apply(state[0], WHERE.tables, int(codes[0, 0]))
            codes, counts = legal_of(state, np.zeros(1, np.int32), WHERE)
        before = search.trees.nodes[0]
        known.append(bool(before) and find(search.trees, 0, state[0], WHERE.tables) > 0)
        one = search.run(state, np.zeros(1, np.int32), 24, np.random.default_rng(k))
        found.append(np.concatenate((one.codes, one.policy[0], one.value)))
        apply(state[0], WHERE.tables, int(one.codes[0]))
    return found, search.evaluations, known


@pytest.mark.parametrize("root", ["gumbel", "puct"])
def test_kept_evaluations_change_nothing_but_the_cost(root: str) -> None:
    """Over forced moves and whoever's turn it is: equal moves, policies and values, with fewer evaluations."""
    fresh, cost, _ = played_on("nothing", root)
    kept, less, known = played_on("values", root)
    assert all(np.array_equal(a, b) for a, b in zip(fresh, kept, strict=True))
    assert sum(known) >= 5
    assert less < cost - sum(known)


def test_kept_visits_add_to_the_budget() -> None:
    """Where the root was known, more than the budget stands behind what was found; what was found differs."""
    fresh, _, _ = played_on("nothing")
    kept, _, known = played_on("visits")
    assert np.array_equal(fresh[0], kept[0])
    assert sum(known) >= 5
    assert any(a.shape != b.shape or not np.array_equal(a, b) for a, b in zip(fresh[1:], kept[1:], strict=True))
    data, rows = decisions(WHERE, 40)
    search = GumbelSearch(Opinionated(WHERE), 1, 24, keep="visits")
    for total in (24, 48, 72):  # the same position again and again
        search.run(data, rows[:1], 24, None)
        assert search.trees.visits[0, : search.trees.fan[0, 0]].sum() == total


def test_a_position_that_no_tree_knows_is_searched_as_if_for_the_first_time() -> None:
    """Visits that the slot's earlier root was known by say nothing of it."""
    data, rows = decisions(WHERE, 40)
    trees = make_trees(WHERE, 2, 8)
    trees.known[:] = 3
    plant(trees, np.ones(1, np.int32), data, rows[:1], WHERE.tables)
    assert not trees.known[1].any()
    assert (trees.known[0] == 3).all()
    assert trees.counts[1] > 0


def test_a_tree_that_is_forgotten_is_not_known() -> None:
    """A new game in a slot starts from nothing; without simulations the kept visits do not touch the policy."""
    data, rows = decisions(WHERE, 40)
    one, slot, none = rows[:1], np.zeros(1, np.int32), np.zeros(1, np.int32)
    search = GumbelSearch(Opinionated(WHERE), 1, 24, keep="visits")
    fresh = search.run(data, one, 24, None)
    cost = search.evaluations
    search.begin(slot, data, one, none, None)
    assert list(search.step()) == [0]
    assert search.evaluations == cost
    codes, counts = legal_of(data, one, WHERE)
    logits, _ = Opinionated(WHERE).evaluate(data, one, codes, counts)
    prior = np.exp(logits[0, : counts[0]])
    assert np.allclose(search.take(slot).policy[0], prior / prior.sum(), atol=1e-5)
    search.forget(slot)
    again = search.run(data, one, 24, None)
    assert search.evaluations == 2 * cost
    assert np.array_equal(again.policy, fresh.policy)
    with pytest.raises(ValueError, match="25 simulations do not fit 24"):
        search.begin(slot, data, one, np.full(1, 25, np.int32), None)
    with pytest.raises(ValueError, match="2 games x 24 simulations do not fit 1 x 24"):
        search.run(data, rows[:2], 24, None)
    with pytest.raises(ValueError, match=", ".join(KEEP)):
        GumbelSearch(UniformEvaluator(WHERE), 1, 1, keep="everything")
