"""What a leader believes of its followers, and what it sends them for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus import messages as m
from consensus import replication
from consensus.journal import Journal
from consensus.library import Voter, voter
from consensus.replication import MAX_BACKLOG_BYTES, Encoded, Followers
from consensus.storage import DiskStorage

TERM, COMMIT = 5, 14


class Links:
    """Links that remember what was sent; None is a link that is down."""

    def __init__(self) -> None:
        self.backlogs: dict[str, int | None] = dict.fromkeys("bcde", 0)
        self.sent: list[tuple[str, m.Message]] = []

    def send(self, node_id: str, data: bytes) -> bool:
        self.sent.append((node_id, m.decode(data)))
        return True

    def backlog(self, node_id: str) -> int | None:
        return self.backlogs[node_id]

    def indices(self, peer: str) -> list[list[int]]:
        sent = [message for to, message in self.sent if to == peer]
        return [[entry[1] for entry in message.entries] for message in sent if isinstance(message, m.Append)]


class Leader:
    """Followers b..e of a leader that has entries 11..18 behind a snapshot of 10."""

    def __init__(self, folder: Path) -> None:
        journal = Journal(DiskStorage(folder))
        journal.reset(10, 1)
        for index in range(11, 19):
            journal.append(b"x" * 100, index, TERM)
        self.links = Links()
        self.fed: list[str] = []
        self.following: dict[Voter, int] = {voter(p): 19 for p in "bcde"}
        self.match: dict[Voter, int] = {voter(p): 0 for p in "bcde"}
        self.followers = Followers("bcde", journal, self.links, self.fed.append, self.following, self.match)

    def send(self, peer: str) -> bool:
        return self.followers.send(peer, TERM, COMMIT, Encoded())


@pytest.fixture
def leader(tmp_path: Path) -> Leader:
    return Leader(tmp_path)


def test_a_follower_is_sent_what_it_lacks_in_messages_of_bounded_size(
    leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each begins where the last ended, and none is sent twice."""
    monkeypatch.setattr(replication, "MAX_MESSAGE_BYTES", 250)
    leader.following[voter("b")] = 13
    assert not leader.send("b")
    assert [i for indices in leader.links.indices("b") for i in indices] == [13, 14, 15, 16, 17, 18]
    assert len(leader.links.indices("b")) > 1
    assert leader.following[voter("b")] == 19
    first = leader.links.sent[0][1]
    assert isinstance(first, m.Append)
    assert (first.term, first.commit_index, first.prev_index, first.prev_term) == (TERM, COMMIT, 12, TERM)


def test_a_follower_that_has_all_is_sent_one_empty_message(leader: Leader) -> None:
    assert not leader.send("b")
    assert leader.links.indices("b") == [[]]


def test_a_slow_link_gets_one_message_and_a_closed_one_none(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be sent is sent soon; who has no link waits for one."""
    monkeypatch.setattr(replication, "MAX_MESSAGE_BYTES", 250)
    leader.following.update({voter("b"): 11, voter("c"): 11})
    leader.links.backlogs.update(b=MAX_BACKLOG_BYTES + 1, c=None)
    assert leader.send("b")
    assert len(leader.links.indices("b")) == 1
    assert not leader.send("c")
    assert leader.links.indices("c") == []


def test_what_several_followers_lack_is_encoded_once(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    leader.following.update({voter("b"): 15, voter("c"): 15})
    encoded, inner, made = Encoded(), m.encode, list[m.Message]()
    monkeypatch.setattr(m, "encode", lambda message: (made.append(message), inner(message))[1])
    for peer in "bc":
        leader.followers.send(peer, TERM, COMMIT, encoded)
    assert len(made) == 1
    assert leader.links.indices("b") == leader.links.indices("c") == [[15, 16, 17, 18]]


def test_a_follower_behind_the_log_is_fed_the_snapshot(leader: Leader) -> None:
    """Once a turn, and nothing of the log with it (defect 20)."""
    leader.following[voter("b")] = 10
    assert not leader.send("b")
    assert (leader.fed, leader.links.sent) == (["b"], [])
    leader.followers.has("b", 12)
    leader.send("b")
    assert leader.links.indices("b") == [[13, 14, 15, 16, 17, 18]]
    assert leader.match[voter("b")] == 0  # sent is not proven


def test_answers_never_take_back_what_is_proven(leader: Leader) -> None:
    """Late and repeated ones change nothing; a refusal sends back as far as proof goes."""
    node = voter("b")
    leader.followers.answered("b", m.Appended(TERM, 15, success=True))
    leader.followers.answered("b", m.Appended(TERM, 13, success=True))
    assert leader.match[node] == 14
    leader.followers.answered("b", m.Appended(TERM, 17, success=False))
    assert leader.following[node] == 17
    leader.followers.answered("b", m.Appended(TERM, 3, success=False))
    assert (leader.match[node], leader.following[node]) == (14, 15)
    leader.followers.answered("b", m.Appended(TERM, 18, success=False))
    assert leader.following[node] == 15  # never forward


def test_a_majority_holds_what_two_of_four_followers_hold(leader: Leader) -> None:
    """The leader itself is the third of five."""
    leader.match.update({voter("b"): 18, voter("c"): 15, voter("d"): 13})
    assert leader.followers.held_by_majority() == 15


def test_leadership_goes_to_the_linked_follower_that_has_most(leader: Leader) -> None:
    leader.match.update({voter("b"): 18, voter("c"): 15, voter("d"): 15})
    assert leader.followers.best() == "b"
    assert leader.followers.has_all("b")
    leader.links.backlogs["b"] = None
    assert leader.followers.best() == "d"
    assert not leader.followers.has_all("d")
