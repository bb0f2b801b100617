"""Heartbeats at a voter's front: noted, passed on to the leader, and judged by the leader alone."""

from __future__ import annotations

from typing import Any

import pytest

from membership.api import State
from membership.presence import Presence
from workqueue.liveness import Beats
from workqueue.stream import StreamError


class Front:
    """A core that leads or follows, and peers that can be reached or not; what is passed on is noted."""

    def __init__(self, *, leads: bool = False, leader: str = "v2", reached: bool = True) -> None:
        self.leads, self.leader, self.reached = leads, leader, reached
        self.passed: list[tuple[Any, ...]] = []

    state = property(lambda self: self)

    def calls(self, voter: str) -> Front | None:
        return self if self.reached and voter == "v2" else None

    def notify(self, op: str, body: tuple[Any, ...]) -> None:
        assert op == "beat"
        self.passed.append(body)


def beats(front: Front) -> tuple[Beats, Presence]:
    presence = Presence(ttl_ms=4000)
    return Beats(presence, front, front), presence  # type: ignore[arg-type]


def test_a_follower_passes_heartbeats_on_and_the_leader_keeps_them() -> None:
    """Once: what came from a voter goes no further."""
    front = Front()
    at_follower, presence = beats(front)
    at_follower.beat("w", "b", 1, {})
    at_follower.beat("x", "b", 1, {}, forwarded=True)
    assert front.passed == [("w", "b", 1, {})]
    assert {member.id for member in presence.members()} == {"w", "x"}
    leading = Front(leads=True)
    beats(leading)[0].beat("w", "b", 1, {})
    assert leading.passed == []


@pytest.mark.parametrize("front", [Front(reached=False), Front(leader="")])
def test_a_voter_that_cannot_reach_the_leader_says_so(front: Front) -> None:
    """A heartbeat that goes nowhere is no heartbeat: the worker does better elsewhere."""
    with pytest.raises(StreamError) as caught:
        beats(front)[0].beat("w", "b", 1, {})
    assert caught.value.code == "unavailable"


@pytest.mark.parametrize(("worker", "boot"), [("", "b"), ("w", ""), ("w" * 201, "b"), ("w", "b" * 201)])
def test_names_are_neither_empty_nor_endless(worker: str, boot: str) -> None:
    """What beats is remembered, so it must be small; the sentence says how small."""
    here, presence = beats(Front(leads=True))
    with pytest.raises(StreamError, match="1 to 200 characters") as caught:
        here.beat(worker, boot, 1, {})
    assert (caught.value.code, presence.members()) == ("invalid", [])


def test_silence_is_a_verdict_on_the_leader_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower forgets who is silent; one that begins to lead gives everyone a whole time to live."""
    now_ms = 10_000
    monkeypatch.setattr("workqueue.liveness.monotonic_ms", lambda: now_ms)
    front = Front()
    here, presence = beats(front)
    here.beat("gone", "b", 1, {})
    here.look(now_ms + 4000)
    assert presence.get("gone") is None
    now_ms = 20_000
    here.beat("w", "b", 1, {})
    front.leads = True
    here.expect("unheard", "b")
    here.look(23_999)
    here.look(27_998)
    assert {member.id: member.state for member in presence.members()} == {"w": State.SUSPECT, "unheard": State.SUSPECT}
    here.look(27_999)
    assert {member.state for member in presence.members()} == {State.DEAD}
