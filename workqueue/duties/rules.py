"""What an operator should be told of: each rule looks at one picture of the cluster and names what is wrong.

Pure: the picture is made by the alerts duty. A finding becomes an alert when it has held for the rule's `after_ms`, and
ends with the condition. Every rule has its paragraph in docs/operations.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from config.loop import LoopSettings
from workqueue.duties.gate import ROLLBACKS_DAY_MAX
from workqueue.http.standing import Standing
from workqueue.machine.views import Alert, ConfigView, Event, ModelRow, StatusView, WorkerView

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
NO_GAMES_MS = 30 * MINUTE_MS
UNCLAIMED_MS = 30 * MINUTE_MS
STUCK_MS = 10 * MINUTE_MS
RECENT_MS = 10 * MINUTE_MS  # what counts as just now
LEASES_RECENT_MAX = 10
TERMS_RECENT_MAX = 3
FAILED_RECENT_MAX = 5
FAULTS_MAX = 3
TRAININGS_VAIN_MAX = 3
CERTIFICATE_DAYS_MIN = 30
CLOCK_MS_MAX = 2_000
STORE_SHARE_MAX = 0.9
TEST_MS = MINUTE_MS
TEST = "test"
CHEATS = "cheats:"  # how the reason of a quarantine for invented results begins


class Picture(msgspec.Struct, frozen=True):
    """The cluster as the leader sees it at one moment."""

    now_ms: int
    status: StatusView
    settings: LoopSettings
    voters: tuple[str, ...]
    reachable: frozenset[str]  # the leader included
    standings: Mapping[str, tuple[Standing, int]] = {}  # voter -> what it says, and how far its clock is off in ms
    events: Sequence[Event] = ()
    models: Sequence[ModelRow] = ()
    eligible: Mapping[str, str] = {}  # idle worker -> a kind of job that it could run now
    still_ms: Mapping[str, int] = {}  # running job -> since when it has told no progress
    alerts: Sequence[Alert] = ()

    def recent(self, name: str) -> int:
        """Count the events of a name within the last minutes."""
        return sum(event.name == name and event.at_ms > self.now_ms - RECENT_MS for event in self.events)

    def active(self) -> Iterator[ConfigView]:
        """Yield the configs that the loop is asked to improve and that nobody halted."""
        return (c for c in self.status.configs if c.config in self.settings.configs and not c.halted)

    def live(self) -> Iterator[WorkerView]:
        """Yield the workers that are alive."""
        return (worker for worker in self.status.workers if worker.live)


class Finding(msgspec.Struct, frozen=True):
    """Something is wrong with `key`."""

    key: str
    detail: str


class Rule(msgspec.Struct, frozen=True):
    """A condition with the name of its alert."""

    name: str
    look: Callable[[Picture], Iterator[Finding]]
    after_ms: int = 0  # it has to hold for so long


def games_none(picture: Picture) -> Iterator[Finding]:
    """No self-play game has come in for half an hour."""
    for config in picture.active():
        idle_ms = picture.now_ms - config.last_selfplay_ms
        if config.last_selfplay_ms and idle_ms > NO_GAMES_MS:
            yield Finding(config.config, f"the last games came {idle_ms // MINUTE_MS} minutes ago")


def workers_none(picture: Picture) -> Iterator[Finding]:
    """Nobody works."""
    if not any(True for _ in picture.live()):
        yield Finding("cluster", "no worker is alive")


def worker_idle(picture: Picture) -> Iterator[Finding]:
    """A worker runs nothing although a job waits that it could run."""
    for worker, kind in sorted(picture.eligible.items()):
        yield Finding(worker, f"it is idle while a {kind} job waits that it could run")


def job_unclaimed(picture: Picture) -> Iterator[Finding]:
    """A job has been available for long and nobody takes it."""
    oldest_ms = picture.status.oldest_available_ms
    if oldest_ms and picture.now_ms - oldest_ms > UNCLAIMED_MS:
        waited = (picture.now_ms - oldest_ms) // MINUTE_MS
        yield Finding("queue", f"the oldest available job has waited {waited} minutes")


def job_stuck(picture: Picture) -> Iterator[Finding]:
    """A running job tells no progress though its lease is renewed."""
    running = {row.id: row for row in picture.status.running}
    for name, since_ms in sorted(picture.still_ms.items()):
        if name in running and picture.now_ms - since_ms > STUCK_MS:
            minutes = (picture.now_ms - since_ms) // MINUTE_MS
            yield Finding(name, f"no progress for {minutes} minutes on {running[name].worker}")


def jobs_failing(picture: Picture) -> Iterator[Finding]:
    """Many jobs of a kind have failed for good just now."""
    failed = [e for e in picture.events if e.name == "job.failed" and e.at_ms > picture.now_ms - RECENT_MS]
    for kind, count in sorted(Counter(str(event.detail.get("kind", "")) for event in failed).items()):
        if count > FAILED_RECENT_MAX:
            last = [event for event in failed if event.detail.get("kind") == kind][-1]
            minutes = RECENT_MS // MINUTE_MS
            yield Finding(kind, f"{count} failed within {minutes} minutes, the last: {last.detail.get('reason', '')}")


def disk_low(picture: Picture) -> Iterator[Finding]:
    """A voter's disk or its part for artifacts is nearly full."""
    for voter, (standing, _) in sorted(picture.standings.items()):
        if standing.disk_free_mb < 2 * standing.disk_floor_mb:
            yield Finding(voter, f"{standing.disk_free_mb} MiB of its disk are free")
        elif standing.store_used_mb > STORE_SHARE_MAX * standing.store_quota_mb:
            yield Finding(voter, f"artifacts use {standing.store_used_mb} of {standing.store_quota_mb} MiB")


def state_diverged(picture: Picture) -> Iterator[Finding]:
    """A voter saw another one with a different state at the same index."""
    for voter, (standing, _) in sorted(picture.standings.items()):
        if standing.divergences:
            yield Finding(voter, f"it saw {standing.divergences} digests that differ from its own")


def voter_down(picture: Picture) -> Iterator[Finding]:
    """A voter does not answer."""
    for voter in picture.voters:
        if voter not in picture.reachable:
            yield Finding(voter, "the leader cannot reach it")


def quorum_at_risk(picture: Picture) -> Iterator[Finding]:
    """One more lost voter and nothing can be written."""
    up, majority = len(picture.reachable.intersection(picture.voters)), len(picture.voters) // 2 + 1
    if up < len(picture.voters) and up <= majority:
        yield Finding("cluster", f"{up} of {len(picture.voters)} voters are up, {majority} are needed")


def leader_unsteady(picture: Picture) -> Iterator[Finding]:
    """Leaders change often."""
    terms = picture.recent("leader.changed")
    if terms > TERMS_RECENT_MAX:
        yield Finding("cluster", f"{terms} leaders within {RECENT_MS // MINUTE_MS} minutes")


def leases_expiring(picture: Picture) -> Iterator[Finding]:
    """Many leases ended because their workers fell silent."""
    count = picture.recent("lease.expired")
    if count > LEASES_RECENT_MAX:
        workers = Counter(str(e.detail.get("worker", "")) for e in picture.events if e.name == "lease.expired")
        worst = workers.most_common(1)[0][0]
        yield Finding("cluster", f"{count} leases expired within {RECENT_MS // MINUTE_MS} minutes, most on {worst}")


def clock_skewed(picture: Picture) -> Iterator[Finding]:
    """A voter's clock differs from the leader's."""
    for voter, (_, off_ms) in sorted(picture.standings.items()):
        if abs(off_ms) > CLOCK_MS_MAX:
            yield Finding(voter, f"its clock is {off_ms / 1000:+.1f} s from the leader's")


def certificate_expiring(picture: Picture) -> Iterator[Finding]:
    """A voter's certificate ends soon."""
    for voter, (standing, _) in sorted(picture.standings.items()):
        if standing.certificate_days < CERTIFICATE_DAYS_MIN:
            yield Finding(voter, f"its certificate is valid for {standing.certificate_days} more days")


def worker_failing(picture: Picture) -> Iterator[Finding]:
    """A worker fails job after job, or was put into quarantine for it."""
    for worker in picture.status.workers:
        if worker.quarantined and not worker.reason.startswith(CHEATS):
            yield Finding(worker.id, f"in quarantine: {worker.reason}")
        elif worker.live and worker.node_faults >= FAULTS_MAX:
            yield Finding(worker.id, f"{worker.node_faults} faults of the node in a row")


def worker_cheating(picture: Picture) -> Iterator[Finding]:
    """A worker handed in results that others cannot confirm."""
    for worker in picture.status.workers:
        if worker.quarantined and worker.reason.startswith(CHEATS):
            yield Finding(worker.id, worker.reason.removeprefix(CHEATS).strip())


def loop_halted(picture: Picture) -> Iterator[Finding]:
    """Claims of a kind, a config or all are halted."""
    for halt in picture.status.halts:
        yield Finding(halt.scope, f"halted by {halt.actor or 'somebody'}: {halt.reason}")


def champion_regressed(picture: Picture) -> Iterator[Finding]:
    """A champion was rolled back within a day."""
    for config in picture.status.configs:
        if config.rollbacks_day:
            yield Finding(config.config, f"{config.rollbacks_day} rollbacks within a day")


def rollbacks(picture: Picture) -> Iterator[Finding]:
    """The rollbacks of a day are used up, and the config was halted."""
    for config in picture.status.configs:
        if config.rollbacks_day >= ROLLBACKS_DAY_MAX:
            yield Finding(config.config, f"{config.rollbacks_day} rollbacks within a day; halted: {config.halted}")


def evaluation_late(picture: Picture) -> Iterator[Finding]:
    """A candidate waits for its verdict beyond the bound."""
    allowed = picture.settings.gate.wait_minutes_max
    for config in picture.active():
        for candidate in config.candidates:
            minutes = (picture.now_ms - candidate.created_ms) // MINUTE_MS
            if minutes >= allowed:
                waited = f"candidate {candidate.sha256[:12]} has waited {minutes} minutes, {allowed} are allowed"
                yield Finding(config.config, waited)


def evaluation_failed(picture: Picture) -> Iterator[Finding]:
    """A candidate was given up because its tests could not be played."""
    for model in picture.models:
        if model.status == "rejected" and model.created_ms > picture.now_ms - DAY_MS and " failed " in model.reason:
            yield Finding(model.config, f"{model.sha256[:12]}: {model.reason}")


def training_failed(picture: Picture) -> Iterator[Finding]:
    """A training was given up within the last hour."""
    for event in picture.events:
        recent = event.at_ms > picture.now_ms - HOUR_MS
        if recent and event.name == "job.failed" and event.detail.get("kind") == "train":
            config = str(event.detail.get("config", ""))
            yield Finding(config, f"{event.subject}: {event.detail.get('reason') or 'see rift queue show'}")


def promotions_none(picture: Picture) -> Iterator[Finding]:
    """A day of trainings has brought no new champion."""
    for config in picture.active():
        aim = picture.settings.target_elo * 1000
        old = config.champion_since_ms and picture.now_ms - config.champion_since_ms > DAY_MS
        vain = [m for m in picture.models if m.config == config.config and m.created_ms > config.champion_since_ms]
        if old and config.elo_milli < aim and len(vain) >= TRAININGS_VAIN_MAX:
            yield Finding(config.config, f"{len(vain)} candidates since the last promotion, a day ago or more")


def test(picture: Picture) -> Iterator[Finding]:
    """Somebody tries the webhooks; it ends by itself."""
    for alert in picture.alerts:
        if alert.name == TEST and picture.now_ms - alert.since_ms < TEST_MS:
            yield Finding(alert.key, alert.detail)


RULES = (
    Rule("games.none", games_none),
    Rule("workers.none", workers_none, MINUTE_MS),
    Rule("worker.idle", worker_idle, MINUTE_MS),
    Rule("worker.failing", worker_failing),
    Rule("worker.cheating", worker_cheating),
    Rule("job.unclaimed", job_unclaimed),
    Rule("job.stuck", job_stuck),
    Rule("jobs.failing", jobs_failing),
    Rule("disk.low", disk_low),
    Rule("state.diverged", state_diverged),
    Rule("voter.down", voter_down, MINUTE_MS),
    Rule("quorum.at_risk", quorum_at_risk, 10_000),
    Rule("leader.unsteady", leader_unsteady),
    Rule("leases.expiring", leases_expiring),
    Rule("clock.skewed", clock_skewed, MINUTE_MS),
    Rule("certificate.expiring", certificate_expiring),
    Rule("loop.halted", loop_halted),
    Rule("champion.regressed", champion_regressed),
    Rule("rollbacks", rollbacks),
    Rule("evaluation.late", evaluation_late),
    Rule("evaluation.failed", evaluation_failed),
    Rule("training.failed", training_failed),
    Rule("promotions.none", promotions_none),
    Rule(TEST, test),
)


def findings(picture: Picture) -> dict[tuple[str, str], tuple[str, int]]:
    """Return everything that is wrong: (alert, key) -> (detail, how long it has to hold in ms)."""
    return {(rule.name, found.key): (found.detail, rule.after_ms) for rule in RULES for found in rule.look(picture)}
