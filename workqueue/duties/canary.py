"""Finds workers that cannot be believed, and takes what they made out of training and ratings.

It enqueues replays of sampled results on other workers and the same few games for every worker, reads what came of
them, and for a worker found wrong: quarantine, the end of its leases, revocation of its shards and matches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import structlog

from workqueue.duties import trust
from workqueue.duties.improve import MATCHES_MAX, Look, look, matches_of
from workqueue.duties.lots import Lots
from workqueue.duties.plan import HEURISTIC, RANDOM, job
from workqueue.duties.priority import able, parts
from workqueue.duties.rules import CHEATS
from workqueue.machine.commands import EndBoot, Enqueue, QuarantineWorker, Requirements, Revoke
from workqueue.machine.views import Event, WorkerView
from workqueue.schema import (
    BOARDS,
    MatchesResult,
    SelfplayPayload,
    SelfplayResult,
    TournamentPayload,
    VerifyPayload,
    VerifyResult,
)

if TYPE_CHECKING:
    from workqueue.duties.context import DutyContext

log = structlog.get_logger()
EVENTS_PAGE = 1000
OPEN_MAX = 100  # checks at a time; beyond only those that must be
OPEN_MAX_ALL = 1000
RESULTS: dict[str, type[SelfplayResult | MatchesResult]] = {
    "selfplay": SelfplayResult,
    "tournament": MatchesResult,
    "gauntlet": MatchesResult,
    "evaluate": MatchesResult,
}
CANARY_MS = 3_600_000  # every worker plays a canary so often
CANARY_GAMES = 8
CANARY_SEED = 20_011
CANARIES_BACK = 3  # hours whose answers are compared
CANARIES_MAX = 20  # workers that are heard at one look
RESIDUALS_MS = 60_000  # residuals look at every match, so not at every look
VERIFY_PRIORITY = 70  # soon, so that little rests on a wrong result


def verify_id(name: str, number: int) -> str:
    """Return the id of the n-th replay of a job's result."""
    return f"verify-{number}-{name}"[:200]


def canary_id(config: str, hour: int, worker: str) -> str:
    """Return the id of a worker's canary: one that says nothing to the worker."""
    return f"tournament-{config}-{hour}{trust.chance_milli(f'{hour}/{worker}'):03}"


class Said(msgspec.Struct, frozen=True):
    """A worker's answer to a canary."""

    hour: int
    alike: tuple[str, ...]  # config, build, rules: the answer depends on
    answer: str


class Canary:
    """Looks at what was completed lately."""

    name = "canary"
    period_s = 5.0

    def __init__(self) -> None:
        self._lots = Lots()
        self._open: dict[str, trust.Done] = {}  # what is being checked
        self._residuals_ms = 0
        self._turn = 0  # of whose canaries are looked at
        self._answers: dict[str, Said] = {}  # worker -> its last canary

    async def run(self, context: DutyContext) -> None:
        """Check, compare, and act on what was found."""
        seen = await look(context, context.now_ms())
        if seen is None:
            return
        workers = able(seen.workers)
        guilty = [*await self._replays(context, seen, workers), *await self._canaries(context, seen, workers)]
        if seen.now_ms - self._residuals_ms >= RESIDUALS_MS:
            self._residuals_ms = seen.now_ms
            guilty += trust.out_of_line(await _newest_matches(context, seen))
        for found in {each.worker: each for each in guilty}.values():
            await _convict(context, seen, found)

    async def _replays(self, context: DutyContext, seen: Look, workers: list[WorkerView]) -> list[trust.Guilt]:
        await self._draw(context, seen)
        barred = {worker.id for worker in seen.workers if worker.quarantined}
        guilty = []
        for name, done in list(self._open.items()):
            if done.worker in barred:
                del self._open[name]
                continue
            found = await self._replay(context, seen, done, [worker.id for worker in workers])
            if found:
                self._open.pop(name, None)
                if found.worker == done.worker and not done.sole:
                    await _strike(context, done, found)
                else:
                    guilty.append(found)
        return guilty

    async def _draw(self, context: DutyContext, seen: Look) -> None:
        """Open a check of what was completed since the last look and is drawn."""
        events = [Event(0, 0, "", "")] * EVENTS_PAGE
        while len(events) == EVENTS_PAGE:
            _, plain = await context.events(self._lots.seq, EVENTS_PAGE)
            events = msgspec.convert(plain, list[Event])
            for drawn in self._lots.draw(events, seen.settings.verify_share_milli):
                if len(self._open) >= OPEN_MAX and not drawn.must:
                    continue
                view = await context.find("job", job=drawn.job)
                result = _result(view, RESULTS[drawn.kind])
                if result is not None and view is not None:
                    asked = msgspec.convert(view["payload"], SelfplayPayload) if drawn.kind == "selfplay" else None
                    sole = set(drawn.makers) == {view["worker"]} and len(drawn.makers) == view["attempt"]
                    self._open[drawn.job] = trust.Done(
                        drawn.job, drawn.kind, view["config"], view["worker"], view["ended_ms"], result, asked,
                        sole=sole or asked is None,  # attempts at a match begin anew
                    )  # fmt: skip
        while len(self._open) > OPEN_MAX_ALL:
            oldest = next(iter(self._open))
            del self._open[oldest]
            log.warning("check.dropped", job=oldest)

    async def _replay(self, context: DutyContext, seen: Look, done: trust.Done, live: list[str]) -> trust.Guilt | None:
        claim = trust.claim_of(done)
        opinions: list[trust.Opinion] = []
        asked = {done.worker}
        for number in range(2):
            name = verify_id(done.id, number)
            view = await context.find("job", job=name)
            if view is None:
                if set(live) - asked and (number == 0 or trust.second_needed(opinions, done.worker, live)):
                    games = seen.settings.verify_games
                    await context.propose(Enqueue((_replay_job(name, done, claim, asked, games),)))
                break
            result = _result(view, VerifyResult)
            if result is None:
                if view["state"] in {"failed", "cancelled"}:
                    self._open.pop(done.id, None)  # it cannot be checked: its bytes or all checkers are gone
                return None
            opinions.append(trust.opinion(view["worker"], claim, result))
            asked.add(view["worker"])
        if opinions and opinions[0].agrees:
            self._open.pop(done.id, None)
        return trust.judged(done, opinions, live)

    async def _canaries(self, context: DutyContext, seen: Look, workers: list[WorkerView]) -> list[trust.Guilt]:
        players = {worker.id: worker for worker in workers if "tournament" in worker.capability.kinds}
        configs = [view.config for view in seen.loop.configs if view.config in seen.rooms]
        if len(players) < 2 or not configs:
            return []
        config = min(configs, key=lambda name: (parts(name)[1], _size(name)))
        hour = seen.now_ms // CANARY_MS
        names = sorted(players)
        self._turn += CANARIES_MAX
        for place in range(min(CANARIES_MAX, len(names))):
            await self._hear(context, config, hour, players[names[(self._turn + place) % len(names)]])
        self._answers = {
            worker: said
            for worker, said in self._answers.items()
            if worker in players and said.hour > hour - CANARIES_BACK
        }
        guilty = []
        # Only what the same build plays of the same config by the same rules must be the same.
        for alike in {said.alike for said in self._answers.values()}:
            answers = {worker: said.answer for worker, said in self._answers.items() if said.alike == alike}
            if trust.disagree(answers):
                log.warning("canary.unclear", config=config, workers=sorted(answers))
            guilty += trust.odd_ones(answers)
        return guilty

    async def _hear(self, context: DutyContext, config: str, hour: int, worker: WorkerView) -> None:
        """Read a worker's newest answer, and have it play this hour's canary."""
        for back in range(CANARIES_BACK):
            view = await context.find("job", job=canary_id(config, hour - back, worker.id))
            if view is None and not back:
                await context.propose(Enqueue((_canary_job(config, hour, worker.id),)))
            result = _result(view, MatchesResult)
            of_this_boot = view is not None and view["ended_ms"] >= worker.registered_ms  # so of its build
            if result is not None and of_this_boot:
                alike = (config, worker.capability.build, result.rules_version)
                self._answers[worker.id] = Said(hour - back, alike, trust.answer_of(result))
                return


def _size(config: str) -> int:
    """Return a board's place among all: canaries are played on the smallest that is worked on."""
    board, _ = parts(config)
    return BOARDS.index(board) if board in BOARDS else len(BOARDS)


def _replay_job(name: str, done: trust.Done, claim: trust.Claim, asked: set[str], games: int) -> Any:
    rules = done.result.rules_version
    payload = VerifyPayload(
        shard=claim.artifact if claim.shard else "",
        record="" if claim.shard else claim.artifact,
        rules_version=rules,
        asked=done.asked if games else None,
        again=trust.lots_of(done, games) if done.asked else (),
    )
    need = Requirements(avoid=tuple(sorted(asked)))
    return job(name, "verify", done.config, payload, requires=need, priority=VERIFY_PRIORITY)


def _canary_job(config: str, hour: int, worker: str) -> Any:
    board, players = parts(config)
    payload = TournamentPayload(board, players, (HEURISTIC, RANDOM), CANARY_GAMES, CANARY_SEED)
    need = Requirements(labels=(f"worker:{worker}",))
    name = canary_id(config, hour, worker)
    return job(name, "tournament", config, payload, requires=need, wait_ms_max=CANARY_MS)


def _result(view: dict[str, Any] | None, kind: Any) -> Any:
    """Return the typed result of a completed job, None when there is none."""
    if view is None or view["state"] != "completed":
        return None
    try:
        return msgspec.convert(view["result"], kind)
    except msgspec.ValidationError:
        return None


async def _newest_matches(context: DutyContext, seen: Look) -> list[Any]:
    """Return the last matches of every config."""
    found: list[Any] = []
    for view in seen.loop.configs:
        offset = max(0, view.matches - MATCHES_MAX)
        found += await matches_of(context, config=view.config, offset=offset)
    return found


async def _convict(context: DutyContext, seen: Look, guilt: trust.Guilt) -> None:
    worker = next((each for each in seen.workers if each.id == guilt.worker), None)
    if worker is None or worker.quarantined or await _forgiven(context, worker):
        return
    reason = f"{CHEATS} {guilt.reason}"
    await context.propose(
        QuarantineWorker(worker.id, on=True, reason=reason),
        EndBoot(worker.id, worker.boot, reason),
        Revoke(worker=worker.id, reason=reason),
    )
    log.error("worker.convicted", worker=worker.id, reason=guilt.reason)


async def _strike(context: DutyContext, done: trust.Done, guilt: trust.Guilt) -> None:
    """Take a job's shards out of training, and blame nobody: another worker's attempt may have made them."""
    assert isinstance(done.result, SelfplayResult)
    shards = tuple(shard.sha256 for shard in done.result.shards)
    await context.propose(Revoke(shards=shards, reason=f"{guilt.reason}; several workers had a part in it"))
    log.error("shards.revoked", job=done.id, reason=guilt.reason)


async def _forgiven(context: DutyContext, worker: WorkerView) -> bool:
    """Whether somebody has let this worker in again: people have looked, and decide from then on."""
    audit = await context.query("audit", limit=1000)
    return any(entry["action"] == "reinstate" and entry["subject"] == worker.id for entry in audit)


DUTY = Canary()
