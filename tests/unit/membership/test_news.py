"""The queue of news."""

from __future__ import annotations

from membership.messages import Accusation, Alive, Verdict, entry_bytes
from membership.news import News


def alive(node_id: str, incarnation: int = 1) -> Alive:
    return Alive(node_id, "boot", incarnation, "worker", "host:1", {})


def test_an_item_rides_a_bounded_number_of_times() -> None:
    """Lambda times log10(n + 1) transmissions, then it is forgotten."""
    news = News(retransmit_mult=4)
    news.add(alive("a"))
    taken = [news.take(1000, 9, []) for _ in range(6)]
    assert [len(entries) for entries in taken] == [1, 1, 1, 1, 0, 0]


def test_a_newer_statement_replaces_an_older_one_about_the_same_member() -> None:
    """What was true before is not spread any longer."""
    news = News(4)
    news.add(alive("a", 1))
    news.add(Accusation("a", 1, Verdict.DEAD, "b"))
    assert news.take(1000, 9, []) == [Accusation("a", 1, Verdict.DEAD, "b")]


def test_the_least_sent_news_goes_first_and_within_the_budget() -> None:
    """Fresh news is not kept back by old news."""
    news = News(4)
    size_bytes = entry_bytes(alive("a"))
    news.add(alive("a"))
    news.take(1000, 99, [])
    news.add(alive("b"))
    assert news.take(size_bytes, 99, []) == [alive("b")]
    assert news.take(size_bytes - 1, 99, []) == []


def test_what_must_go_first_takes_the_place_of_queued_news_about_the_same_member() -> None:
    """A suspect hears its accusation, once."""
    news = News(4)
    news.add(alive("a"))
    accusation = Accusation("a", 1, Verdict.SUSPECT, "me")
    assert news.take(1000, 9, [accusation]) == [accusation]


def test_no_message_carries_more_entries_than_a_receiver_accepts() -> None:
    """64 entries are the most that the wire type allows."""
    news = News(4)
    for index in range(200):
        news.add(Accusation(f"n{index}", 1, Verdict.DEAD, "b"))
    assert len(news.take(1 << 20, 9, [])) == 64
