"""Search trees of many games in flat arrays, and the compiled steps over them.

One tree a game. A node is a position with a choice or an end; a move that is the only legal one is played at once and
costs no evaluation. Edges of a node lie side by side in the game's pool. Values are kept for every seat and never
negated: an edge adds up the chances of the seat that chose it, whoever moves next (players act several times in a row).
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.nets.encoder import Floats
from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Geometry, Tables
from engine.rules.kernels import apply, legal

Flags = NDArray[np.bool_]

NO_CHILD: Final = -1
IDLE: Final = -1  # dues of trees that take no part in a step, and of those whose root waits for its evaluation
PLANTED: Final = -2
NOWHERE: Final = -1  # node of a position that a tree does not know
LOGIT_SPAN: Final = -80.0  # below the best: further down a weight would vanish in single precision
NOISE_SHARE: Final = 0.25  # of the prior at a PUCT root (Silver et al. 2017)
FORCED_MAX: Final = 4096  # a run of forced moves is far shorter; a guard against an endless loop


class Trees(NamedTuple):
    """Arrays over [games, nodes] and [games, edges]."""

    states: Words  # [games, nodes, words]
    value: Floats  # [games, nodes, players] chances by seat, from the net or the result
    first: Words  # [games, nodes] first edge
    fan: Words  # [games, nodes] edges, 0 at an end or an unexpanded leaf
    parent: Words  # [games, nodes]
    via: Words  # [games, nodes] edge of the parent
    nodes: Words  # [games] nodes in use
    edges: Words  # [games] edges in use
    code: Words  # [games, edges]
    child: Words  # [games, edges]
    visits: Words  # [games, edges]
    total: Floats  # [games, edges] sum of chances of the chooser
    logit: Floats  # [games, edges]
    noise: Floats  # [games, width] of the root's edges: Gumbel's, or Dirichlet's for PUCT
    known: Words  # [games, width] visits of the root's edges that an earlier search made
    target: Words  # [games] node that the current simulation reached
    codes: Words  # [games, width] legal codes of it
    counts: Words  # [games] how many; 0 when it needs no evaluation


def edges_for(where: Geometry, nodes: int) -> int:
    """Return how many edges so many nodes may have.

    Most positions have far fewer moves than the widest: a full pool ends expansion, never the search.
    """
    width = where.tables.max_legal
    return min(nodes * width, width + nodes * max(96, width // 6))


def make_trees(where: Geometry, games: int, simulations: int, kept: int = 0) -> Trees:
    """Return arrays for `games` trees of `simulations` simulations on top of `kept` nodes of an earlier search."""
    g = where.tables
    nodes, width = simulations + 2 + kept, g.max_legal
    edges = edges_for(where, simulations + 2) + (edges_for(where, kept) if kept else 0)
    i32, f32 = np.int32, np.float32
    return Trees(
        states=np.zeros((games, nodes, g.state_words), i32),
        value=np.zeros((games, nodes, where.players), f32),
        first=np.zeros((games, nodes), i32),
        fan=np.zeros((games, nodes), i32),
        parent=np.full((games, nodes), NO_CHILD, i32),
        via=np.zeros((games, nodes), i32),
        nodes=np.zeros(games, i32),
        edges=np.zeros(games, i32),
        code=np.zeros((games, edges), i32),
        child=np.full((games, edges), NO_CHILD, i32),
        visits=np.zeros((games, edges), i32),
        total=np.zeros((games, edges), f32),
        logit=np.zeros((games, edges), f32),
        noise=np.zeros((games, width), f32),
        known=np.zeros((games, width), i32),
        target=np.zeros(games, i32),
        codes=np.zeros((games, width), i32),
        counts=np.zeros(games, i32),
    )


@kernel
def settle(s: Words, g: Tables, out: Words) -> int:
    """Play forced moves; return the number of legal codes left in `out`, 0 at the end of the game."""
    for _ in range(FORCED_MAX):
        if s[lay.PHASE] == lay.OVER:
            return 0
        n = legal(s, g, out)
        if n > 1:
            return n
        apply(s, g, int(out[0]))
    return 0


@kernel
def result(s: Words, value: Floats) -> None:
    """Write the result as chances: 1 for the winner."""
    for p in range(len(value)):
        value[p] = 1.0 if s[lay.WINNER] == p + 1 else 0.0


@kernel
def plant(trees: Trees, slots: Words, data: Words, rows: Words, g: Tables) -> None:
    """Make the rows of `data` the roots of trees `slots`; their legal codes are in `codes`."""
    for j in range(len(rows)):
        k = slots[j]
        trees.nodes[k] = 1
        trees.edges[k] = 0
        trees.target[k] = 0
        trees.parent[k, 0] = -1
        trees.fan[k, 0] = 0
        trees.known[k] = 0
        trees.states[k, 0] = data[rows[j]]
        trees.counts[k] = legal(trees.states[k, 0], g, trees.codes[k])


@kernel
def expand(trees: Trees, k: int, logits: Floats, value: Floats) -> None:
    """Give the node that the simulation reached its edges and its value."""
    node = trees.target[k]
    trees.value[k, node] = value
    start, n = trees.edges[k], trees.counts[k]
    if start + n > trees.code.shape[1]:
        return
    for j in range(n):
        e = start + j
        trees.code[k, e] = trees.codes[k, j]
        trees.logit[k, e] = logits[j]
        trees.child[k, e] = -1
        trees.visits[k, e] = 0
        trees.total[k, e] = 0.0
    trees.first[k, node] = start
    trees.fan[k, node] = n
    trees.edges[k] = start + n


@kernel
def mixed_value(trees: Trees, k: int, node: int) -> float:
    """Return what an edge without visits is worth to the player to move (Danihelka et al. 2022, appendix D).

    The node's own value, mixed with the policy-weighted mean of the visited edges.
    """
    first, n = trees.first[k, node], trees.fan[k, node]
    top = trees.logit[k, first]
    for j in range(1, n):
        top = max(top, trees.logit[k, first + j])
    visits = 0
    weight, weighted = 0.0, 0.0
    for j in range(n):
        e = first + j
        v = trees.visits[k, e]
        if v > 0:
            p = np.exp(max(trees.logit[k, e] - top, LOGIT_SPAN))
            weight += p
            weighted += p * trees.total[k, e] / v
            visits += v
    own = float(trees.value[k, node, trees.states[k, node, lay.PLAYER] - 1])
    if visits == 0:
        return own
    return float((own + visits * weighted / weight) / (1 + visits))


@kernel
def completed(trees: Trees, k: int, node: int, visit_scale: float, value_scale: float, out: Floats) -> None:
    """Write logit + sigma(completed Q) of each edge of a node (Danihelka et al. 2022, §4, eq. 11 and appendix D)."""
    first, n = trees.first[k, node], trees.fan[k, node]
    mixed = mixed_value(trees, k, node)
    most = 0
    for j in range(n):
        most = max(most, trees.visits[k, first + j])
    scale = (visit_scale + most) * value_scale
    for j in range(n):
        e = first + j
        v = trees.visits[k, e]
        q = trees.total[k, e] / v if v > 0 else mixed
        out[j] = trees.logit[k, e] + scale * q


@kernel
def softmax(x: Floats, n: int) -> None:
    """Turn the first n values into probabilities in place."""
    top = x[0]
    for j in range(1, n):
        top = max(top, x[j])
    total = 0.0
    for j in range(n):
        x[j] = np.exp(x[j] - top)
        total += x[j]
    for j in range(n):
        x[j] /= total


@kernel
def inner_edge(trees: Trees, k: int, node: int, visit_scale: float, value_scale: float, scratch: Floats) -> int:
    """Choose below the root: visits shall follow the improved policy (Danihelka et al. 2022, §5)."""
    n = trees.fan[k, node]
    completed(trees, k, node, visit_scale, value_scale, scratch)
    softmax(scratch, n)
    first = trees.first[k, node]
    visits = 0
    for j in range(n):
        visits += trees.visits[k, first + j]
    best, best_score = 0, -np.inf
    for j in range(n):
        score = scratch[j] - trees.visits[k, first + j] / (1 + visits)
        if score > best_score:
            best, best_score = j, score
    return int(first + best)


@kernel
def root_edge(trees: Trees, k: int, due: int, visit_scale: float, value_scale: float, scratch: Floats) -> int:
    """Choose at the root among the edges that sequential halving is at: those with `due` visits of this search."""
    n, first = trees.fan[k, 0], trees.first[k, 0]
    completed(trees, k, 0, visit_scale, value_scale, scratch)
    best, best_score = -1, -np.inf
    for j in range(n):
        if trees.visits[k, first + j] - trees.known[k, j] == due:
            score = scratch[j] + trees.noise[k, j]
            if score > best_score:
                best, best_score = j, score
    return int(first + best)


@kernel
def root_edge_puct(trees: Trees, k: int, exploration: float, scratch: Floats) -> int:
    """Choose at the root by PUCT (Silver et al. 2017): mean value plus a bonus for likely, seldom visited moves.

    An edge without visits counts as the mixed value.
    """
    n, first = trees.fan[k, 0], trees.first[k, 0]
    guess = mixed_value(trees, k, 0)
    visits, noise = 0, 0.0
    for j in range(n):
        scratch[j] = trees.logit[k, first + j]
        visits += trees.visits[k, first + j]
        noise += trees.noise[k, j]
    softmax(scratch, n)
    share = NOISE_SHARE if noise > 0.0 else 0.0
    best, best_score = 0, -np.inf
    for j in range(n):
        e = first + j
        v = trees.visits[k, e]
        prior = (1.0 - share) * scratch[j] + share * trees.noise[k, j]
        q = trees.total[k, e] / v if v > 0 else guess
        score = q + exploration * prior * np.sqrt(visits + 1.0) / (1 + v)
        if score > best_score:
            best, best_score = j, score
    return int(first + best)


@kernel
def descend(
    trees: Trees, k: int, edge: int, g: Tables, visit_scale: float, value_scale: float, scratch: Floats
) -> None:
    """Follow `edge` of the root to a new node; leaves its legal codes in `codes`, none where its value is known.

    That is at an end, and at a node that an earlier search looked at and this one did not.
    """
    node = 0
    while True:
        child = trees.child[k, edge]
        if child < 0:
            break
        node = child
        if trees.fan[k, node] == 0 or trees.visits[k, edge] == 0:
            trees.target[k] = node
            trees.counts[k] = 0
            return
        edge = inner_edge(trees, k, node, visit_scale, value_scale, scratch)
    new = trees.nodes[k]
    trees.nodes[k] = new + 1
    trees.child[k, edge] = new
    trees.parent[k, new] = node
    trees.via[k, new] = edge
    trees.fan[k, new] = 0
    s = trees.states[k, new]
    s[:] = trees.states[k, node]
    apply(s, g, int(trees.code[k, edge]))
    n = settle(s, g, trees.codes[k])
    if n == 0:
        result(s, trees.value[k, new])
    trees.target[k] = new
    trees.counts[k] = n


@kernel
def back_up(trees: Trees, k: int) -> None:
    """Add the value of the reached node to every edge above it."""
    node = trees.target[k]
    value = trees.value[k, node]
    while trees.parent[k, node] >= 0:
        above = trees.parent[k, node]
        edge = trees.via[k, node]
        trees.visits[k, edge] += 1
        trees.total[k, edge] += value[trees.states[k, above, lay.PLAYER] - 1]
        node = above


@kernel
def simulate(
    trees: Trees, schedule: Words, at: Words, active: Flags, g: Tables, visit_scale: float, value_scale: float,
    puct: float,
) -> None:  # fmt: skip
    """Take each active tree to the next position that needs an evaluation, or to the end of its search.

    `schedule` [games, steps] is what sequential halving asks for, IDLE or PLANTED, `at` [games] how far each has come.
    With `puct` above 0 that is its root's rule. Simulations that need no evaluation are carried out on the way.
    """
    scratch = np.empty(g.max_legal, np.float32)
    for k in range(len(active)):
        if not active[k]:
            trees.counts[k] = 0
            continue
        while schedule[k, at[k]] != PLANTED:
            due = schedule[k, at[k]]
            trees.counts[k] = 0
            if due == IDLE:
                break
            if puct > 0.0:
                edge = root_edge_puct(trees, k, puct, scratch)
            else:
                edge = root_edge(trees, k, due, visit_scale, value_scale, scratch)
            descend(trees, k, edge, g, visit_scale, value_scale, scratch)
            if trees.counts[k] > 0:
                break
            back_up(trees, k)
            at[k] += 1


@kernel
def absorb(trees: Trees, schedule: Words, at: Words, wanted: Words, logits: Floats, values: Floats) -> None:
    """Expand what was evaluated (trees `wanted` [n]) and back it up."""
    for j in range(len(wanted)):
        k = wanted[j]
        expand(trees, k, logits[j], values[j])
        if schedule[k, at[k]] != PLANTED:
            back_up(trees, k)
        at[k] += 1
        trees.counts[k] = 0


@kernel
def conclude(trees: Trees, slots: Words, visit_scale: float, value_scale: float, policy: Floats, best: Words) -> None:
    """Write the improved policy [slots, width] and the chosen edge [slots] of the roots of trees `slots`.

    The policy rests on all visits; chosen is among the edges that sequential halving let through to the end.
    """
    for i in range(len(slots)):
        k = slots[i]
        n, first = trees.fan[k, 0], trees.first[k, 0]
        completed(trees, k, 0, visit_scale, value_scale, policy[i])
        most = 0
        for j in range(n):
            most = max(most, trees.visits[k, first + j] - trees.known[k, j])
        top = -np.inf
        for j in range(n):
            score = policy[i, j] + trees.noise[k, j]
            if trees.visits[k, first + j] - trees.known[k, j] == most and score > top:
                top = score
                best[i] = j
        softmax(policy[i], n)


@kernel
def conclude_puct(trees: Trees, slots: Words, policy: Floats, best: Words) -> None:
    """Write the share of visits [slots, width], without any the prior, and the most visited edge [slots]."""
    for i in range(len(slots)):
        k = slots[i]
        n, first = trees.fan[k, 0], trees.first[k, 0]
        for j in range(n):
            policy[i, j] = trees.logit[k, first + j]
        softmax(policy[i], n)
        visits, top = 0, -1.0
        for j in range(n):
            v = trees.visits[k, first + j]
            visits += v
            if v + 0.5 * policy[i, j] > top:
                top = v + 0.5 * policy[i, j]
                best[i] = j
        if visits > 0:
            for j in range(n):
                policy[i, j] = trees.visits[k, first + j] / visits


@kernel
def root_values(trees: Trees, slots: Words, out: Floats) -> None:
    """Write the searched chance of the player to move at each root [slots]: the visit-weighted mean."""
    for i in range(len(slots)):
        k = slots[i]
        first = trees.first[k, 0]
        visits = 0
        total = float(trees.value[k, 0, trees.states[k, 0, lay.PLAYER] - 1])
        for e in range(first, first + trees.fan[k, 0]):
            visits += trees.visits[k, e]
            total += trees.total[k, e]
        out[i] = total / (1 + visits)


@kernel
def root_codes(trees: Trees, slots: Words, codes: Words, counts: Words) -> None:
    """Write the legal codes [slots, width] of the roots and how many there are."""
    for i in range(len(slots)):
        k = slots[i]
        counts[i] = trees.fan[k, 0]
        for j in range(counts[i]):
            codes[i, j] = trees.code[k, trees.first[k, 0] + j]
