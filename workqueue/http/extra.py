"""Descriptions of the paths that are no plain command or view: tokens, events, cluster, artifacts, health, pages."""

from __future__ import annotations

from typing import Any, Final

_PROBLEM = {
    "description": "A problem.",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def _json(description: str, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema or {}}}}


def _body(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _other(description: str, kind: str) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": {"type": "string"}}}}


def _given(place: str, name: str, about: str = "", **schema: Any) -> dict[str, Any]:
    described = {"description": about} if about else {}
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string", **schema}, **described}


_SHA = _given("path", "sha256", "Name of the bytes.", pattern="^[0-9a-f]{64}$")
_SEQ = {"type": "integer", "minimum": 0, "maximum": 1 << 48}
_OPEN: Final[list[Any]] = []  # no token is needed


def _operation(name: str, summary: str, answer: dict[str, Any], status: str = "200", **more: Any) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "responses": {status: answer, "default": _PROBLEM}, **more}


EXTRA_PATHS: Final[dict[str, dict[str, Any]]] = {
    "/v1/tokens": {
        "get": _operation("list_tokens", "List tokens without their hashes. Needs `admin`.", _json("The tokens.")),
        "post": _operation(
            "create_token",
            "Create a token; the answer shows it once. Needs `admin`.",
            _json(
                "The token.", {"type": "object", "properties": {"id": {"type": "string"}, "token": {"type": "string"}}}
            ),
            "201",
            requestBody=_body(
                {
                    "role": {"type": "string", "enum": ["admin", "worker", "read"]},
                    "label": {"type": "string", "maxLength": 100},
                    "expires_ms": {
                        "type": "integer",
                        "minimum": 0,
                        "maximum": 1 << 48,
                        "description": "Unix time in ms; 0 = never",
                    },
                },
                "role",
            ),
        ),
    },
    "/v1/tokens/{id}": {
        "delete": _operation(
            "revoke_token",
            "Revoke a token. Needs `admin`.",
            _json("The outcome."),
            parameters=[_given("path", "id")],
        )
    },
    "/v1/events": {
        "get": _operation(
            "follow_events",
            "Follow events as server-sent events; `Last-Event-ID` or `since` resumes. Needs `read`.",
            {
                "description": "A stream without an end.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            },
            parameters=[
                {"name": "since", "in": "query", "schema": {"type": "integer", "minimum": -1}},
                {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}},
                {
                    "name": "status",
                    "in": "query",
                    "schema": {"type": "integer", "enum": [0, 1], "default": 0},
                    "description": "1: also the /status document as `status` events, when it changed",
                },
            ],
        )
    },
    "/v1/history": {
        "get": _operation(
            "get_history", "Samples of the last hour, as this voter saw it. Needs `read`.", _json("Samples.")
        )
    },
    "/v1/heartbeats": {
        "post": _operation(
            "send_heartbeat",
            "Say that a worker is alive; once a second is right. Needs `worker`.",
            _json("Taken."),
            requestBody=_body(
                {"worker": {"type": "string"}, "boot": {"type": "string"}, "seq": _SEQ},
                "worker",
                "boot",
                "seq",
            ),
        )
    },
    "/v1/cluster/transfer": {
        "post": _operation(
            "transfer_leadership",
            "Hand the leadership to another voter. Needs `admin`.",
            _json("Given."),
            requestBody=_body({"voter": {"type": "string", "description": "Empty = any"}}),
        )
    },
    "/v1/cluster/snapshot": {
        "post": _operation("take_snapshot", "Have this voter take a snapshot. Needs `admin`.", _json("Taken."))
    },
    "/v1/gossip": {
        "get": _operation(
            "get_gossip", "How to join the voters' gossip: its name, addresses and pace. Needs `worker`.", _json("How.")
        )
    },
    "/v1/stream": {
        "get": _operation(
            "open_stream",
            "Become a WebSocket that carries many calls at once; `docs/protocol.md` has its frames. Needs `read`.",
            {"description": "It is a WebSocket now."},
            "101",
        )
    },
    "/v1/openapi.json": {"get": _operation("get_openapi", "Show this document.", _json("It."), security=_OPEN)},
    "/v1/standing": {
        "get": _operation(
            "get_standing", "What this voter's machine knows: clock, disk, certificate. For voters.", _json("It.")
        )
    },
}

ARTIFACT_PATHS: Final[dict[str, dict[str, Any]]] = {
    "/v1/artifacts/{sha256}": {
        "put": _operation(
            "put_artifact",
            "Store bytes under their SHA-256, all at once or going on where an upload was cut off. Needs `worker`.",
            _json("Stored on as many voters as `store.replicas` asks for; 202: on a majority, the rest follows."),
            "201",
            parameters=[
                _SHA,
                _given("header", "Content-Range", "bytes START-END/SIZE, to go on"),
                _given("query", "kind", "shard, weights, checkpoint, games, log, export, …"),
                _given("query", "config", "As square8_2p"),
            ],
            requestBody={"required": True, "content": {"application/octet-stream": {"schema": {"type": "string"}}}},
        ),
        "get": _operation(
            "get_artifact",
            "Fetch bytes, or with `Range` a part of them; another voter's are passed on. Needs `read`.",
            _other("The bytes; 206 for a part.", "application/octet-stream"),
            parameters=[_SHA, _given("header", "Range")],
        ),
        "head": _operation(
            "head_artifact",
            "Ask for the size of bytes; 404 says in `Upload-Offset` how much of an upload has arrived. Needs `read`.",
            {"description": "They are here."},
            parameters=[_SHA],
        ),
        "delete": _operation(
            "delete_artifact", "Delete bytes that nothing needs. For voters.", {"description": "Gone."}, "204",
            parameters=[_SHA],
        ),
    },
    "/v1/artifacts/{sha256}/verify": {
        "post": _operation(
            "verify_artifact", "Check stored bytes against their name. Needs `worker`.", _json("Are they whole?"),
            parameters=[_SHA],
        )
    },
    "/v1/artifacts/{sha256}/pull": {
        "post": _operation(
            "pull_artifact", "Copy bytes from another voter. For voters.", _json("Who has them."),
            parameters=[_SHA, _given("query", "from", "A voter"), _given("query", "size", pattern="^[0-9]+$")],
        )
    },
    "/v1/artifact-inventory": {
        "get": _operation("list_stored", "List what is stored here. For voters.", _json("Names and sizes."))
    },
}  # fmt: skip

HEALTH_PATHS: Final[dict[str, dict[str, Any]]] = {
    "/health": {
        "get": _operation("get_health", "200 as long as this voter's processes answer.", _json("It."), security=_OPEN)
    },
    "/ready": {
        "get": _operation("get_ready", "200 when writes will be taken here, else 503.", _json("It."), security=_OPEN)
    },
    "/status": {"get": _operation("get_status", "Show everything in one document. Needs `read`.", _json("It."))},
    "/metrics": {
        "get": _operation("get_metrics", "Show numbers for Prometheus. Needs `read`.", _other("They.", "text/plain"))
    },
    "/": {"get": _operation("get_root", "The status page.", _other("It.", "text/html"), security=_OPEN)},
    "/dashboard": {"get": _operation("get_page", "The status page.", _other("It.", "text/html"), security=_OPEN)},
    "/dashboard/{name}": {
        "get": _operation(
            "get_page_file", "A file of the status page.", _other("It.", "*/*"), security=_OPEN,
            parameters=[_given("path", "name")],
        )
    },
}  # fmt: skip
