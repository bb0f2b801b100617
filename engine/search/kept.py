"""What the next search keeps of a tree: the part below the position that was reached.

Where that position stands is found by its words alone, so it does not matter who moved in between, or how often.
Nodes lie in the order of their making, parents before children, and so do their edges: both move to the front in place.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.rules import layout as lay
from engine.rules.cells import Words
from engine.rules.compiled import kernel
from engine.rules.geometry import Tables
from engine.search.tree import NOWHERE, Flags, Trees

NOTHING: Final = "nothing"
VALUES: Final = "values"
VISITS: Final = "visits"
KEEP: Final = (NOTHING, VALUES, VISITS)


@kernel
def same(a: Words, b: Words, g: Tables) -> bool:
    """Whether two states are one position at one ply."""
    end, k = int(g.table[lay.T_ROWS]), 0
    while k < end and (a[k] == b[k] or k == lay.REGIONS):
        k += 1
    return k == end


@kernel
def find(trees: Trees, k: int, s: Words, g: Tables) -> int:
    """Return the expanded node of tree `k` that is the position `s`, NOWHERE if there is none."""
    for node in range(trees.nodes[k]):
        if trees.fan[k, node] > 0 and same(trees.states[k, node], s, g):
            return node
    return NOWHERE


@kernel
def move_edges(trees: Trees, k: int, start: int, to: int, n: int, visits: int) -> None:
    """Move the edges of a node to the front without their children; `visits` is 1, or 0 to drop their visits."""
    for j in range(n):
        trees.code[k, to + j] = trees.code[k, start + j]
        trees.logit[k, to + j] = trees.logit[k, start + j]
        trees.visits[k, to + j] = visits * trees.visits[k, start + j]
        trees.total[k, to + j] = visits * trees.total[k, start + j]
        trees.child[k, to + j] = -1


@kernel
def reroot(trees: Trees, k: int, root: int, visits: int, nodes_max: int, edges_max: int) -> None:
    """Make `root` the root of tree `k` and drop what is not below it, or does not fit.

    Edges keep what their visits found even where the node at their end was dropped; it is then made anew. With `visits`
    at 0 they forget it.
    """
    place = np.full(trees.nodes[k], NOWHERE, np.int32)  # of each old node
    shift = np.zeros(trees.nodes[k], np.int32)  # of its edges
    nodes, edges = 0, 0
    for old in range(root, trees.nodes[k]):
        above, n, start = trees.parent[k, old], trees.fan[k, old], trees.first[k, old]
        if old != root and (above < root or place[above] == NOWHERE):
            continue
        if old != root and (nodes == nodes_max or edges + n > edges_max):
            continue
        via = 0
        if old == root:
            trees.parent[k, nodes] = -1
        else:
            via = trees.via[k, old] + shift[above]
            trees.parent[k, nodes] = place[above]
            trees.child[k, via] = nodes
        trees.via[k, nodes] = via
        place[old], shift[old] = nodes, edges - start
        if nodes != old:
            trees.states[k, nodes] = trees.states[k, old]
            trees.value[k, nodes] = trees.value[k, old]
        move_edges(trees, k, start, edges, n, visits)
        trees.first[k, nodes], trees.fan[k, nodes] = edges, n
        nodes += 1
        edges += n
    trees.nodes[k], trees.edges[k] = nodes, edges


@kernel
def replant(
    trees: Trees, slots: Words, data: Words, rows: Words, visits: Words, nodes_max: int, edges_max: int, g: Tables,
    found: Flags,
) -> None:  # fmt: skip
    """Keep in trees `slots` what they know of the positions `data[rows]`; `found` [n] tells which know them at all.

    `visits` [n] is 1 where earlier visits count as knowledge, 0 where only the evaluations are kept.
    """
    for j in range(len(slots)):
        k = slots[j]
        root = find(trees, k, data[rows[j]], g)
        found[j] = root != NOWHERE
        if not found[j]:
            continue
        reroot(trees, k, root, visits[j], nodes_max, edges_max)
        trees.target[k] = 0
        trees.counts[k] = 0
        for e in range(trees.fan[k, 0]):
            trees.known[k, e] = trees.visits[k, e]
