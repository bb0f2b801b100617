"""Settings, halts, open kinds, tokens, alerts and the audit."""

from __future__ import annotations

import msgspec
import pytest

from config.loop import LoopSettings
from tests.unit.machine.driver import CONFIG, Driver, raw
from workqueue.duties.improve import settings_of
from workqueue.machine import commands as c
from workqueue.machine import outcomes as o
from workqueue.machine import settings as rules


def test_settings_are_set_by_key_and_version(driver: Driver) -> None:
    """Compare-and-set by version, -1 = whatever it is; what is not set keeps its default."""
    assert driver.do(c.PutSettings({"target_elo": raw(1800)}, 0)) == o.SettingsSet(1)
    stale = driver.do(c.PutSettings({"target_elo": raw(1900)}, 0))
    assert (stale.code, stale.current) == (o.Code.CONFLICT, "1")
    assert driver.do(c.PutSettings({"gate.elo1": raw(30)})) == o.SettingsSet(2)
    shown = driver.view("settings")
    assert (shown.version, shown.values) == (2, {"gate.elo1": 30, "target_elo": 1800})
    assert (shown.effective["gate.elo1"], shown.effective["gate.elo0"], shown.effective["target_elo"]) == (30, 0, 1800)
    assert driver.restored().view("settings") == shown


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"target_elo": raw("high")}, "Expected `int`"),
        ({"target_elo": raw(0)}, "target_elo"),
        ({"no_such": raw(1)}, "no_such"),
        ({"gate.no_such": raw(1)}, "no_such"),
        ({"target_elo.deeper": raw(1), "target_elo": raw(1800)}, "below a value"),
        ({"shares.selfplay": raw(70)}, "must be 100"),
        ({"evaluation_share_milli": raw(1001)}, "evaluation_share_milli"),
        ({"target_elo": raw(1800), "": raw(1)}, "unknown field"),
    ],
)
def test_wrong_settings_are_refused_whole(driver: Driver, values: dict[str, msgspec.Raw], words: str) -> None:
    """The sentence names the key, and nothing is set."""
    refused = driver.do(c.PutSettings(values))
    assert (refused.code, words in refused.message) == (o.Code.INVALID, True), refused.message
    assert driver.view("settings").version == 0
    assert driver.view("settings").effective["target_elo"] == 2000


def test_keys_that_hold_only_together(driver: Driver) -> None:
    """Shares are set in one command; one of them alone would not add up."""
    shares = {"shares.selfplay": raw(50), "shares.training": raw(40), "shares.tournament": raw(10)}
    assert driver.do(c.PutSettings(shares)) == o.SettingsSet(1)
    assert driver.do(c.PutSettings({"shares.tournament": raw(20)})).code is o.Code.INVALID
    assert driver.view("settings").effective["shares.tournament"] == 10


def test_removed_keys_of_a_log_mean_what_they_meant(driver: Driver) -> None:
    """They are stored, survive a snapshot, are refused where they once were, and nothing is decided by them."""
    plain = driver.view("settings").effective
    assert driver.do(c.PutSettings({"gate.alpha_milli": raw(10), "target_elo": raw(1800)})) == o.SettingsSet(1)
    wrong = driver.do(c.PutSettings({"gate.alpha_milli": raw(1001)}))
    assert (wrong.code, "`$.gate.alpha_milli`" in wrong.message) == (o.Code.INVALID, True)
    shown = driver.view("settings")
    assert shown.values == {"gate.alpha_milli": 10, "target_elo": 1800}
    assert shown.effective == plain | {"target_elo": 1800}
    assert driver.restored().view("settings") == shown
    assert settings_of(shown) == LoopSettings(target_elo=1800)


@pytest.mark.parametrize("scope", ["*", "plain", CONFIG])
def test_a_halt_stops_claims_and_nothing_else(driver: Driver, scope: str) -> None:
    """What runs goes on, what comes is queued; after the resume it is claimed."""
    driver.add("a", "b", config=CONFIG)
    lease = driver.lease()
    assert driver.do(c.Halt(scope, "look first"), actor="ada") == o.Changed((scope,))
    assert isinstance(driver.claim(), o.Empty)
    assert isinstance(driver.restored().claim(), o.Empty)
    assert driver.complete(lease).state == "completed"
    assert driver.view("explain", job="b").verdict == f"claims of {scope} are halted: look first"
    [halt] = driver.view("status").halts
    assert (halt.scope, halt.reason, halt.actor, halt.at_ms) == (scope, "look first", "ada", driver.now_ms)
    before = driver.machine.claimable_version
    assert driver.do(c.Resume(scope)) == o.Changed((scope,))
    assert driver.machine.claimable_version > before, "those who wait for jobs must look again"
    assert driver.lease().job == "b"
    assert driver.do(c.Resume(scope)).code is o.Code.NOT_FOUND


def test_a_halt_of_one_kind_leaves_the_others(driver: Driver) -> None:
    """And of one config too."""
    driver.kind("other")
    driver.worker("w2", kinds=("plain", "other"))
    driver.add("a", kind="plain", config=CONFIG)
    driver.add("b", kind="other", config="hex8_2p")
    driver.do(c.Halt("plain", "x"))
    assert driver.lease("w2").job == "b"
    driver.do(c.Resume("plain"))
    driver.do(c.Halt("hex8_2p", "x"))
    assert driver.lease("w2").job == "a"
    assert driver.do(c.Halt("", "x")).code is o.Code.INVALID


def test_open_kinds(driver: Driver) -> None:
    """Any name that is not built in; again = changed; its share is bounded, so that none can take all."""
    assert driver.do(c.RegisterKind("ocr", '{"type":"object"}', "{}", 50)) == o.Changed(("ocr",))
    assert driver.do(c.RegisterKind("ocr", "{}", "{}", 60)) == o.Changed(("ocr",))
    kinds = {kind.name: kind for kind in driver.view("kinds")}
    assert (kinds["ocr"].payload_schema, kinds["ocr"].share) == ("{}", 60)
    for wrong in (c.RegisterKind("train"), c.RegisterKind(""), c.RegisterKind("x", share=-1)):
        assert driver.do(wrong).code is o.Code.INVALID
    assert driver.do(c.RegisterKind("x", share=rules.SHARE_MAX + 1)).code is o.Code.INVALID
    refused = driver.add("a", kind="orc")
    assert (refused.code, "ocr" in refused.message) == (o.Code.UNKNOWN_KIND, True)


def test_tokens_are_kept_by_hash_and_revoked_once(driver: Driver) -> None:
    """A second token of the id is refused; the moment of the first revocation stays."""
    assert driver.do(c.PutToken("t1", "worker", "hash1", "rig", 5_000_000)) == o.Changed(("t1",))
    assert driver.do(c.PutToken("t1", "admin", "hash2")).code is o.Code.CONFLICT
    assert driver.do(c.PutToken("t2", "root", "hash2")).code is o.Code.INVALID
    revoked_ms = driver.now_ms
    driver.do(c.RevokeToken("t1", "lost"))
    driver.now_ms += 1000
    driver.do(c.RevokeToken("t1"))
    [token] = driver.view("tokens")
    assert (token.role, token.hash, token.label, token.revoked_ms) == ("worker", "hash1", "rig", revoked_ms)
    assert driver.do(c.RevokeToken("t2")).code is o.Code.NOT_FOUND
    assert all("hash1" not in entry.reason + entry.subject for entry in driver.view("audit"))


def test_alerts_rise_once_and_can_be_silenced(driver: Driver) -> None:
    """A repeated word changes nothing; a silence ends by itself."""
    assert driver.do(c.SetAlert("disk", "v1", True, "95 %")) == o.Changed(("disk/v1",))
    assert driver.do(c.SetAlert("disk", "v1", True, "96 %")) == o.Changed()
    [alert] = driver.view("alerts")
    assert (alert.detail, alert.since_ms) == ("95 %", driver.now_ms)
    driver.do(c.SilenceAlert("disk", driver.now_ms + 1000))
    assert driver.view("alerts") == ()
    driver.tick(1000)
    assert len(driver.view("alerts")) == 1
    assert driver.do(c.SetAlert("disk", "v1", False)) == o.Changed(("disk/v1",))
    assert driver.do(c.SetAlert("disk", "v1", False)) == o.Changed()


def test_changes_by_people_are_in_the_audit(driver: Driver) -> None:
    """Who, when, what, whom and why; newest first, and also as events."""
    driver.add("a", "b")
    driver.worker("w2")
    done = [
        (c.Hold(("a",), "wait"), "hold", "a", "wait"),
        (c.Unhold(("a",), "go"), "unhold", "a", "go"),
        (c.Cancel(("a",), "stop"), "cancel", "a", "stop"),
        (c.Retry(("a",), "again"), "retry", "a", "again"),
        (c.DrainWorker("w2", reason="repair"), "drain", "w2", "repair"),
        (c.DrainWorker("w2", on=False), "undrain", "w2", ""),
        (c.QuarantineWorker("w2", reason="hot"), "quarantine", "w2", "hot"),
        (c.QuarantineWorker("w2", on=False), "reinstate", "w2", ""),
        (c.PutSettings({"target_elo": raw(1)}, reason="low"), "set", "target_elo", "low"),
        (c.Halt("*", "night"), "halt", "*", "night"),
        (c.Resume("*", "day"), "resume", "*", "day"),
        (c.SilenceAlert("disk", 1, "known"), "silence", "disk", "known"),
        (c.Revoke(worker="w9", reason="liar"), "revoke", "w9", "liar"),
    ]
    before = len(driver.view("audit", limit=1000))
    for command, *_ in done:
        driver.now_ms += 1
        driver.do(command, actor="ada")
    entries = driver.view("audit", limit=1000)
    fresh = list(reversed(entries[: len(entries) - before]))
    assert [(e.actor, e.action, e.subject, e.reason) for e in fresh] == [("ada", *rest) for _, *rest in done]
    assert [entry.at_ms for entry in fresh] == [driver.now_ms - len(done) + 1 + k for k in range(len(done))]
    assert {f"audit.{what}" for _, what, *_ in done} <= {event.name for event in driver.machine.events_since(0)}


def test_refused_changes_are_not_in_the_audit(driver: Driver) -> None:
    """The audit says what was done."""
    before = driver.view("audit")
    for wrong in (c.Halt("", "x"), c.Resume("x"), c.Cancel(("nobody",)), c.BreakLock("none", "x"), c.RevokeToken("t")):
        assert isinstance(driver.do(wrong), o.Refused)
    assert driver.view("audit") == before


def test_events_are_numbered_without_gaps(driver: Driver) -> None:
    """Whoever follows by number misses nothing that is still kept."""
    driver.add("a")
    mark = driver.machine.last_seq
    driver.complete(driver.lease())
    fresh = driver.machine.events_since(mark)
    assert [event.name for event in fresh] == ["job.claimed", "job.completed"]
    assert [event.seq for event in fresh] == [mark + 1, mark + 2]
    assert driver.machine.events_since(driver.machine.last_seq) == []
    assert driver.restored().machine.events_since(mark) == fresh
