"""What the improvement loop does next: pure decisions from views to commands, each with its reason.

One config at a time, without memory: everything is read from the state, so any leader goes on where another stopped,
and a repeated run proposes nothing new. From an empty cluster: games by the bootstrap engine, a first training, floors
against the baselines, the first champion; then games by the champion, trainings from the newest weights, and for every
candidate floors and a sequential test against the current champion.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.machine import commands as c
from workqueue.machine.views import ConfigView, Match, Shard
from workqueue.schema import (
    EvaluatePayload,
    GauntletPayload,
    PlayerSpec,
    Schema,
    SelfplayPayload,
    TournamentPayload,
    TrainPayload,
)
from workqueue.sequential import Observed, Verdict, judge, points_of

RANDOM = PlayerSpec("random")
HEURISTIC = PlayerSpec("heuristic")
TRIES_MAX = 3
TRICKLE = 1
LEASE_MS = 15_000
LIVE = frozenset({"scheduled", "available", "running", "retryable", "held"})


class Decision(msgspec.Struct, frozen=True):
    """A command and why."""

    command: c.AnyCommand
    why: str


class JobFacts(msgspec.Struct, frozen=True):
    """What became of a job: its state, empty when there is none, and the matches it brought."""

    id: str
    state: str = ""
    matches: tuple[Match, ...] = ()


class Trial(msgspec.Struct, frozen=True):
    """The jobs that test a candidate, by number of the try."""

    gauntlets: tuple[JobFacts, ...] = ()
    evaluations: tuple[JobFacts, ...] = ()  # against the current champion


def parts(config: str) -> tuple[str, int]:
    """Return board and players of a config such as square8_2p."""
    board, _, players = config.rpartition("_")
    return board, int(players.removesuffix("p"))


def challenger(sha: str, settings: LoopSettings) -> PlayerSpec:
    """Return the player that stands for a model in tests."""
    return PlayerSpec("gumbel", sha, settings.gate.simulations)


def job(name: str, kind: str, config: str, payload: Schema, **fields: object) -> c.JobSpec:
    """Return a job of the loop."""
    raw = msgspec.Raw(msgspec.msgpack.encode(payload))
    return c.JobSpec(name, kind, raw, config, lease_ms=LEASE_MS, **fields)  # type: ignore[arg-type]


def enqueue(spec: c.JobSpec, why: str) -> Decision:
    """Return the decision to add one job."""
    return Decision(c.Enqueue((spec,)), why)


# ---- data


def target_reached(view: ConfigView, settings: LoopSettings) -> bool:
    """Whether the config's champion is as strong as was asked for."""
    return view.elo_milli >= settings.target_elo * 1000


def selfplay(view: ConfigView, settings: LoopSettings, room: int, stamp: int) -> list[Decision]:
    """Keep up to `room` self-play jobs live; before the first champion only as many as the first training needs."""
    live = view.live.get("selfplay", 0)
    per_job = settings.selfplay.games_per_job
    if target_reached(view, settings):
        room = min(room, TRICKLE)
    wanted = room - live
    if not view.champion:
        missing = settings.selfplay.bootstrap_games - view.games - live * per_job
        wanted = min(wanted, -(-missing // per_job)) if missing > 0 else 0
        if view.trainings and not view.candidates and not view.live.get("train"):
            # The first candidates were rejected: more games, then another training.
            wanted = max(wanted, room - live)
    board, players = parts(view.config)
    decisions = []
    for k in range(max(0, wanted)):
        if view.champion:
            player = PlayerSpec("gumbel", view.champion, settings.selfplay.simulations_full)
        else:
            player = PlayerSpec(settings.selfplay.bootstrap_engine)
        payload = SelfplayPayload(
            board,
            players,
            player,
            per_job,
            seed=(stamp * 1000 + k) % (1 << 31),
            simulations_fast=settings.selfplay.simulations_fast,
            full_share_milli=settings.selfplay.full_share_milli,
        )
        why = f"{live + k} of {room} self-play jobs are live; {view.games} games so far"
        decisions.append(enqueue(job(f"selfplay-{view.config}-{stamp}-{k}", "selfplay", view.config, payload), why))
    return decisions


def window_games(total: int, settings: LoopSettings) -> int:
    """Return how many of the newest games training looks at: grows with a power of all games (Wu 2019, appendix C)."""
    least = settings.train.window_games_min
    if total <= least:
        return total
    exponent = settings.train.window_exponent_milli / 1000
    return int(least * (1 + 0.4 * ((total / least) ** exponent - 1) / exponent))


def window(shards: Sequence[Shard], games: int) -> tuple[str, ...]:
    """Return the newest shards that hold at least `games` games."""
    chosen, held = [], 0
    for shard in shards:
        if held >= games:
            break
        chosen.append(shard.sha256)
        held += shard.games
    return tuple(chosen)


def training(view: ConfigView, settings: LoopSettings, shards: Sequence[Shard], stamp: int) -> list[Decision]:
    """Train when there is enough data, enough of it new, and nothing is being trained or tested already."""
    first = not view.trainings
    enough = view.games >= (settings.selfplay.bootstrap_games if first else settings.train.window_games_min)
    fresh = first or view.games_new >= settings.train.games_new_min
    if not enough or not fresh or view.live.get("train") or view.candidates or not shards:
        return []
    if target_reached(view, settings):
        return []
    board, players = parts(view.config)
    payload = TrainPayload(
        board,
        players,
        window(shards, window_games(view.games, settings)),
        settings.train.steps,
        seed=stamp % (1 << 31),
        size=settings.train.size,
        parent=view.champion,
        batch_size=settings.train.batch_size,
        learning_rate_micro=settings.train.learning_rate_micro,
    )
    why = f"{view.games_new} games are new since the last training, {view.games} in all"
    return [
        enqueue(job(f"train-{view.config}-{stamp}", "train", view.config, payload, unique=f"train/{view.config}"), why)
    ]


# ---- candidates


def gauntlet_id(sha: str, number: int) -> str:
    """Return the id of the n-th try to measure a candidate against the baselines."""
    return f"gauntlet-{sha[:20]}-{number}"


def evaluation_id(sha: str, champion: str, number: int) -> str:
    """Return the id of the n-th try to test a candidate against a champion."""
    return f"evaluate-{sha[:20]}-{champion[:12]}-{number}"


def floors_of(matches: Iterable[Match], candidate: str, bars: Mapping[str, int]) -> dict[str, tuple[int, int, int]]:
    """Return for each baseline the candidate's points in thousandths a game, the games, and the bar."""
    floors = {}
    matches = [match for match in matches if not match.revoked and candidate in match.seats]
    for baseline, bar in bars.items():
        met = [match for match in matches if baseline in match.seats]
        points = sum(points_of(candidate, match.seats, match.ranks) for match in met)
        floors[baseline] = (round(1000 * points / len(met)) if met else 0, len(met), bar)
    return floors


def bars(settings: LoopSettings, players: int, *, bootstrap: bool) -> dict[str, int]:
    """Return the floors that apply."""
    gate, seat = settings.gate, players - 2
    if bootstrap:
        return {RANDOM.key: gate.bootstrap_random_milli[seat], HEURISTIC.key: gate.bootstrap_heuristic_milli[seat]}
    return {RANDOM.key: gate.floor_random_milli[seat], HEURISTIC.key: gate.floor_heuristic_milli[seat]}


def candidates(view: ConfigView, settings: LoopSettings, trials: Mapping[str, Trial], stamp: int) -> list[Decision]:
    """Test the newest candidate; older ones that still wait are superseded."""
    decisions = []
    for old in view.candidates[:-1]:
        evidence = c.Evidence("superseded", note=f"a newer candidate came: {view.candidates[-1].sha256}")
        decisions.append(
            Decision(c.RejectModel(old.sha256, evidence, "superseded by a newer candidate"), evidence.note)
        )
    if view.candidates:
        sha = view.candidates[-1].sha256
        decisions += _test(view, settings, sha, trials.get(sha, Trial()), stamp)
    return decisions


def _test(view: ConfigView, settings: LoopSettings, sha: str, trial: Trial, stamp: int) -> list[Decision]:
    board, players = parts(view.config)
    me = challenger(sha, settings)
    last = trial.gauntlets[-1] if trial.gauntlets else JobFacts("")
    if last.state in LIVE:
        return []
    if last.state != "completed":
        payload = GauntletPayload(
            board, players, me, (RANDOM, HEURISTIC), settings.gate.floor_games, seed=stamp % (1 << 31)
        )
        return _next_try(view, sha, gauntlet_id(sha, len(trial.gauntlets)), "gauntlet", payload, len(trial.gauntlets))
    floors = floors_of(last.matches, me.key, bars(settings, players, bootstrap=not view.champion))
    ids = tuple(match.id for match in last.matches)
    below = [name for name, (points, games, bar) in floors.items() if points < bar or not games]
    if below:
        evidence = c.Evidence("floors", match_ids=ids, floors=floors)
        points, _, bar = floors[below[0]]
        reason = f"{points / 10:.1f} % of the points against {below[0]}, {bar / 10:.1f} % are needed"
        return [Decision(c.RejectModel(sha, evidence, reason), reason)]
    if not view.champion:
        evidence = c.Evidence("bootstrap", match_ids=ids, games=len(ids), floors=floors)
        return [_promote(view, sha, evidence, "the first candidate above the floors")]
    return _duel(view, settings, sha, trial, floors, ids, stamp)


def _duel(
    view: ConfigView,
    settings: LoopSettings,
    sha: str,
    trial: Trial,
    floors: dict[str, tuple[int, int, int]],
    ids: tuple[str, ...],
    stamp: int,
) -> list[Decision]:
    board, players = parts(view.config)
    me, champion = challenger(sha, settings), challenger(view.champion, settings)
    last = trial.evaluations[-1] if trial.evaluations else JobFacts("")
    if last.state in LIVE:
        return []
    gate = settings.gate
    if last.state != "completed":
        payload = EvaluatePayload(
            board,
            players,
            me,
            champion,
            gate.games_max,
            seed=(stamp + 1) % (1 << 31),
            elo0_milli=gate.elo0 * 1000,
            elo1_milli=gate.elo1 * 1000,
            alpha_milli=gate.alpha_milli,
            beta_milli=gate.beta_milli,
        )
        number = len(trial.evaluations)
        return _next_try(view, sha, evaluation_id(sha, view.champion, number), "evaluate", payload, number)
    matches = [match for match in last.matches if not match.revoked]
    verdict = verdict_of(matches, me.key, players, settings)
    points = [points_of(me.key, match.seats, match.ranks) for match in matches]
    evidence = c.Evidence(
        "sprt",
        champion=view.champion,
        match_ids=(*ids, *(match.id for match in matches)),
        games=len(points),
        wins=sum(p == 1 for p in points),
        draws=sum(0 < p < 1 for p in points),
        losses=sum(p == 0 for p in points),
        llr_milli=round(verdict.llr * 1000),
        bound_milli=int(verdict.upper * 1000),
        floors=floors,
    )
    reason = f"{evidence.wins}-{evidence.draws}-{evidence.losses} against the champion, LLR {verdict.llr:.2f}"
    if verdict.verdict == "accept":
        return [_promote(view, sha, evidence, reason)]
    return [Decision(c.RejectModel(sha, evidence, f"{verdict.verdict}: {reason}"), reason)]


def verdict_of(matches: Iterable[Match], candidate: str, players: int, settings: LoopSettings) -> Verdict:
    """Return the sequential test's verdict, from the matches alone."""
    gate = settings.gate
    games = [Observed(match.opening, points_of(candidate, match.seats, match.ranks)) for match in matches]
    return judge(
        games,
        players,
        elo0=gate.elo0,
        elo1=gate.elo1,
        alpha=gate.alpha_milli / 1000,
        beta=gate.beta_milli / 1000,
    )


def _next_try(view: ConfigView, sha: str, name: str, kind: str, payload: Schema, number: int) -> list[Decision]:
    if number >= TRIES_MAX:
        reason = f"its {kind} failed {number} times"
        return [
            Decision(c.RejectModel(sha, c.Evidence("failed", note=reason), reason), reason),
            Decision(c.SetAlert("evaluation.failed", view.config, active=True, detail=f"{sha[:12]}: {reason}"), reason),
        ]
    return [enqueue(job(name, kind, view.config, payload, reserved=True), f"candidate {sha[:12]} waits for its {kind}")]


def _promote(view: ConfigView, sha: str, evidence: c.Evidence, reason: str) -> Decision:
    return Decision(c.SetAlias(f"champion/{view.config}", sha, view.champion, evidence, reason), reason)


# ---- the champion


def ladder(view: ConfigView, settings: LoopSettings, previous: str, stamp: int) -> list[Decision]:
    """Keep one tournament waiting: champion, the one before it, and the baselines; its games are the canary."""
    if not view.champion or view.live.get("tournament"):
        return []
    board, players = parts(view.config)
    models = [sha for sha in (view.champion, previous) if sha]
    entrants = (*(challenger(sha, settings) for sha in models), HEURISTIC, RANDOM)
    payload = TournamentPayload(
        board, players, entrants, settings.ladder_games, seed=(stamp + 2) % (1 << 31), purpose="ladder"
    )
    name = f"tournament-{view.config}-{stamp}"
    return [enqueue(job(name, "tournament", view.config, payload, priority=30), "the ladder keeps ratings moving")]


def regression(view: ConfigView, settings: LoopSettings, previous: str, matches: Iterable[Match]) -> list[Decision]:
    """Go back to the previous champion when games since the promotion show that it is stronger."""
    if not view.champion or not previous:
        return []
    _, players = parts(view.config)
    before, now = challenger(previous, settings).key, challenger(view.champion, settings).key
    met = [m for m in matches if m.at_ms > view.champion_since_ms and not m.revoked and set(m.seats) == {before, now}]
    games = [Observed(f"{match.job}/{match.opening}", points_of(before, match.seats, match.ranks)) for match in met]
    verdict = judge(games, players, elo0=0, elo1=settings.gate.regression_elo)
    if verdict.verdict != "accept" or len(met) < settings.gate.canary_games:
        return []
    reason = f"{len(met)} games since the promotion show the previous champion ahead, LLR {verdict.llr:.2f}"
    evidence = c.Evidence(
        "regression",
        champion=view.champion,
        match_ids=tuple(match.id for match in met),
        games=len(met),
        llr_milli=round(verdict.llr * 1000),
        bound_milli=int(verdict.upper * 1000),
    )
    if view.rollbacks_day >= settings.gate.rollbacks_day_max:
        why = f"{view.rollbacks_day} rollbacks in a day: somebody should look"
        return [
            Decision(c.Halt(view.config, why), why),
            Decision(c.SetAlert("rollbacks", view.config, active=True, detail=why), why),
        ]
    return [Decision(c.Rollback(f"champion/{view.config}", view.champion, evidence, reason), reason)]


# ---- which config first


def score(view: ConfigView, settings: LoopSettings, now_ms: int) -> dict[str, int]:
    """Return the bounded terms, in thousandths, whose sum decides how much of the room a config gets."""
    gap = max(0, settings.target_elo * 1000 - view.elo_milli)
    idle_ms = now_ms - view.last_selfplay_ms if view.last_selfplay_ms else 4 * 3_600_000
    return {
        "staleness": min(1000, idle_ms * 1000 // (4 * 3_600_000)),
        "deficit": max(0, 1000 - view.games * 1000 // max(1, 5 * settings.train.window_games_min)),
        "gap": min(1000, gap // 1000),
        "start": 0 if view.champion else 500,
    }


def rooms(views: Sequence[ConfigView], settings: LoopSettings, slots: int, now_ms: int) -> dict[str, int]:
    """Return how many self-play jobs each config may have live: twice the slots in all, by score, at least one each."""
    active = [view for view in views if not view.halted and view.config in settings.configs]
    sums = {view.config: 100 + sum(score(view, settings, now_ms).values()) for view in active}
    total = sum(sums.values())
    return {config: max(1, 2 * slots * share // total) for config, share in sums.items()}
