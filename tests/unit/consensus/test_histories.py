"""The checker of histories: it accepts what an order explains and rejects what none does."""

from __future__ import annotations

import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.histories import Op, Undecided, chain, linearizable, step, violations


def op(kind: str, argument: Any, result: Any, called: float, returned: float = math.inf, key: str = "k") -> Op:
    return Op("c", key, kind, argument, result, called, returned)


ONE, TWO = chain((0, 0), "a"), chain(chain((0, 0), "a"), "b")
GOOD = {
    "one after the other": [op("put", 1, None, 0, 1), op("get", None, 1, 2, 3)],
    "a read beside a write sees either": [op("put", 1, None, 0, 9), op("get", None, None, 1, 2)],
    "and may see it early": [op("put", 1, None, 0, 9), op("get", None, 1, 1, 2)],
    "two writes beside each other, in the order of the reads": [
        op("put", 1, None, 0, 9), op("put", 2, None, 0, 9), op("get", None, 2, 1, 2), op("get", None, 1, 3, 4),
    ],
    "an unanswered write took effect late": [
        op("put", 1, None, 0), op("put", 2, None, 1, 2), op("get", None, 2, 3, 4), op("get", None, 1, 5, 6),
    ],
    "an unanswered write never took effect": [op("put", 1, None, 0), op("get", None, None, 5, 6)],
    "an unanswered read means nothing": [op("put", 1, None, 0, 1), op("get", None, 7, 2)],
    "swaps": [op("put", 1, None, 0, 1), op("swap", (1, 2), True, 2, 5), op("swap", (1, 3), False, 2, 5)],
    "counts": [op("add", 2, 5, 0, 9), op("add", 3, 3, 0, 9), op("get", None, 5, 10, 11)],
    "appends": [op("append", "b", TWO, 0, 9), op("append", "a", ONE, 0, 9)],
}  # fmt: skip
BAD = {
    "a lost write": [op("put", 1, None, 0, 1), op("get", None, None, 2, 3)],
    "a stale read": [op("put", 1, None, 0, 1), op("put", 2, None, 2, 3), op("get", None, 1, 4, 5)],
    "a value that was never written": [op("put", 1, None, 0, 1), op("get", None, 2, 2, 3)],
    "reads that go back": [op("put", 1, None, 0, 9), op("get", None, 1, 1, 2), op("get", None, None, 3, 4)],
    "a read before the call": [op("get", None, 1, 0, 1), op("put", 1, None, 2, 3)],
    "both swaps won": [op("put", 1, None, 0, 1), op("swap", (1, 2), True, 2, 5), op("swap", (1, 3), True, 2, 5)],
    "counted twice": [op("add", 1, 1, 0, 1), op("get", None, 2, 2, 3)],
    "an unanswered count twice": [op("add", 1, None, 0), op("get", None, 2, 5, 6)],
    "an append lost": [op("append", "a", ONE, 0, 1), op("append", "b", chain((0, 0), "b"), 2, 3)],
    "appends in two orders": [
        op("append", "a", ONE, 0, 9), op("append", "b", TWO, 0, 9),
        op("get", None, chain(chain((0, 0), "b"), "a"), 10, 11),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_what_an_order_explains_is_accepted(name: str) -> None:
    """Hand-made histories that a single copy could have made."""
    assert linearizable(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_no_order_explains_is_rejected(name: str) -> None:
    """Hand-made histories that a single copy could not have made."""
    assert not linearizable(BAD[name])


def test_keys_are_judged_apart() -> None:
    """Only the key that is wrong is named."""
    good = [o._replace(key="good") for o in GOOD["swaps"]]
    bad = [o._replace(key="bad") for o in BAD["counted twice"]]
    assert violations([*good, *bad]) == ["bad"]


def explained(ops: list[Op]) -> bool:
    """The definition itself: try every order of every choice of unanswered operations."""
    sure = [o for o in ops if o.answered]
    open_ = [o for o in ops if not o.answered and o.kind != "get"]
    for count in range(len(open_) + 1):
        for chosen in itertools.combinations(open_, count):
            for order in itertools.permutations([*sure, *chosen]):
                if any(b.returned < a.called for a, b in itertools.combinations(order, 2)):
                    continue
                state: Any = None
                for each in order:
                    fits, state = step(state, each)
                    if not fits:
                        break
                else:
                    return True
    return False


@st.composite
def small(draw: st.DrawFn) -> list[Op]:
    """Up to five operations on a register, whose answers need not make sense."""
    ops = []
    for _ in range(draw(st.integers(1, 5))):
        called = draw(st.integers(0, 8)) * 2.0
        returned = draw(st.one_of(st.just(math.inf), st.integers(0, 4).map(lambda d, c=called: c + 1 + 2 * d)))
        kind = draw(st.sampled_from(["put", "get", "add"]))
        argument = None if kind == "get" else draw(st.integers(1, 2))
        result = None if kind == "put" else draw(st.sampled_from([None, 1, 2, 3] if kind == "get" else [1, 2, 3]))
        ops.append(op(kind, argument, result, called, returned))
    return ops


@settings(deadline=None)
@given(small())
def test_the_search_agrees_with_the_definition(ops: list[Op]) -> None:
    """On every small history the fast answer is the slow one."""
    assert linearizable(ops) is explained(ops)


def simulated(seed: int, count: int = 300, clients: int = 6) -> list[Op]:
    """A history of a single copy: each operation takes effect at a moment between its call and its answer."""
    chance = random.Random(seed)
    free = [0.0] * clients
    planned = []
    for number in range(count):
        client = chance.randrange(clients)
        called = free[client] + chance.random()
        effect = called + chance.random()
        free[client] = effect + chance.random()
        answered = chance.random() > 0.03
        planned.append((effect, called, free[client] if answered else math.inf, f"v{number}"))
    history, state = [], None
    for effect, called, returned, value in sorted(planned):
        del effect
        asked = op(chance.choice(["append", "get"]), value, None, called, returned)
        if returned == math.inf and chance.random() < 0.5:
            history.append(asked)
            continue
        _, after = step(state, asked._replace(returned=math.inf))
        history.append(asked._replace(result=state if asked.kind == "get" else after))
        state = after
    return history


@pytest.mark.parametrize("seed", range(5))
def test_long_histories_are_decided(seed: int) -> None:
    """Hundreds of overlapping operations with some unanswered; one answer changed is one too many."""
    history = simulated(seed)
    assert linearizable(history)
    at = next(i for i, o in enumerate(history) if i > 200 and o.answered and o.kind == "append")
    history[at] = history[at]._replace(result=chain(history[at].result, "x"))
    assert not linearizable(history)


def test_a_search_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undecided is said, never guessed."""
    monkeypatch.setattr("benchmarks.histories.MAX_CONFIGURATIONS", 1000)
    ops = [op("add", 1, None, 0) for _ in range(30)] + [op("get", None, 99, 5, 6)]
    with pytest.raises(Undecided):
        linearizable(ops)
