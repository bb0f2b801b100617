"""The gate: what a candidate must show before it is champion, and what a champion must show to stay.

Pure, as `plan`. A candidate meets the baselines (floors), then the current champion in a sequential test; whatever job
failed, or brought matches that were revoked since, is played again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.duties.plan import HEURISTIC, LIVE, RANDOM, Decision, JobFacts, Trial, challenger, enqueue, job
from workqueue.duties.plan import TRIES_MAX as TRIES_MAX
from workqueue.duties.priority import parts, requires
from workqueue.machine import commands as c
from workqueue.machine.views import AliasStep, ConfigView, Match, WorkerView
from workqueue.schema import EvaluatePayload, GauntletPayload, Schema, TournamentPayload
from workqueue.sequential import Observed, Verdict, judge, points_of

REGRESSION_ELO = 50  # apart from gate.elo1, which may be negative: whoever accepts equals must not undo them
REGRESSION_GAMES_MIN = 40  # looked at after each game, the test would act on the luck of one tournament
ROLLBACKS_DAY_MAX = 3  # a gate that lets more weak candidates through is not repaired by undoing


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
        # The first net learns from the heuristic's games: it is of use long before it beats it.
        return {RANDOM.key: gate.bootstrap_random_milli[seat], HEURISTIC.key: 0}
    return {RANDOM.key: gate.floor_random_milli[seat], HEURISTIC.key: gate.floor_heuristic_milli[seat]}


def candidates(
    view: ConfigView,
    settings: LoopSettings,
    trials: Mapping[str, Trial],
    stamp: int,
    workers: Sequence[WorkerView] = (),
) -> list[Decision]:
    """Test the newest candidate; older ones that still wait are superseded."""
    decisions = []
    for old in view.candidates[:-1]:
        evidence = c.Evidence("superseded", note=f"a newer candidate came: {view.candidates[-1].sha256}")
        decisions.append(
            Decision(c.RejectModel(old.sha256, evidence, "superseded by a newer candidate"), evidence.note)
        )
    if view.candidates:
        sha = view.candidates[-1].sha256
        need = requires("evaluate", parts(view.config)[0], workers)
        decisions += [_asking(need, each) for each in _test(view, settings, sha, trials.get(sha, Trial()), stamp)]
    return decisions


def _asking(need: c.Requirements, decision: Decision) -> Decision:
    """Have the jobs of a decision ask for what their board needs."""
    command = decision.command
    if not isinstance(command, c.Enqueue):
        return decision
    specs = tuple(msgspec.structs.replace(spec, requires=need) for spec in command.jobs)
    return Decision(c.Enqueue(specs), decision.why)


def _test(view: ConfigView, settings: LoopSettings, sha: str, trial: Trial, stamp: int) -> list[Decision]:
    board, players = parts(view.config)
    me = challenger(sha, settings)
    last = trial.gauntlets[-1] if trial.gauntlets else JobFacts("")
    if last.state in LIVE:
        return []
    if not last.sound:
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
    if not last.sound:
        payload = EvaluatePayload(
            board,
            players,
            me,
            champion,
            gate.games_max,
            seed=(stamp + 1) % (1 << 31),
            elo0_milli=gate.elo0 * 1000,
            elo1_milli=gate.elo1 * 1000,
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
    return judge(games, players, elo0=gate.elo0, elo1=gate.elo1)


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


def ladder(
    view: ConfigView, settings: LoopSettings, previous: str, stamp: int, workers: Sequence[WorkerView] = ()
) -> list[Decision]:
    """Keep one tournament waiting: champion, the one before it, and the baselines; its games are the canary."""
    if not view.champion or view.live.get("tournament"):
        return []
    board, players = parts(view.config)
    models = [sha for sha in (view.champion, previous) if sha]
    entrants = (*(challenger(sha, settings) for sha in models), HEURISTIC, RANDOM)
    payload = TournamentPayload(
        board, players, entrants, settings.ladder_games, seed=(stamp + 2) % (1 << 31), purpose="ladder"
    )
    need = requires("tournament", board, workers)
    decisions = [
        enqueue(
            job(f"tournament-{view.config}-{stamp}", "tournament", view.config, payload, priority=30, requires=need),
            "the ladder keeps ratings moving",
        )
    ]
    if previous and players > 2:
        decisions.append(enqueue(_canary_match(view, settings, previous, stamp, need), "the canary of the champion"))
    return decisions


def _canary_match(
    view: ConfigView, settings: LoopSettings, previous: str, stamp: int, need: c.Requirements
) -> c.JobSpec:
    """Return games of the champion before this one against this one alone.

    Two players meet so within the ladder; with more seats its line-ups are of several players, and none would show it.
    """
    board, players = parts(view.config)
    entrants = (challenger(previous, settings), challenger(view.champion, settings))
    payload = TournamentPayload(
        board, players, entrants, settings.ladder_games, (stamp + 3) % (1 << 31), purpose="canary", format="gauntlet"
    )
    name = f"tournament-{view.config}-{stamp}-canary"
    return job(name, "tournament", view.config, payload, priority=30, requires=need)


def tainted(view: ConfigView, steps: Sequence[AliasStep], revoked: frozenset[str]) -> list[Decision]:
    """Go back to the previous champion when this one's promotion rests on matches that were revoked since."""
    if not steps or steps[-1].sha256 != view.champion:
        return []
    named = [name for name in steps[-1].evidence.match_ids if name in revoked]
    earlier = [step.sha256 for step in steps if step.sha256 != view.champion]
    if not named or not earlier:
        return []
    reason = f"{len(named)} of the matches that its promotion rests on were revoked"
    evidence = c.Evidence("rollback", champion=view.champion, note=reason)
    return [Decision(c.Rollback(f"champion/{view.config}", view.champion, evidence, reason), reason)]


def regression(view: ConfigView, settings: LoopSettings, previous: str, matches: Iterable[Match]) -> list[Decision]:
    """Go back to the previous champion when games since the promotion show that it is stronger."""
    if not view.champion or not previous:
        return []
    _, players = parts(view.config)
    before, now = challenger(previous, settings).key, challenger(view.champion, settings).key
    met = [m for m in matches if m.at_ms > view.champion_since_ms and not m.revoked and set(m.seats) == {before, now}]
    games = [Observed(f"{match.job}/{match.opening}", points_of(before, match.seats, match.ranks)) for match in met]
    verdict = judge(games, players, elo0=0, elo1=REGRESSION_ELO)
    if verdict.verdict != "accept" or len(met) < REGRESSION_GAMES_MIN:
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
    if view.rollbacks_day >= ROLLBACKS_DAY_MAX:
        why = f"{view.rollbacks_day} rollbacks in a day: somebody should look"
        return [
            Decision(c.Halt(view.config, why), why),
            Decision(c.SetAlert("rollbacks", view.config, active=True, detail=why), why),
        ]
    return [Decision(c.Rollback(f"champion/{view.config}", view.champion, evidence, reason), reason)]
