"""Hostile log entries: whatever is in the log, every voter answers it, alike, and its state stays whole.

    python -m benchmarks.fuzz --entries 1000000       two replicas, about ten minutes
    python -m benchmarks.fuzz --entries 20000 --seed 7

Entries are random bytes, mutated entries, msgpack of wrong shapes, fields of wrong types, huge numbers, deep nesting
and valid commands with crossed ids. The same entries go to two processes with different hash seeds; the second is
replaced by a restored snapshot of itself ten times and stands on a deeper stack. No exception, equal digests and
snapshots, invariants at each restore and at the end. Writes benchmarks/results/fuzz.json.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from workqueue.machine import commands as c
from workqueue.machine import invariants
from workqueue.machine.machine import Machine
from workqueue.machine.outcomes import Completed, Granted, Lease, Outcome, Refused
from workqueue.machine.payloads import entrants_of
from workqueue.schema import KINDS as TYPES
from workqueue.schema import (
    EvaluatePayload,
    GameResult,
    GauntletPayload,
    MatchesResult,
    PlayerSpec,
    SelfplayPayload,
    SelfplayResult,
    ShardRef,
    TournamentPayload,
    TrainPayload,
    TrainResult,
)

ROOT = Path(__file__).parents[1]
RESTORES = 10
CONFIGS = ("square8_2p", "hex8_2p", "square8_3p")
encode = msgspec.msgpack.Encoder().encode

# ---- values


HUGE = (1 << 40, 1 << 48, (1 << 48) + 1, 1 << 53, (1 << 63) - 1, (1 << 64) - 1, -(1 << 63), -1, 0)
ODD: tuple[Any, ...] = (
    *HUGE, "", "x" * 300, "job1", "w1", "sha1", "*", None, [], {}, 1.5, True, float("nan"), float("inf"), b"\xff", b"",
    {"type": "Tick"}, [[]], {"": {}}, "\x00", "😀", msgspec.Raw(b"\xa2\xff\xfe"), msgspec.Raw(b"\xd6\x05\0\0\0\0"),
)  # fmt: skip


def nested(rng: random.Random) -> msgspec.Raw:
    """A value whose arrays or maps are nested, up to far deeper than any stack."""
    depth = rng.choice((10, 60, 63, 64, 65, 70, 150, 199, 201, 400, 800, 950, 3_000))
    opener, end = rng.choice(((b"\x91", b"\xc0"), (b"\x81\xa1k", b"\xc0"), (b"\x92\xc0", b"\xc3"), (b"\x91", b"")))
    return msgspec.Raw(opener * depth + end)


def anything(rng: random.Random, depth: int = 3) -> Any:
    """Return a random value."""
    match rng.randrange(8 if depth else 5):
        case 0:
            return rng.choice(ODD)
        case 1:
            return rng.getrandbits(rng.randrange(1, 65))
        case 2:
            return rng.choice(IDS)
        case 3:
            return rng.randbytes(rng.randrange(12))
        case 4:
            return rng.random()
        case 5 | 6:
            return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice((*IDS, "type", "jobs", "id")): anything(rng, depth - 1) for _ in range(rng.randrange(4))}


# ---- valid commands with crossed ids

JOBS = tuple(f"job{k}" for k in range(40))
WORKERS = ("w1", "w2", "w3", "w4")
BOOTS = (*["b1"] * 9, "b2")
SHAS = tuple(f"sha{k}" for k in range(12))
LOCKS = ("lock1", "lock2")
KINDS = ("plain", "selfplay", "train", "tournament", "gauntlet", "evaluate", "export", "verify", "benchmark")
IDS = (*JOBS[:5], *WORKERS, *SHAS[:3], *LOCKS, *KINDS, *CONFIGS, "champion/square8_2p", "")
REASONS = ("", "because")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(encode(value))


class Author:
    """Writes valid commands about few things, so that they meet; now and then with a field that is odd."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.leases: list[Lease] = []  # granted lately

    def learn(self, answer: Outcome) -> None:
        """Remember who runs what, so that some of what is said is true."""
        if isinstance(answer, Granted):
            self.leases = [*self.leases, *answer.leases][-20:]

    def command(self) -> c.Command:
        rng = self.rng
        kind = rng.choice(FREQUENT) if rng.random() < 0.7 else rng.choice(ALL)
        made = getattr(self, f"_{kind.__name__}")()
        assert isinstance(made, c.Command)
        return made

    def _some(self, of: tuple[str, ...], most: int = 3) -> tuple[str, ...]:
        return tuple(self.rng.choice(of) for _ in range(self.rng.randint(1, most)))

    def _player(self) -> PlayerSpec:
        return self.rng.choice((PlayerSpec("random"), PlayerSpec("heuristic"), PlayerSpec("gumbel", self._sha(), 8)))

    def _sha(self) -> str:
        return self.rng.choice(SHAS)

    def _payload(self, kind: str, config: str) -> object:
        board, _, players = config.partition("_")
        seats = int(players[0])
        match kind:
            case "selfplay":
                return SelfplayPayload(board, seats, self._player(), 10, 1)
            case "train":
                return TrainPayload(board, seats, self._some(SHAS), 10, 1, parent=self.rng.choice(("", *SHAS)))
            case "tournament":
                return TournamentPayload(board, seats, (self._player(), self._player()), 4, 1)
            case "gauntlet":
                return GauntletPayload(board, seats, self._player(), (PlayerSpec("random"),), 4, 1)
            case "evaluate":
                return EvaluatePayload(board, seats, self._player(), PlayerSpec("heuristic"), 4, 1)
            case _:
                return {}

    def _Enqueue(self) -> c.Command:  # noqa: N802  named for the commands
        return c.Enqueue(tuple(self._spec() for _ in range(self.rng.randint(1, 3))))

    def _spec(self) -> c.JobSpec:
        rng = self.rng
        kind = rng.choice(KINDS) if rng.random() < 0.6 else "plain"
        config = rng.choice(CONFIGS)
        return c.JobSpec(
            rng.choice(JOBS), kind, raw(self._payload(kind, config)), config, rng.randint(0, 100),
            c.Requirements(rng.choice((0, 1, 1, 2, 8)), rng.choice((0, 100)), rng.choice((0, 0, 0, 500))),
            c.RetryPolicy(rng.randint(1, 3), 100, 1_000), rng.choice(("", "", "u")),
            self._some(JOBS, 2) if rng.random() < 0.2 else (),
            (c.Condition("shard", config, rng.randint(0, 3)),) if rng.random() < 0.1 else (),
            rng.choice(("", "", "g")), rng.randint(1, 3), rng.choice((0, 0, 2_000_000)), rng.choice((0, 0, 20_000)),
            rng.choice((1_000, 30_000)), rng.choice((0, 0, 5_000)), rng.random() < 0.1,
        )  # fmt: skip

    def _Claim(self) -> c.Command:  # noqa: N802
        rng = self.rng
        free = c.Free(rng.randint(0, 8), 8_000, 8_000, (8_000,), (0,))
        return c.Claim(rng.choice(WORKERS), rng.choice(BOOTS), free, rng.randint(0, 4))

    def _lease(self) -> tuple[str, int]:
        if self.leases and self.rng.random() < 0.6:
            lease = self.rng.choice(self.leases)
            return lease.job, lease.attempt
        return self.rng.choice(JOBS), self.rng.choice((1, 1, 1, 2, 2, 3, 4, 5))

    def _Renew(self) -> c.Command:  # noqa: N802
        leases = tuple(c.LeaseRenewal(*self._lease(), raw({"n": 1}), raw([2])) for _ in range(self.rng.randint(0, 4)))
        return c.Renew(self.rng.choice(WORKERS), self.rng.choice(BOOTS), leases)

    def _Complete(self) -> c.Command:  # noqa: N802
        each = tuple(self._completion() for _ in range(self.rng.randint(1, 6)))
        return c.Complete(self.rng.choice(WORKERS), each)

    def _completion(self) -> c.Completion:
        sha = self._sha()
        artifacts = (c.ArtifactRef(sha, 10, "bytes"),)
        if not self.leases or self.rng.random() < 0.3:
            return c.Completion(*self._lease(), raw(self._any_result(sha)), artifacts)
        lease = self.rng.choice(self.leases)
        return c.Completion(lease.job, lease.attempt, raw(self._fitting_result(lease, sha)), artifacts)

    def _fitting_result(self, lease: Lease, sha: str) -> object:
        """Return what the payload of a lease may lead to."""
        payload: Any = msgspec.msgpack.decode(lease.payload, type=TYPES[lease.kind][0]) if lease.kind in TYPES else None
        match payload:
            case SelfplayPayload():
                return SelfplayResult(10, 9, 9, 1, (ShardRef(sha, 10, 10, 9),), (5, 5), payload.player.key, "")
            case TrainPayload():
                return TrainResult(sha, 10, 10, 10, 1, 1, 1, 1, 1, raw({}))
            case TournamentPayload() | GauntletPayload() | EvaluatePayload():
                known = sorted(entrants_of(payload))
                seats = tuple(self.rng.choice(known) for _ in range(payload.players))
                ranks = (1, *(self.rng.randint(1, 2) for _ in seats[1:]))
                games = {f"g{self.rng.randrange(500)}" for _ in range(3)}
                return MatchesResult(tuple(GameResult(g, seats, ranks, 9, "x", "o", sha) for g in sorted(games)), 1, "")
            case _:
                return {}

    def _any_result(self, sha: str) -> object:
        rng = self.rng
        player = self._player()
        keys = (player.key, rng.choice(("none:random:-", "none:heuristic:-")))
        game = GameResult(f"g{rng.randrange(500)}", keys, rng.choice(((1, 2), (2, 1), (1, 1))), 9, "x", "o", sha)
        return rng.choice((
            {}, SelfplayResult(10, 9, 9, 1, (ShardRef(sha, 10, 10, 9),), (5, 5), player.key, ""),
            TrainResult(sha, 10, 10, 10, 1, 1, 1, 1, 1, raw({})), MatchesResult((game,), 1, ""),
        ))  # fmt: skip

    def _Fail(self) -> c.Command:  # noqa: N802
        fault = self.rng.choice(list(c.Fault))
        return c.Fail(self.rng.choice(WORKERS), *self._lease(), "cause", fault, "message", "tail", raw([1]))

    def _Release(self) -> c.Command:  # noqa: N802
        return c.Release(self.rng.choice(WORKERS), *self._lease(), self.rng.choice(REASONS))

    def _about_jobs(self, kind: Any) -> c.Command:
        made = kind(self._some(JOBS, 2), self.rng.choice(REASONS))
        assert isinstance(made, c.Command)
        return made

    def _Cancel(self) -> c.Command:  # noqa: N802
        return self._about_jobs(c.Cancel)

    def _Retry(self) -> c.Command:  # noqa: N802
        return self._about_jobs(c.Retry)

    def _Hold(self) -> c.Command:  # noqa: N802
        return self._about_jobs(c.Hold)

    def _Unhold(self) -> c.Command:  # noqa: N802
        return self._about_jobs(c.Unhold)

    def _Archive(self) -> c.Command:  # noqa: N802
        return c.Archive(self._some(JOBS, 8))

    def _Tick(self) -> c.Command:  # noqa: N802
        return c.Tick()

    def _BeginTerm(self) -> c.Command:  # noqa: N802
        return c.BeginTerm(self.rng.randrange(1_000))

    def _EndBoot(self) -> c.Command:  # noqa: N802
        return c.EndBoot(self.rng.choice(WORKERS), self.rng.choice(BOOTS), "dead")

    def _RegisterWorker(self) -> c.Command:  # noqa: N802
        has = c.Capability(8, 8_000, 8_000, (("gpu", 8_000),), ("l",), KINDS, "b", "", {"games_s": 5})
        return c.RegisterWorker(self.rng.choice(WORKERS), self.rng.choice(BOOTS), has, "address")

    def _DeregisterWorker(self) -> c.Command:  # noqa: N802
        return c.DeregisterWorker(self.rng.choice(WORKERS), self.rng.choice(BOOTS))

    def _DrainWorker(self) -> c.Command:  # noqa: N802
        return c.DrainWorker(self.rng.choice(WORKERS), self.rng.random() < 0.3)

    def _QuarantineWorker(self) -> c.Command:  # noqa: N802
        return c.QuarantineWorker(self.rng.choice(WORKERS), self.rng.random() < 0.3)

    def _ForgetWorkers(self) -> c.Command:  # noqa: N802
        return c.ForgetWorkers(tuple(self.rng.sample(WORKERS, 2)), self.rng.random() < 0.5)

    def _Acquire(self) -> c.Command:  # noqa: N802
        return c.Acquire(
            self.rng.choice(LOCKS), self.rng.choice(WORKERS), self.rng.randint(0, 9_000), self.rng.randint(0, 3)
        )

    def _RenewLock(self) -> c.Command:  # noqa: N802
        return c.RenewLock(self.rng.choice(LOCKS), self.rng.randrange(2_000), self.rng.randint(0, 9_000))

    def _Unlock(self) -> c.Command:  # noqa: N802
        return c.Unlock(self.rng.choice(LOCKS), self.rng.randrange(2_000))

    def _BreakLock(self) -> c.Command:  # noqa: N802
        return c.BreakLock(self.rng.choice(LOCKS), "because")

    def _RegisterArtifact(self) -> c.Command:  # noqa: N802
        ref = c.ArtifactRef(self._sha(), self.rng.randrange(100), self.rng.choice(("shard", "weights", "games")))
        return c.RegisterArtifact(ref, self._some(("v1", "v2", "store")), self.rng.choice(("", *CONFIGS)))

    def _DropHolder(self) -> c.Command:  # noqa: N802
        return c.DropHolder(self._sha(), self.rng.choice(("v1", "v2")))

    def _CollectArtifacts(self) -> c.Command:  # noqa: N802
        return c.CollectArtifacts(self._some(SHAS))

    def _Revoke(self) -> c.Command:  # noqa: N802
        since_ms = self.rng.choice((0, 1 << 41))
        return self.rng.choice((c.Revoke(self.rng.choice(WORKERS), "", since_ms), c.Revoke("", self._sha(), since_ms)))

    def _evidence(self) -> c.Evidence:
        rule = self.rng.choice(("manual", "sprt", "bootstrap", "rollback"))
        games = tuple(f"{self.rng.choice(CONFIGS)}/g{self.rng.randrange(500)}" for _ in range(self.rng.randrange(3)))
        return c.Evidence(rule, self._sha(), games, 3, 1, 1, 1, 3_000, 2_944, {"random": (900, 9, 850)}, "note")

    def _RegisterModel(self) -> c.Command:  # noqa: N802
        return c.RegisterModel(self._sha(), self.rng.choice(CONFIGS), raw({"a": 1}), self._some(SHAS))

    def _alias(self) -> str:
        return f"{self.rng.choice(('champion', 'candidate'))}/{self.rng.choice(CONFIGS)}"

    def _SetAlias(self) -> c.Command:  # noqa: N802
        return c.SetAlias(self._alias(), self._sha(), self.rng.choice(("", *SHAS)), self._evidence())

    def _Rollback(self) -> c.Command:  # noqa: N802
        return c.Rollback(self._alias(), self._sha(), self._evidence(), "worse")

    def _RejectModel(self) -> c.Command:  # noqa: N802
        return c.RejectModel(self._sha(), self._evidence(), "weak")

    def _PutSettings(self) -> c.Command:  # noqa: N802
        value: object = self.rng.choice((1, 200, 1_000, "x", None, {}))
        name = self.rng.choice(("target_elo", "evaluation_share_milli", "gate.elo1", "no_such", "gate", "configs"))
        return c.PutSettings({name: raw(value)}, self.rng.choice((-1, -1, 3)))

    def _Halt(self) -> c.Command:  # noqa: N802
        return c.Halt(self.rng.choice((*KINDS, *CONFIGS, "nothing", "*")), "because")

    def _Resume(self) -> c.Command:  # noqa: N802
        return c.Resume(self.rng.choice(("*", "*", *KINDS, *CONFIGS)))

    def _RegisterKind(self) -> c.Command:  # noqa: N802
        return c.RegisterKind(self.rng.choice(("plain", "other", "train")), share=self.rng.randint(-1, 1_001))

    def _PutToken(self) -> c.Command:  # noqa: N802
        return c.PutToken(f"t{self.rng.randrange(20)}", self.rng.choice(("read", "root")), "hash")

    def _RevokeToken(self) -> c.Command:  # noqa: N802
        return c.RevokeToken(f"t{self.rng.randrange(20)}")

    def _SetAlert(self) -> c.Command:  # noqa: N802
        return c.SetAlert("disk", self.rng.choice(WORKERS), self.rng.random() < 0.5)

    def _SilenceAlert(self) -> c.Command:  # noqa: N802
        return c.SilenceAlert("disk", self.rng.choice(HUGE[:3]))


ALL: tuple[type[c.Command], ...] = c.AnyCommand.__args__
FREQUENT = (
    c.Enqueue,
    c.Claim,
    c.Claim,
    c.Renew,
    c.Complete,
    c.Complete,
    c.Fail,
    c.Tick,
    c.Archive,
    c.RegisterWorker,
    c.Resume,
)


# ---- entries


class Hostile:
    """A stream of hostile entries, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.author = Author(self.rng)
        self.now_ms = 1_700_000_000_000
        self.number = 0
        self.kinds: Counter[str] = Counter()
        self.makers = (
            self.crossed, self.crossed, self.crossed, self.crossed, self.crossed, self.noise, self.mutated,
            self.wrong_shape, self.wrong_types, self.huge, self.deep,
        )  # fmt: skip

    def __iter__(self) -> Hostile:
        return self

    def __next__(self) -> bytes:
        maker = self.rng.choice(self.makers)
        self.kinds[maker.__name__] += 1
        return maker()

    def _key(self) -> tuple[str, int]:
        """Mostly a new request; sometimes one that was there before, with another command."""
        self.number += 1
        old = self.rng.random() < 0.02
        return "c", self.rng.randrange(self.number) if old else self.number

    def _entry(self, *requests: object) -> bytes:
        self.now_ms += self.rng.choice((0, 1, 50, 700, 4_000))
        now_ms = self.now_ms if self.rng.random() < 0.98 else self.rng.choice(HUGE)
        return encode([1, now_ms, requests])

    def crossed(self) -> bytes:
        """Valid commands that name what is another's, or gone, or not there yet."""
        return self._entry(*([*self._key(), "a", self.author.command()] for _ in range(self.rng.randint(1, 3))))

    def noise(self) -> bytes:
        """Random bytes."""
        return self.rng.randbytes(self.rng.randrange(200))

    def mutated(self) -> bytes:
        """A valid entry with bytes changed, removed or added."""
        data, rng = bytearray(self.crossed()), self.rng
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data) + 1)
            match rng.randrange(3):
                case 0 if at < len(data):
                    data[at] = rng.randrange(256)
                case 1 if at < len(data):
                    del data[at : at + rng.randint(1, 5)]
                case _:
                    data[at:at] = rng.randbytes(rng.randint(1, 5))
        return bytes(data)

    def wrong_shape(self) -> bytes:
        """Msgpack that is no entry, no request or no command."""
        odd = anything(self.rng)
        good = [*self._key(), "a", self.author.command()]
        shapes: tuple[Any, ...] = (odd, [1, 2, odd], [1, self.now_ms, [odd, good]], [odd, self.now_ms, [good]])
        more: tuple[Any, ...] = ([1, odd, [good]], [1, self.now_ms, [[*good[:3], odd]]], [1, 1, [[*good, odd]], odd])
        return encode(self.rng.choice((*shapes, *more)))

    def wrong_types(self) -> bytes:
        """A command whose fields are of any type, present or not."""
        kind = self.rng.choice(ALL)
        fields: dict[str, Any] = {"type": kind.__name__}
        known = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        for name in (*kind.__struct_fields__, *(("novel",) if self.rng.random() < 0.1 else ())):
            if self.rng.random() < 0.9:
                fields[name] = known[name] if name in known and self.rng.random() < 0.5 else anything(self.rng)
        return self._entry([*self._key(), "a", fields])

    def huge(self) -> bytes:
        """A valid command in which a number is beyond what is sensible."""
        value = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        self._replace(value, lambda old: isinstance(old, int), lambda: self.rng.choice(HUGE))
        return self._entry([*self._key(), "a", value])

    def deep(self) -> bytes:
        """A valid command in which something is nested deep."""
        value = msgspec.to_builtins(self.author.command(), builtin_types=(bytes, msgspec.Raw))
        self._replace(value, lambda old: not isinstance(old, dict | list), lambda: nested(self.rng))
        good = [*self._key(), "a", self.author.command()]
        return self._entry([*self._key(), "a", value], good)

    def _replace(self, value: Any, wanted: Any, make: Any) -> None:
        """Replace one leaf or several of a tree."""
        places: list[tuple[Any, Any]] = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for name, old in places:
            if isinstance(old, tuple):
                value[name] = old = list(old)
            if isinstance(old, dict | list):
                self._replace(old, wanted, make)
            elif name != "type" and wanted(old) and self.rng.random() < 0.4:
                value[name] = make()


# ---- running


def replica(entries: int, seed: int, *, restores: int = 0, frames: int = 0) -> dict[str, Any]:
    """Apply hostile entries to a machine; raises when one is not answered or the state is not whole."""
    if frames:
        return (lambda: replica(entries, seed, restores=restores, frames=frames - 1))()
    machine, stream = Machine(), Hostile(seed)
    outcomes: Counter[str] = Counter()
    spent = 0.0
    for k in range(1, entries + 1):
        entry = next(stream)
        began = time.perf_counter()
        answers = machine.apply(entry)
        spent += time.perf_counter() - began
        for answer in answers:
            outcomes[said(answer)] += 1
            stream.author.learn(answer)
        if not k % max(1, entries // RESTORES):
            look_at(machine)
            if restores:
                chunks = list(machine.snapshot())
                machine = Machine()
                machine.restore(chunks)
    look_at(machine)
    picture = hashlib.sha256(b"".join(machine.snapshot())).hexdigest()
    return {
        "digest": machine.digest().hex(),
        "snapshot_sha256": picture,
        "apply_s": round(spent, 2),
        "entries_s": round(entries / spent),
        "entries_by_sort": dict(sorted(stream.kinds.items())),
        "outcomes": dict(sorted(outcomes.items())),
        "jobs": len(machine.ledger.jobs),
        "matches": len(machine.ledger.matches),
    }


def said(answer: Outcome) -> str:
    """Name an outcome, with the code of a refusal."""
    if isinstance(answer, Refused):
        return f"Refused.{answer.code.value}"
    if isinstance(answer, Completed):
        accepted = sum(not isinstance(each, Refused) for each in answer.settled)
        return f"Completed.{'some' if accepted else 'none'}"
    return type(answer).__name__


def look_at(machine: Machine) -> None:
    """Assert the invariants, and that every view can be shown."""
    invariants.check(machine.ledger)
    for name in ("status", "loop", "queue", "workers", "locks", "models", "artifacts", "settings", "audit", "elo"):
        msgspec.json.encode(machine.query(name, {}))
    for job in list(machine.ledger.jobs):
        msgspec.json.encode([machine.query("job", {"job": job}), machine.query("explain", {"job": job})])


def compared(entries: int, seed: int) -> dict[str, Any]:
    """Run two replicas in processes of their own and compare them."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.fuzz", "--entries", str(entries), "--seed", str(seed), "--replica"]
    runs = [
        subprocess.Popen(
            [*command, str(k)],
            env={**os.environ, "PYTHONHASHSEED": str(100 + k)}, cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )
        for k in range(2)
    ]  # fmt: skip
    said = [json.loads(run.communicate()[0] or "null") for run in runs]
    if any(run.returncode for run in runs):
        raise SystemExit("a replica stopped; see its exception above")
    first, second = said
    equal = all(first[name] == second[name] for name in ("digest", "snapshot_sha256", "outcomes"))
    return {
        "entries": entries,
        "seed": seed,
        "replicas_equal": equal,
        "seconds": round(time.perf_counter() - began, 1),
        "restores_of_the_second": RESTORES,
        "first": first,
        "second": {name: second[name] for name in ("digest", "snapshot_sha256", "apply_s", "entries_s")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--replica", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/fuzz.json")
    options = parser.parse_args()
    if options.replica >= 0:
        frames = 120 * options.replica
        json.dump(replica(options.entries, options.seed, restores=options.replica, frames=frames), sys.stdout)
        return
    sha = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    head = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git": sha.stdout.strip(),
        "load_before": [round(each, 2) for each in os.getloadavg()],
    }
    found = {**head, **compared(options.entries, options.seed)}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    if not found["replicas_equal"]:
        raise SystemExit("the replicas differ")


if __name__ == "__main__":
    main()
