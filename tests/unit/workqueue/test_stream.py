"""Frames: cut anywhere they come out whole; what is no frame is refused."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workqueue.stream import Calls, FrameError, Splitter, StreamError, decode_as, pack

frames = st.lists(
    st.tuples(
        st.integers(0, 2**31), st.text(max_size=10), st.one_of(st.none(), st.binary(max_size=50), st.text(max_size=9))
    )
)


@given(sent=frames, cuts=st.lists(st.integers(0, 400)))
def test_frames_survive_any_cut(sent: list[tuple[int, str, object]], cuts: list[int]) -> None:
    """However the bytes arrive, the same frames come out in order."""
    data = b"".join(pack(*frame) for frame in sent)
    splitter, got, at = Splitter(), [], 0
    for cut in [*sorted(cut for cut in cuts if cut < len(data)), len(data)]:
        got += splitter.feed(data[at:cut])
        at = cut
    assert [(number, op, msgspec.msgpack.decode(body)) for number, op, body in got] == sent


@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused_or_wait(data: bytes) -> None:
    """Nothing but FrameError comes out of foreign bytes."""
    try:
        Splitter(bytes_max=1000).feed(data)
    except FrameError:
        return


def test_a_frame_that_is_too_large_is_refused_by_its_head() -> None:
    """The size is judged before the bytes are gathered."""
    with pytest.raises(FrameError, match="larger than"):
        Splitter(bytes_max=100).feed((101).to_bytes(4, "big"))


async def test_calls_written_together_travel_together() -> None:
    """Frames of one turn of the loop are one write."""
    writes: list[bytes] = []
    calls = Calls(writes.append)
    waiting = [asyncio.create_task(calls.call("ping", number)) for number in range(5)]
    await asyncio.sleep(0.01)
    assert len(writes) == 1
    for frame in Splitter().feed(writes[0]):
        calls.answer((frame[0], "ok", frame[2]))
    assert [msgspec.msgpack.decode(body) for body in await asyncio.gather(*waiting)] == [0, 1, 2, 3, 4]


async def test_the_end_of_a_connection_ends_its_calls() -> None:
    """Calls in flight and later ones end with `closed`, each once."""
    calls = Calls(lambda _: None)
    waiting = asyncio.create_task(calls.call("ping"))
    await asyncio.sleep(0)
    calls.close("gone")
    for call in (waiting, calls.call("ping")):
        with pytest.raises(StreamError, match="gone") as caught:
            await call
        assert caught.value.code == "closed"
    assert calls.in_flight == 0


async def test_an_error_keeps_its_code_and_pause() -> None:
    """What the peer says of an error reaches the caller."""
    writes: list[bytes] = []
    calls = Calls(writes.append)
    waiting = asyncio.create_task(calls.call("ping"))
    await asyncio.sleep(0.01)
    body = msgspec.Raw(msgspec.msgpack.encode(StreamError("limit", "slow down", 70).body))
    calls.answer((1, "error", body))
    with pytest.raises(StreamError, match="slow down") as caught:
        await waiting
    assert (caught.value.code, caught.value.retry_ms) == ("limit", 70)


def test_a_wrong_body_is_malformed() -> None:
    """A body of another shape is an error with a code, not a crash."""
    with pytest.raises(StreamError) as caught:
        decode_as(int, msgspec.Raw(b"\xa1x"))
    assert caught.value.code == "malformed"


def test_a_frame_nested_too_deeply_ends_its_own_connection_only() -> None:
    """At the door it is an error; between front and core it is left out, and what follows is read."""
    deep = msgspec.Raw(b"\x91" * 100_000 + b"\xc0")
    data = pack(1, "propose", deep) + pack(2, "ping", None)
    with pytest.raises(FrameError, match="not \\[id, op, body\\]"):
        Splitter().feed(data)
    assert [frame[0] for frame in Splitter(forgiving=True).feed(data)] == [2]
    with pytest.raises(StreamError, match="not understood"):
        decode_as(list[int], deep)
