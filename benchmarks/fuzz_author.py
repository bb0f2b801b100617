"""Valid commands about few things, so that they meet: others' jobs, models that are gone, leases that were granted."""

from __future__ import annotations

import random
from typing import Any

import msgspec

from workqueue.machine import commands as c
from workqueue.machine.outcomes import Granted, Lease, Outcome
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

CONFIGS = ("square8_2p", "hex8_2p", "square8_3p")
JOBS = tuple(f"job{k}" for k in range(40))
WORKERS = ("w1", "w2", "w3", "w4")
BOOTS = (*["b1"] * 9, "b2")
SHAS = tuple(f"sha{k}" for k in range(12))
LOCKS = ("lock1", "lock2")
KINDS = ("plain", "selfplay", "train", "tournament", "gauntlet", "evaluate", "export", "verify", "benchmark")
IDS = (*JOBS[:5], *WORKERS, *SHAS[:3], *LOCKS, *KINDS, *CONFIGS, "champion/square8_2p", "")
REASONS = ("", "because")


def raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.msgpack.encode(value))


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
        return c.SilenceAlert("disk", self.rng.choice((1 << 40, 1 << 48, (1 << 48) + 1)))


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
    c.RegisterModel,
    c.SetAlias,
    c.Resume,
)
