"""Descriptions of the paths that are no plain command or view: tokens, events, cluster."""

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
                    "expires_ms": {"type": "integer", "minimum": 0, "description": "Unix time in ms; 0 = never"},
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
            parameters=[{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
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
                {"worker": {"type": "string"}, "boot": {"type": "string"}, "seq": {"type": "integer", "minimum": 0}},
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
}
