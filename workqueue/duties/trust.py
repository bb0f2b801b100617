"""Which workers can be believed: what is checked again, and what a mismatch means.

Pure. Three kinds of checks, none of which trusts the one that is checked:
replays - a share of all results, and the first of every worker, are replayed by the rules on another worker: games that
were invented do not replay to the results that were claimed; of self-play some games are also played again from their
seeds: games by another net, budget or engine than asked for have other moves;
canaries - the same few games from the same seed are played by every worker now and then, hidden among the ladder's: all
must report the same;
residuals - a worker whose matches between two players end quite unlike those of all others is out of line even when
its games follow the rules.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from workqueue.machine.views import Match
from workqueue.schema import MatchesResult, SelfplayPayload, SelfplayResult, VerifyResult
from workqueue.sequential import points_of

Z_MAX = 6.0  # standard errors; beyond by chance once in a thousand million looks
RESIDUAL_GAMES_MIN = 40  # of a worker between the same two players, and of the others
# Of decisions made again: on another device 97 % come out the same, of another net or half the simulations 60 to 76 %
# (docs/loop.md). Less than this by four standard errors is not rounding.
AGREED = 0.93
AGREED_Z = 4.0
OTHERS_MIN = 2  # workers who must have played the same pair, or nobody can tell who is wrong


class Done(msgspec.Struct, frozen=True):
    """A completed job that can be checked: who did it, and what it claims."""

    id: str
    kind: str
    config: str
    worker: str
    ended_ms: int
    result: SelfplayResult | MatchesResult
    asked: SelfplayPayload | None = None
    sole: bool = True  # nobody else had a part in it: earlier attempts were its own

    @property
    def lot(self) -> str:
        """Return what chance is drawn from."""
        return lot_of(self.id, self.ended_ms)


class Claim(msgspec.Struct, frozen=True):
    """What a worker says of the games in one artifact."""

    artifact: str
    shard: bool
    games: int
    outcomes: tuple[tuple[int, ...], ...] = ()  # by index; empty where only the number is claimed
    plies: tuple[int, ...] = ()


class Opinion(msgspec.Struct, frozen=True):
    """A replay's result, and by whom."""

    worker: str
    agrees: bool
    detail: str = ""


class Guilt(msgspec.Struct, frozen=True):
    """A worker that cannot be believed, and why."""

    worker: str
    reason: str


def lot_of(job: str, ended_ms: int) -> str:
    """Return what chance about a result is drawn from: its maker could not know it while it worked."""
    return f"{job}/{ended_ms}"


def chance_milli(name: str) -> int:
    """Return a number below 1000 that follows from a name, alike on every leader."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % 1000


def claim_of(done: Done) -> Claim:
    """Return what is to be replayed of a result: one shard by lot, or the records of its matches."""
    result = done.result
    if isinstance(result, SelfplayResult):
        shard = result.shards[chance_milli(done.lot) % len(result.shards)]
        return Claim(shard.sha256, shard=True, games=shard.games)
    record = result.games[0].record
    games = sorted((game for game in result.games if game.record == record), key=lambda game: game.index)
    return Claim(
        record,
        shard=False,
        games=len(games),
        outcomes=tuple(game.ranks for game in games),
        plies=tuple(game.plies for game in games),
    )


def lots_of(done: Done, games: int) -> tuple[int, ...]:
    """Return numbers that draw the games that are played again."""
    return tuple(int.from_bytes(hashlib.sha256(f"{done.lot}/{k}".encode()).digest()[:4], "big") for k in range(games))


def agreed_min(decisions: int) -> float:
    """Return how many of so many decisions an honest worker's games have in common with their repetition."""
    return AGREED * decisions - AGREED_Z * math.sqrt(AGREED * (1 - AGREED) * decisions)


def opinion(worker: str, claim: Claim, found: VerifyResult) -> Opinion:
    """Compare what a replay found with what was claimed."""
    if not found.ok:
        return Opinion(worker, agrees=False, detail=found.detail)
    if found.games != claim.games:
        return Opinion(worker, agrees=False, detail=f"{found.games} games are there, {claim.games} were claimed")
    for k, (was, said) in enumerate(zip(found.outcomes, claim.outcomes, strict=False)):
        if was != said:
            return Opinion(worker, agrees=False, detail=f"game {k} ended with ranks {was}, {said} was claimed")
    if claim.plies and found.plies != claim.plies:
        return Opinion(worker, agrees=False, detail="the games have other lengths than claimed")
    if found.agreed < agreed_min(found.decisions):
        detail = (
            f"only {found.agreed} of {found.decisions} decisions are those of the player and seed that were asked for"
        )
        return Opinion(worker, agrees=False, detail=detail)
    return Opinion(worker, agrees=True)


def second_needed(opinions: Sequence[Opinion], maker: str, live: Iterable[str]) -> bool:
    """Whether another worker must be heard: the first disagrees, and there is a third one."""
    if len(opinions) != 1 or opinions[0].agrees:
        return False
    return bool(set(live) - {maker, opinions[0].worker})


def judged(done: Done, opinions: Sequence[Opinion], live: Iterable[str]) -> Guilt | None:
    """Return who is wrong about a result: the majority of maker and replays is right.

    With nobody else to ask, a single replay decides, as it only follows the rules.
    """
    if not opinions or opinions[0].agrees or second_needed(opinions, done.worker, live):
        return None
    first = opinions[0]
    if len(opinions) > 1 and opinions[1].agrees:
        return Guilt(first.worker, f"its replay of {done.id} found what another one cannot confirm: {first.detail}")
    return Guilt(done.worker, f"the games of {done.id} are not what it claims: {first.detail}")


# ---- canaries


def answer_of(result: MatchesResult) -> str:
    """Return a digest of everything that the same seed decides."""
    games = sorted((game.id, game.seats, game.ranks, game.plies, game.reason) for game in result.games)
    return hashlib.sha256(msgspec.msgpack.encode(games)).hexdigest()


def odd_ones(answers: Mapping[str, str]) -> list[Guilt]:
    """Return the workers whose canary differs from what more than half of them, and at least two, report."""
    by_answer: dict[str, list[str]] = defaultdict(list)
    for worker, answer in sorted(answers.items()):
        by_answer[answer].append(worker)
    right = max(by_answer.values(), key=len, default=[])
    if len(right) < 2 or 2 * len(right) <= len(answers):
        return []
    why = f"its canary games differ from those of {len(right)} other workers"
    return [Guilt(worker, why) for worker in sorted(answers) if worker not in right]


def disagree(answers: Mapping[str, str]) -> bool:
    """Whether workers differ and no majority says who is right."""
    return len(set(answers.values())) > 1 and not odd_ones(answers)


# ---- residuals


class Sample(msgspec.Struct):
    """Points of the first of two players in one worker's games."""

    games: int = 0
    points: float = 0.0
    squares: float = 0.0

    def add(self, points: float) -> None:
        """Count one game."""
        self.games += 1
        self.points += points
        self.squares += points * points


def out_of_line(matches: Iterable[Match]) -> list[Guilt]:
    """Return workers whose results between two players are beyond all chance unlike the others'.

    A two-sample z-test for each pair of players (variance within the samples, at least that of one odd game), with a
    bound so high that looking often does no harm.
    """
    by_pair: dict[tuple[str, str, str], dict[str, Sample]] = defaultdict(lambda: defaultdict(Sample))
    for match in matches:
        pair = sorted(set(match.seats))
        if len(pair) == 2 and not match.revoked:
            sample = by_pair[match.config, pair[0], pair[1]][match.worker]
            sample.add(points_of(pair[0], match.seats, match.ranks))
    guilty: dict[str, Guilt] = {}
    for (config, first, second), samples in sorted(by_pair.items()):
        for worker in sorted(samples):
            z = _z(samples, worker)
            if abs(z) > Z_MAX:
                between = f"{first[:18]} and {second[:18]} in {config}"
                guilty.setdefault(worker, Guilt(worker, f"its results between {between} are {abs(z):.1f} errors off"))
    return list(guilty.values())


def _z(samples: Mapping[str, Sample], worker: str) -> float:
    """Return how far a worker's mean is from the others', in standard errors; 0 where too little is known."""
    mine = samples[worker]
    others = [sample for name, sample in samples.items() if name != worker]
    games = sum(sample.games for sample in others)
    if len(others) < OTHERS_MIN or min(mine.games, games) < RESIDUAL_GAMES_MIN:
        return 0.0
    # The most of the others' own samples decides, so that one cheat does not make an honest worker look odd.
    medians = sorted(sample.points / sample.games for sample in others if sample.games >= RESIDUAL_GAMES_MIN // 2)
    if len(medians) < OTHERS_MIN:
        return 0.0
    middle = medians[len(medians) // 2] if len(medians) % 2 else _nearest(medians, mine.points / mine.games)
    variance = max(_variance(mine), _variance(_sum(others)), 1 / (mine.games + games))
    return (mine.points / mine.games - middle) / math.sqrt(variance * (1 / mine.games + 1 / games))


def _nearest(medians: Sequence[float], mean: float) -> float:
    """Return the middle one of an even number that speaks for the worker."""
    low, high = medians[len(medians) // 2 - 1], medians[len(medians) // 2]
    return low if abs(low - mean) < abs(high - mean) else high


def _sum(samples: Iterable[Sample]) -> Sample:
    total = Sample()
    for sample in samples:
        total.games += sample.games
        total.points += sample.points
        total.squares += sample.squares
    return total


def _variance(sample: Sample) -> float:
    mean = sample.points / sample.games
    return max(0.0, sample.squares / sample.games - mean * mean)
