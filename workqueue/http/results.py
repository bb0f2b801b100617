"""Results of open kinds, judged by their kind's schema before they are proposed, whichever way they came.

What does not fit is refused completion by completion, as the state machine refuses results of built-in kinds; the rest
of a batch goes on.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from workqueue.admission import Envelope, command_type
from workqueue.machine.commands import Complete
from workqueue.machine.outcomes import Code, Completed, Refused
from workqueue.open_kinds import SchemaMismatch, check, plain, with_schema
from workqueue.stream import UNREADABLE, StreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workqueue.http.context import FrontContext
    from workqueue.machine.commands import Completion

    Refusals = Mapping[int, Refused]  # by place in the command


class _Job(msgspec.Struct, frozen=True):
    kind: str = ""


def schemas(context: FrontContext) -> dict[str, str]:
    """Return the result schemas of the open kinds that have one."""
    return with_schema(context.core.views.get("kinds", ()), "result_schema")


async def refusals(context: FrontContext, completions: Sequence[Completion]) -> dict[int, Refused]:
    """Return why results do not fit, by place; raises StreamError when a job's kind cannot be learned."""
    known = schemas(context)
    if not known:
        return {}
    kinds = await asyncio.gather(*(_kind_of(context, completion.job) for completion in completions))
    found = {}
    for place, (completion, kind) in enumerate(zip(completions, kinds, strict=True)):
        what = f"the result of `{kind}` job {completion.job}"
        try:
            if kind in known:
                check(known[kind], plain(completion.result, what), what)
        except SchemaMismatch as error:
            found[place] = Refused(Code.INVALID_RESULT, str(error))
    return found


def without(command: Complete, refused: Refusals) -> Complete | None:
    """Return the command without what is refused, None when nothing is left."""
    rest = tuple(each for place, each in enumerate(command.completions) if place not in refused)
    return msgspec.structs.replace(command, completions=rest) if rest else None


def all_refused(refused: Refusals) -> dict[str, Any]:
    """Return the outcome of a command of which nothing is left."""
    outcome: dict[str, Any] = msgspec.to_builtins(Completed(tuple(refused[place] for place in sorted(refused))))
    return outcome


def mended(outcome: dict[str, Any], refused: Refusals) -> dict[str, Any]:
    """Return the outcome of what was left, with the refusals in their places."""
    if outcome.get("type") != Completed.__name__:
        return outcome  # the command as a whole was refused
    settled = list(outcome["settled"])
    for place in sorted(refused):
        settled.insert(place, msgspec.to_builtins(refused[place]))
    return outcome | {"settled": settled}


async def _kind_of(context: FrontContext, job: str) -> str:
    """Return a job's kind: from the own core, which may lag behind, else from the leader's; "" when there is none."""
    for ask in (context.view, context.leader.query):
        try:
            view = await ask("job", {"job": job})
        except StreamError as error:
            if error.code != Code.NOT_FOUND.value:
                raise
        else:
            return msgspec.msgpack.decode(view.value, type=_Job).kind
    return ""


def _completed(command: msgspec.Raw) -> Complete:
    try:
        return msgspec.msgpack.decode(command, type=Complete)
    except UNREADABLE as error:
        raise StreamError("malformed", f"the call is not understood: {error}") from error


class Judged:
    """Requests of a call whose results were judged, and how the answer becomes whole again."""

    def __init__(self) -> None:
        self.requests: list[Envelope] = []  # what is left to propose
        self._refused: list[tuple[dict[int, Refused], bool]] = []  # of each request as it came; whether it is proposed

    async def add(self, context: FrontContext, request: Envelope) -> None:
        """Judge a request."""
        refused: dict[int, Refused] = {}
        if command_type(request.command) == "Complete":
            command = _completed(request.command)
            refused = await refusals(context, command.completions)
            if refused:
                rest = without(command, refused)
                packed = msgspec.Raw(msgspec.msgpack.encode(rest))
                request = Envelope(request.client, request.request_id, request.actor, packed)
                if rest is None:
                    self._refused.append((refused, False))
                    return
        self.requests.append(request)
        self._refused.append((refused, True))

    def answer(self, reply: msgspec.Raw) -> list[Any]:
        """Return the outcomes of all requests from those of the proposed ones."""
        known = iter(msgspec.msgpack.decode(reply, type=list[msgspec.Raw]))
        outcomes: list[Any] = []
        for refused, proposed in self._refused:
            if not proposed:
                outcomes.append(all_refused(refused))
                continue
            outcome = next(known)
            outcomes.append(mended(msgspec.msgpack.decode(outcome), refused) if refused else outcome)
        return outcomes
