"""The one table of the JSON API: what each path proposes or asks for, and who may. The OpenAPI document follows it."""

from __future__ import annotations

from typing import Final

import msgspec

from workqueue.machine import commands as c
from workqueue.machine import outcomes as o


class Param(msgspec.Struct, frozen=True):
    """A query parameter of a GET."""

    name: str
    kind: type[str] | type[int]
    about: str


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One operation: a command to propose, or a view to read. Path parameters are fields or arguments by name."""

    method: str
    path: str
    name: str  # operationId
    about: str
    role: str
    command: type[c.Command] | None = None
    answer: type[o.Outcome] | None = None
    view: str = ""
    params: tuple[Param, ...] = ()
    status: int = 200


_PAGE = (Param("limit", int, "At most so many rows"), Param("offset", int, "Rows to skip"))
_CONFIG = Param("config", str, "Board and players, as in square8_2p")


def _post(
    path: str, command: type[c.Command], answer: type[o.Outcome], role: str = "admin", method: str = "POST"
) -> Endpoint:
    about = (command.__doc__ or "").strip().split("\n")[0].split(" Outcome:")[0]
    return Endpoint(
        method=method, path=path, name=command.__name__, about=about, role=role, command=command, answer=answer
    )


def _get(path: str, view: str, about: str, *params: Param, role: str = "read", name: str = "") -> Endpoint:
    return Endpoint(
        method="GET", path=path, name=name or f"get_{view}", about=about, role=role, view=view, params=params
    )


COMMANDS: Final = (
    _post("/v1/jobs", c.Enqueue, o.Enqueued, "worker"),
    _post("/v1/jobs/claim", c.Claim, o.Granted, "worker"),
    _post("/v1/jobs/renew", c.Renew, o.Renewed, "worker"),
    _post("/v1/jobs/complete", c.Complete, o.Completed, "worker"),
    _post("/v1/jobs/fail", c.Fail, o.Settled, "worker"),
    _post("/v1/jobs/release", c.Release, o.Settled, "worker"),
    _post("/v1/jobs/cancel", c.Cancel, o.Changed),
    _post("/v1/jobs/retry", c.Retry, o.Changed),
    _post("/v1/jobs/hold", c.Hold, o.Changed),
    _post("/v1/jobs/unhold", c.Unhold, o.Changed),
    _post("/v1/workers", c.RegisterWorker, o.Registered, "worker"),
    _post("/v1/workers/deregister", c.DeregisterWorker, o.Changed, "worker"),
    _post("/v1/workers/drain", c.DrainWorker, o.Changed),
    _post("/v1/workers/quarantine", c.QuarantineWorker, o.Changed),
    _post("/v1/workers/forget", c.ForgetWorkers, o.Changed),
    _post("/v1/locks/acquire", c.Acquire, o.Locked, "worker"),
    _post("/v1/locks/renew", c.RenewLock, o.Locked, "worker"),
    _post("/v1/locks/unlock", c.Unlock, o.Changed, "worker"),
    _post("/v1/locks/break", c.BreakLock, o.Changed),
    _post("/v1/models", c.RegisterModel, o.Changed),
    _post("/v1/models/reject", c.RejectModel, o.Changed),
    _post("/v1/aliases", c.SetAlias, o.AliasSet),
    _post("/v1/aliases/rollback", c.Rollback, o.AliasSet),
    _post("/v1/revocations", c.Revoke, o.Changed),
    _post("/v1/settings", c.PutSettings, o.SettingsSet, method="PATCH"),
    _post("/v1/halt", c.Halt, o.Changed),
    _post("/v1/resume", c.Resume, o.Changed),
    _post("/v1/kinds", c.RegisterKind, o.Changed),
    _post("/v1/alerts/silence", c.SilenceAlert, o.Changed),
)

VIEWS: Final = (
    _get(
        "/v1/jobs",
        "queue",
        "List jobs, newest last.",
        Param("state", str, "Only jobs in this state"),
        Param("kind", str, "Only jobs of this kind"),
        _CONFIG,
        *_PAGE,
    ),
    _get("/v1/jobs/{job}", "job", "Show a job with its attempts."),
    _get("/v1/explain/job/{job}", "explain", "Say for each worker why a job is not running on it.", name="explain_job"),
    _get(
        "/v1/explain/worker/{worker}",
        "explain",
        "Say for each job why a worker is not running it.",
        name="explain_worker",
    ),
    _get("/v1/workers", "workers", "List workers."),
    _get("/v1/workers/{worker}", "worker", "Show a worker."),
    _get("/v1/locks", "locks", "List locks and who holds them."),
    _get("/v1/models", "models", "List models.", _CONFIG, *_PAGE),
    _get("/v1/models/{sha256}", "model", "Show a model: manifest, history, lineage, evidence."),
    _get("/v1/aliases", "aliases", "List aliases and what they point at."),
    _get("/v1/elo", "elo", "Show ratings.", _CONFIG),
    _get(
        "/v1/matches", "matches", "List matches.", _CONFIG, Param("player", str, "Only matches of this player"), *_PAGE
    ),
    _get(
        "/v1/index",
        "artifacts",
        "List the index of artifacts.",
        Param("kind", str, "Only of this kind"),
        _CONFIG,
        *_PAGE,
    ),
    _get("/v1/settings", "settings", "Show the replicated settings and their version."),
    _get("/v1/kinds", "kinds", "List open kinds."),
    _get("/v1/alerts", "alerts", "List alerts."),
    _get("/v1/loop", "loop", "Show the improvement loop by config."),
    _get("/v1/audit", "audit", "List what people changed.", *_PAGE, role="admin"),
)

ENDPOINTS: Final = COMMANDS + VIEWS
