"""Results of open kinds, checked against their kind's schema before they are proposed, whichever way they came."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from workqueue.machine.outcomes import Code
from workqueue.open_kinds import check, plain, with_schema
from workqueue.stream import StreamError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workqueue.http.context import FrontContext
    from workqueue.machine.commands import Completion


class _Job(msgspec.Struct, frozen=True):
    kind: str = ""


def schemas(context: FrontContext) -> dict[str, str]:
    """Return the result schemas of the open kinds that have one."""
    return with_schema(context.core.views.get("kinds", ()), "result_schema")


async def check_results(context: FrontContext, completions: Iterable[Completion]) -> None:
    """Refuse the first result that does not fit; raises SchemaMismatch. Those of built-in kinds are the machine's."""
    known = schemas(context)
    if not known:
        return
    completions = tuple(completions)
    kinds = await asyncio.gather(*(_kind_of(context, completion.job) for completion in completions))
    for completion, kind in zip(completions, kinds, strict=True):
        if kind in known:
            what = f"the result of `{kind}` job {completion.job}"
            check(known[kind], plain(completion.result, what), what)


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
