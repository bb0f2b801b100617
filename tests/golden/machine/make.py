"""Make the golden files of the state machine for a release: a log, digests on the way, and the snapshot at its end.

    python tests/golden/machine/make.py            files of the version in pyproject.toml
    python tests/golden/machine/make.py 0.3.0      files of that version

Every later version must read them (`test_machine.py` here). Files that exist are never written again: a release that
is out stays as it was.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.fuzz_author import Author  # noqa: E402
from tests.unit.machine.driver import CONFIG, Driver, raw  # noqa: E402
from workqueue.machine import commands as c  # noqa: E402
from workqueue.machine import state  # noqa: E402
from workqueue.machine.machine import Machine  # noqa: E402
from workqueue.machine.outcomes import Outcome, Refused  # noqa: E402

STEP = 25  # entries between digests
VARIED = 500  # entries of the author
BY_HAND = c.Evidence("manual", note="golden")


class Recorder(Machine):
    """A machine that keeps its log."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[bytes] = []
        self.digests: dict[int, str] = {}
        self.done: set[str] = set()  # commands that were not refused

    def apply(self, entry: bytes) -> list[Outcome]:
        outcomes = super().apply(entry)
        self.log.append(entry)
        if not len(self.log) % STEP:
            self.digests[len(self.log)] = self.digest().hex()
        return outcomes


def record() -> Recorder:
    """Return a machine that has seen every command succeed, and much that was refused."""
    recorder = Recorder()
    driver = Driver(recorder)
    driver.now_ms = 1_700_000_000_000
    send = driver.do

    def do(command: Any, **key: Any) -> Any:
        outcome = send(command, **key)
        if not isinstance(outcome, Refused):
            recorder.done.add(type(command).__name__)
        return outcome

    driver.do = do  # type: ignore[method-assign]
    _story(driver)
    _varied(driver)
    _unreadable(driver)
    _ending(driver)
    missing = sorted({kind.__name__ for kind in c.AnyCommand.__args__} - recorder.done)
    assert not missing, f"the log lacks {missing}"
    return recorder


def _story(driver: Driver) -> None:
    driver.kind()
    driver.worker()
    driver.worker("w2")
    driver.selfplay_done(driver.selfplay("s1"), "shard1")
    driver.train("t1", "model1")
    driver.train("t2", "model2", parent="model1")
    driver.tournament("m1", [("game1", (1, 2)), ("game2", (2, 1))], model="model2")
    champion = f"champion/{CONFIG}"
    driver.do(c.SetAlias(champion, "model1", "", BY_HAND))
    driver.do(c.SetAlias(champion, "model2", "model1", BY_HAND))
    driver.do(c.Rollback(champion, "model2", BY_HAND, "weaker"))
    driver.do(c.RejectModel("model2", BY_HAND, "weaker"))
    lock = driver.do(c.Acquire("lock", "w1", 60_000, 2))
    driver.do(c.RenewLock("lock", lock.token, 90_000))
    driver.do(c.Acquire("lock", "w2", 60_000, 2))
    driver.do(c.Unlock("lock", lock.token))
    driver.do(c.BreakLock("lock", "golden"))
    driver.do(c.RevokeToken("t", "golden") if driver.do(c.PutToken("t", "read", "hash")) else c.Tick())
    driver.do(c.PutSettings({"target_elo": raw(1800)}))
    driver.do(c.Revoke(worker="w1", since_ms=driver.now_ms + 1))
    driver.add("a", "b", "c", lease_ms=5_000, retry=c.RetryPolicy(2, 100, 1_000))
    driver.add("d", depends_on=("a",), wait_ms_max=90_000)
    driver.do(c.Hold(("b",)))
    driver.do(c.Unhold(("b",)))
    first = driver.lease()
    driver.do(c.Renew("w1", "b1", (c.LeaseRenewal(first.job, first.attempt, raw({"n": 1}), raw([1])),)))
    driver.do(c.Fail("w1", first.job, first.attempt, "engine.crashed", message="golden"))
    second = driver.lease()
    driver.do(c.Release("w1", second.job, second.attempt, "drain", raw([2])))
    driver.tick(4_000)
    driver.do(c.Cancel(("c",)))
    driver.do(c.Retry(("c",)))
    driver.do(c.Archive(("s1",)))
    driver.store("model3", kind="weights")
    driver.do(c.RegisterModel("model3", CONFIG, raw({"by": "hand"}), ("model1",)))
    driver.do(c.DropHolder("model3", "v2"))
    driver.do(c.SetAlert("disk", "v1", active=True))
    driver.do(c.Halt("train", "golden"))
    driver.do(c.Resume("train"))


def _varied(driver: Driver) -> None:
    author = Author(random.Random(1))
    for _ in range(VARIED):
        driver.now_ms += author.rng.choice((0, 40, 900, 5_000))
        author.learn(driver.do(author.command(), actor=author.rng.choice(("ada", "duty/expire"))))


def _unreadable(driver: Driver) -> None:
    tick = ["golden", 1, "ada", {"type": "Tick"}]
    deep = msgspec.Raw(b"\x91" * 100 + b"\xc0")
    odd: tuple[Any, ...] = (["golden", 2, "ada", {"type": "Later"}], ["golden", 3], None, deep)
    for request in odd:
        driver.machine.apply(msgspec.msgpack.encode([1, driver.now_ms, [request, tick]]))
    driver.machine.apply(msgspec.msgpack.encode([99, driver.now_ms, [tick]]))
    driver.machine.apply(b"\xc1")


def _ending(driver: Driver) -> None:
    """Leave one of everything in the snapshot."""
    driver.do(c.Resume("*"))
    driver.worker("w9", devices=(("gpu", 8_000),))
    driver.add("kept", config=CONFIG, group="kept", requires=c.Requirements(cpus=2), total_ms_max=60_000)
    driver.add("after kept", depends_on=("kept",), conditions=(c.Condition("shard", CONFIG, 1),))
    driver.add("held", unique="kept")
    driver.do(c.Hold(("held",), "golden"))
    driver.claim("w9", limit=9, cpus=2)
    driver.worker("gone")
    driver.do(c.DeregisterWorker("gone", "b1"))
    driver.do(c.ForgetWorkers(("gone",), at_once=True))
    driver.do(c.Acquire("kept", "w9", 60_000, 2))
    driver.do(c.Halt("verify", "golden"))
    driver.do(c.SilenceAlert("disk", driver.now_ms + 60_000, "golden"))


def write(release: str) -> list[Path]:
    """Write the files of a release; raises FileExistsError when there are any."""
    names = [f"{release}.{end}" for end in ("log.gz", "snapshot", "json")]
    there = [name for name in names if (HERE / name).exists()]
    if there:
        raise FileExistsError(f"{', '.join(there)} exist and are never written again; choose the name of a new release")
    recorder = record()
    about = {
        "release": release,
        "format": c.VERSION,
        "state": state.VERSION,
        "entries": len(recorder.log),
        "digests": {**recorder.digests, len(recorder.log): recorder.digest().hex()},
    }
    log = gzip.compress(msgspec.msgpack.encode(recorder.log), mtime=0)
    contents = (log, b"".join(recorder.snapshot()), json.dumps(about, indent=1).encode() + b"\n")
    for name, data in zip(names, contents, strict=True):
        (HERE / name).write_bytes(data)
    return [HERE / name for name in names]


if __name__ == "__main__":
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    try:
        for written in write(sys.argv[1] if len(sys.argv) > 1 else version):
            print(f"{written.relative_to(ROOT)}  {written.stat().st_size:,} bytes")
    except FileExistsError as error:
        raise SystemExit(str(error)) from error
