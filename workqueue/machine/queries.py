"""Queries: names and arguments in, views out. They read, and never change anything."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

import msgspec

from config.loop import LoopSettings
from workqueue.machine import views as v
from workqueue.machine.explaining import explain
from workqueue.machine.ledger import Ledger
from workqueue.machine.models import CHAMPION, current
from workqueue.machine.outcomes import Code, Refused
from workqueue.machine.state import Artifact, Job, Model, Worker
from workqueue.machine.transitions import ENDED
from workqueue.machine.transitions import State as JobState

PAGE = 100
PAGE_MAX = 10_000
DAY_MS = 86_400_000
STATUS_RUNNING_MAX = 200
INT_MAX = (1 << 63) - 1
_plain = msgspec.msgpack.Decoder(ext_hook=lambda _code, _data: None).decode


def answer(ledger: Ledger, name: str, args: dict[str, object]) -> object:
    """Return the view, or Refused for an unknown name or a bad argument."""
    query = QUERIES.get(name)
    if query is None:
        return Refused(Code.NOT_FOUND, f"there is no query {name!r}; known: {', '.join(sorted(QUERIES))}")
    try:
        return query(ledger, **args)
    except (TypeError, ValueError) as error:
        return Refused(Code.INVALID, f"query {name}: {error}")


def plain(raw: msgspec.Raw) -> object:
    """Return msgpack as values that JSON can show; bytes that are not msgpack as None."""
    try:
        return _shown(_plain(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _shown(value: object) -> object:
    match value:
        case dict():
            return {name if isinstance(name, str | int) else str(name): _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case _:
            return value


def _page(limit: object, offset: object) -> tuple[int, int]:
    return max(0, min(int(str(limit)), PAGE_MAX)), max(0, int(str(offset)))


# ---- jobs


def job_row(job: Job) -> v.JobRow:
    """Return a job as a row."""
    spec = job.spec
    return v.JobRow(
        spec.id, spec.kind, spec.config, job.state.value, spec.priority, job.attempt, job.worker, job.enqueued_ms,
        job.started_ms, job.ended_ms, job.reason, plain(job.progress),
    )  # fmt: skip


def queue(
    ledger: Ledger, state: str = "", kind: str = "", config: str = "", limit: int = PAGE, offset: int = 0
) -> v.QueueView | Refused:
    """List jobs, newest last."""
    if state and state not in {each.value for each in JobState}:
        known = ", ".join(each.value for each in JobState)
        return Refused(Code.INVALID, f"there is no state {state!r}; known: {known}")
    limit, offset = _page(limit, offset)
    total = sum(
        n
        for (s, k, c), n in ledger.counts.items()
        if (not state or s == state) and (not kind or k == kind) and (not config or c == config)
    )
    rows: list[v.JobRow] = []
    skipped = 0
    for job in ledger.jobs.values():
        if len(rows) >= limit:
            break
        if (state and job.state.value != state) or (kind and job.spec.kind != kind):
            continue
        if config and job.spec.config != config:
            continue
        if skipped < offset:
            skipped += 1
            continue
        rows.append(job_row(job))
    return v.QueueView(total, tuple(rows))


def job(ledger: Ledger, job: str) -> v.JobView | Refused:
    """Show a job."""
    found = ledger.job(job)
    if isinstance(found, Refused):
        return found
    spec = found.spec
    return v.JobView(
        spec.id, spec.kind, spec.config, found.state.value, spec.priority, found.attempt, found.worker, found.boot,
        found.device, found.enqueued_ms, found.available_ms, found.started_ms, found.ended_ms, found.lease_until_ms,
        found.reason, found.cancelling, plain(found.progress), plain(found.cursor), plain(spec.payload),
        plain(found.result), tuple(ref.sha256 for ref in found.artifacts), found.causes, spec.depends_on,
        spec.unique, spec.group, found.actor, found.payload_faults, found.other_faults,
    )  # fmt: skip


# ---- workers, locks


def worker_view(ledger: Ledger, worker: Worker) -> v.WorkerView:
    """Return a worker."""
    return v.WorkerView(
        worker.id, worker.boot, worker.live, worker.drain, worker.quarantined, worker.reason, worker.address,
        worker.registered_ms, worker.seen_ms, tuple(sorted(ledger.running.get(worker.id, ()))), worker.completed,
        worker.failed, worker.node_faults, worker.capability, worker.beats,
    )  # fmt: skip


def workers(ledger: Ledger) -> tuple[v.WorkerView, ...]:
    """List workers."""
    return tuple(worker_view(ledger, ledger.state.workers[name]) for name in sorted(ledger.state.workers))


def worker(ledger: Ledger, worker: str) -> v.WorkerView | Refused:
    """Show a worker."""
    found = ledger.state.workers.get(worker)
    return worker_view(ledger, found) if found else Refused(Code.NOT_FOUND, f"there is no worker {worker}")


def locks(ledger: Ledger) -> tuple[v.LockView, ...]:
    """List locks that somebody holds."""
    held = [ledger.state.locks[name] for name in sorted(ledger.state.locks)]
    return tuple(v.LockView(lock.name, lock.limit, tuple(lock.places)) for lock in held)


# ---- models, ratings, matches


def _model_row(ledger: Ledger, model: Model) -> v.ModelRow:
    table = ledger.state.ratings.get(model.config, {})
    rated = [rating for player, rating in table.items() if player.startswith(f"{model.sha256}:")]
    best = max(rated, key=lambda rating: (rating.games, rating.elo_milli), default=None)
    return v.ModelRow(
        model.sha256, model.config, model.status, model.size_bytes, model.parents, model.job, model.worker,
        model.created_ms, model.reason, best.elo_milli if best else 0, best.games if best else 0,
    )  # fmt: skip


def models(ledger: Ledger, config: str = "", limit: int = PAGE, offset: int = 0) -> tuple[v.ModelRow, ...]:
    """List models, newest first."""
    limit, offset = _page(limit, offset)
    found = [model for model in ledger.state.models.values() if not config or model.config == config]
    found.sort(key=lambda model: (-model.created_ms, model.sha256))
    return tuple(_model_row(ledger, model) for model in found[offset : offset + limit])


def model(ledger: Ledger, sha256: str) -> v.ModelView | Refused:
    """Show a model; a prefix of at least 6 digits is enough when it is the only one."""
    found = [
        name for name in sorted(ledger.state.models) if name == sha256 or (len(sha256) >= 6 and name.startswith(sha256))
    ]
    if len(found) != 1:
        return Refused(Code.NOT_FOUND, f"there {'are several models' if found else 'is no model'} {sha256}")
    record = ledger.state.models[found[0]]
    lineage: list[str] = []
    parents = list(record.parents)
    while parents and len(lineage) < PAGE:
        parent = parents.pop(0)
        if parent not in lineage:
            lineage.append(parent)
            parents += ledger.state.models[parent].parents if parent in ledger.state.models else ()
    history = {
        alias: tuple(step for step in steps if step.sha256 == record.sha256)
        for alias, steps in sorted(ledger.state.aliases.items())
        if any(step.sha256 == record.sha256 for step in steps)
    }
    return v.ModelView(_model_row(ledger, record), plain(record.manifest), record.evidence, tuple(lineage), history)


def aliases(ledger: Ledger) -> dict[str, tuple[v.AliasStep, ...]]:
    """List aliases with all their moves, the last of which is where they point."""
    return {alias: tuple(ledger.state.aliases[alias]) for alias in sorted(ledger.state.aliases)}


def elo_rows(ledger: Ledger, config: str) -> tuple[v.EloRow, ...]:
    """Return the players of a config, best first."""
    table = ledger.state.ratings.get(config, {})
    rows = [v.EloRow(player, r.elo_milli, r.games, r.wins, r.draws, r.losses) for player, r in table.items()]
    return tuple(sorted(rows, key=lambda row: (-row.elo_milli, row.player)))


def elo(ledger: Ledger, config: str = "") -> dict[str, tuple[v.EloRow, ...]]:
    """Show ratings by config."""
    configs = [config] if config else sorted(ledger.state.ratings)
    return {name: elo_rows(ledger, name) for name in configs}


def matches(
    ledger: Ledger,
    config: str = "",
    player: str = "",
    job: str = "",
    since_ms: int = 0,
    limit: int = PAGE,
    offset: int = 0,
) -> tuple[v.Match, ...]:
    """List matches, oldest first."""
    limit, offset = _page(limit, offset)
    found = (
        match
        for match in ledger.matches
        if match.at_ms >= since_ms
        and (not config or match.config == config)
        and (not job or match.job == job)
        and (not player or player in match.seats)
    )
    return tuple(match for k, match in enumerate(found) if offset <= k < offset + limit)


# ---- artifacts


def _artifact_view(ledger: Ledger, a: Artifact) -> v.ArtifactView:
    needed = ledger.needed.get(a.sha256)
    refs = (*a.refs, f"jobs:{needed}") if needed else a.refs
    return v.ArtifactView(
        a.sha256, a.size_bytes, a.kind, a.config, a.holders, refs, a.worker, a.model, a.at_ms, a.games, a.positions,
        a.revoked,
    )  # fmt: skip


def artifacts(
    ledger: Ledger, kind: str = "", config: str = "", limit: int = PAGE, offset: int = 0
) -> tuple[v.ArtifactView, ...]:
    """List artifacts, oldest first."""
    limit, offset = _page(limit, offset)
    found = [
        each
        for each in ledger.state.artifacts.values()
        if (not kind or each.kind == kind) and (not config or each.config == config)
    ]
    found.sort(key=lambda each: each.order)
    return tuple(_artifact_view(ledger, each) for each in found[offset : offset + limit])


def artifact(ledger: Ledger, sha256: str) -> v.ArtifactView | Refused:
    """Show an artifact."""
    found = ledger.state.artifacts.get(sha256)
    return _artifact_view(ledger, found) if found else Refused(Code.NOT_FOUND, f"there is no artifact {sha256}")


def shards(ledger: Ledger, config: str, limit: int = PAGE_MAX) -> tuple[v.Shard, ...]:
    """List the shards that training may use, newest first."""
    found = [
        each
        for each in ledger.state.artifacts.values()
        if each.config == config and each.kind == "shard" and not each.revoked and each.games
    ]
    newest = heapq.nlargest(_page(limit, 0)[0], found, key=lambda each: each.order)
    return tuple(v.Shard(each.sha256, each.games, each.positions, each.model, each.worker) for each in newest)


# ---- the rest


def settings(ledger: Ledger) -> v.SettingsView:
    """Show the replicated settings."""
    values = {name: plain(raw) for name, raw in ledger.state.settings.items()}
    effective: dict[str, object] = msgspec.to_builtins(ledger.settings)
    return v.SettingsView(ledger.state.settings_version, values, _all(effective))


def _all(effective: dict[str, object]) -> dict[str, object]:
    whole = {
        name: {key: getattr(part, key) for key in part.__struct_fields__}
        for name, part in ((f.name, f.default) for f in msgspec.structs.fields(LoopSettings))
        if isinstance(part, msgspec.Struct)
    }
    flat: dict[str, object] = {
        f.name: f.default for f in msgspec.structs.fields(LoopSettings) if not isinstance(f.default, msgspec.Struct)
    }
    for name, value in effective.items():
        if isinstance(value, dict):
            whole[name] |= value
        else:
            flat[name] = value
    flat |= {f"{name}.{key}": value for name, part in whole.items() for key, value in part.items()}
    return dict(sorted(flat.items()))


def audit(ledger: Ledger, limit: int = PAGE, offset: int = 0) -> tuple[Any, ...]:
    """List what people and duties changed, newest first."""
    limit, offset = _page(limit, offset)
    return tuple(reversed(ledger.state.audit))[offset : offset + limit]


def tokens(ledger: Ledger) -> tuple[Any, ...]:
    """List tokens with their hashes; for voters and admins."""
    return tuple(ledger.state.tokens[name] for name in sorted(ledger.state.tokens))


def kinds(ledger: Ledger) -> tuple[v.OpenKind, ...]:
    """List open kinds."""
    return tuple(ledger.state.kinds[name] for name in sorted(ledger.state.kinds))


def alerts(ledger: Ledger, silenced: bool = False) -> tuple[v.Alert, ...]:  # noqa: FBT001, FBT002  named by callers
    """List alerts that are up; those that were silenced only on demand."""
    silences = ledger.state.silences
    up = (ledger.state.alerts[name] for name in sorted(ledger.state.alerts))
    return tuple(alert for alert in up if silenced or silences.get(alert.name, 0) <= ledger.now_ms)


def _config_view(ledger: Ledger, config: str) -> v.ConfigView:
    state = ledger.state
    totals = state.totals.get(config)
    steps = state.aliases.get(f"{CHAMPION}/{config}", [])
    champion = steps[-1].sha256 if steps else ""
    live: dict[str, int] = {}
    running: dict[str, int] = {}
    ended = {each.value for each in ENDED}
    for (job_state, kind, of), n in ledger.counts.items():
        if of == config and job_state not in ended:
            live[kind] = live.get(kind, 0) + n
            if job_state == JobState.RUNNING.value:
                running[kind] = running.get(kind, 0) + n
    on_devices: dict[str, int] = {}
    for bucket in ledger.ready:
        key = bucket.key
        if key.config == config and (key.requires.device or key.requires.vram_mb):
            on_devices[key.kind] = on_devices.get(key.kind, 0) + bucket.waiting
    for held in ledger.running.values():
        for spec in (ledger.jobs[name].spec for name in held if ledger.jobs[name].device >= 0):
            if spec.config == config:
                on_devices[spec.kind] = on_devices.get(spec.kind, 0) + 1
    candidates = sorted(
        (model for model in state.models.values() if model.config == config and model.status == "candidate"),
        key=lambda model: (model.created_ms, model.sha256),
    )
    undone = [step for step in steps if step.evidence.rule in {"rollback", "regression"}]
    table = state.ratings.get(config, {})
    rated = [rating for player, rating in table.items() if champion and player.startswith(f"{champion}:")]
    halts = [scope for scope in ("*", config) if scope in state.halts]
    games = totals.games if totals else 0
    return v.ConfigView(
        config=config,
        games=games,
        games_new=games - totals.games_at_training if totals else 0,
        positions=totals.positions if totals else 0,
        trainings=totals.trainings if totals else 0,
        last_selfplay_ms=totals.last_selfplay_ms if totals else 0,
        last_training_ms=totals.last_training_ms if totals else 0,
        loss_milli=totals.loss_milli if totals else 0,
        matches=totals.matches if totals else 0,
        champion=champion,
        champion_since_ms=steps[-1].at_ms if steps else 0,
        promotions=len(steps) - len(undone),
        rollbacks_day=sum(step.at_ms > ledger.now_ms - DAY_MS for step in undone),
        candidates=tuple(v.CandidateView(m.sha256, m.created_ms, m.parents) for m in candidates),
        live=dict(sorted(live.items())),
        running=dict(sorted(running.items())),
        elo_milli=max((rating.elo_milli for rating in rated), default=0),
        elo_games=max((rating.games for rating in rated), default=0),
        on_devices=dict(sorted(on_devices.items())),
        halted=state.halts[halts[0]].reason or "halted" if halts else "",
    )


def _configs(ledger: Ledger) -> tuple[v.ConfigView, ...]:
    names = {*ledger.settings.configs, *ledger.state.totals, *(model.config for model in ledger.state.models.values())}
    return tuple(_config_view(ledger, name) for name in sorted(names))


def _halts(ledger: Ledger) -> tuple[v.HaltRecord, ...]:
    return tuple(ledger.state.halts[scope] for scope in sorted(ledger.state.halts))


def loop(ledger: Ledger) -> v.LoopView:
    """Show the improvement loop."""
    able = [w for w in ledger.state.workers.values() if w.live and not w.quarantined and not w.drain]
    slots = sum(max(1, worker.capability.cpus) for worker in able)
    return v.LoopView(_configs(ledger), slots, len(able), _halts(ledger))


def status(ledger: Ledger) -> v.StatusView:
    """Show everything for one look."""
    state = ledger.state
    jobs: dict[str, dict[str, int]] = {}
    for (job_state, kind, _), n in sorted(ledger.counts.items()):
        of_state = jobs.setdefault(job_state, {})
        of_state[kind] = of_state.get(kind, 0) + n
    names = sorted(name for held in ledger.running.values() for name in held)[:STATUS_RUNNING_MAX]
    heads = [ledger.jobs[bucket.head(ledger.jobs)[2]].available_ms for bucket in ledger.ready]
    return v.StatusView(
        now_ms=state.now_ms,
        entries=state.entries,
        jobs=jobs,
        running=tuple(job_row(ledger.jobs[name]) for name in names),
        workers=workers(ledger),
        configs=_configs(ledger),
        elo={config: elo_rows(ledger, config)[:10] for config in sorted(state.ratings)},
        aliases={alias: current(ledger, alias) for alias in sorted(state.aliases)},
        alerts=alerts(ledger),
        halts=_halts(ledger),
        settings_version=state.settings_version,
        artifacts=len(state.artifacts),
        artifact_bytes=min(INT_MAX, sum(each.size_bytes for each in state.artifacts.values())),
        oldest_available_ms=min(heads, default=0),
        last_seq=state.event_seq,
    )


QUERIES: dict[str, Callable[..., object]] = {
    query.__name__: query
    for query in (
        queue, job, explain, workers, worker, locks, models, model, aliases, elo, matches, artifacts, artifact, shards,
        settings, audit, tokens, kinds, alerts, loop, status,
    )
}  # fmt: skip
