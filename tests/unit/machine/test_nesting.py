"""The depth of msgpack, measured by its bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workqueue.machine import nesting

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 64) - 1), st.floats(), st.text(max_size=300),
    st.binary(max_size=300), st.builds(msgspec.msgpack.Ext, st.integers(-128, 127), st.binary(max_size=20)),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=20),
    max_leaves=60,
)


def depth(value: Any) -> int:
    """Return how deep lists and dicts are nested."""
    if not isinstance(value, list | dict):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(VALUES, st.binary(max_size=5))
def test_the_end_and_the_depth_of_any_value(value: Any, behind: bytes) -> None:
    """Whatever follows; a value that is cut anywhere is not whole."""
    data = msgspec.msgpack.encode(value)
    assert nesting.skip(data + behind, 0) == (len(data), depth(value))
    for limit in (1, 2, 5):
        assert nesting.is_deep(data, limit) == (depth(value) > limit)
    for cut in range(0, len(data), 1 + len(data) // 20):
        with pytest.raises((IndexError, ValueError)):
            nesting.skip(data[:cut], 0)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 70_000])
def test_long_arrays_and_maps(count: int) -> None:
    """Every form of a header."""
    for value in ([0] * count, {k: [] for k in range(count)}):
        data = msgspec.msgpack.encode(value)
        assert nesting.skip(data, 0) == (len(data), depth(value))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 300), st.integers(0, 1 << 50), st.lists(VALUES, max_size=20))
def test_an_entry_is_split_into_its_requests(version: int, now_ms: int, requests: list[Any]) -> None:
    """Each as the bytes it was."""
    head, time, *raws = nesting.split(msgspec.msgpack.encode([version, now_ms, requests]))
    assert [msgspec.msgpack.decode(head), msgspec.msgpack.decode(time)] == [version, now_ms]
    assert raws == [msgspec.msgpack.encode(request) for request in requests]


@pytest.mark.parametrize("value", [[1, 2], [1, 2, 3], [1, 2, {}], {}, {1: 2, 3: 4}, [1, 2, [], 4], "xyz", None])
def test_what_is_no_entry_is_not_split(value: Any) -> None:
    """Three values, the last of which is an array; nothing behind."""
    for data in (msgspec.msgpack.encode(value), msgspec.msgpack.encode([1, 2, []]) + b"\xc0"):
        with pytest.raises((IndexError, ValueError)):
            list(nesting.split(data))
