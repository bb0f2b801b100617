"""Gives a new cluster its first tokens and the settings of loop.yaml, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import yaml

from config.load import load
from config.loop import LoopSettings
from workqueue.init import FIRST_TOKENS, FirstToken
from workqueue.machine.commands import PutSettings, PutToken

if TYPE_CHECKING:
    from pathlib import Path

    from workqueue.duties.context import DutyContext
    from workqueue.machine.commands import AnyCommand


def settings_of(loop: LoopSettings) -> dict[str, msgspec.Raw]:
    """Return loop.yaml as replicated settings: dotted keys, msgpack values, defaults included."""
    values: dict[str, msgspec.Raw] = {}

    def add(prefix: str, section: msgspec.Struct) -> None:
        for field in section.__struct_fields__:
            value = getattr(section, field)
            if isinstance(value, msgspec.Struct):
                add(f"{prefix}{field}.", value)
            else:
                values[prefix + field] = msgspec.Raw(msgspec.msgpack.encode(value))

    add("", loop)
    return values


def first_tokens(folder: Path) -> list[AnyCommand]:
    """Return the commands that add the tokens `rift init` made."""
    path = folder / FIRST_TOKENS
    if not path.exists():
        return []
    records = msgspec.convert(yaml.safe_load(path.read_text()) or [], list[FirstToken])
    return [PutToken(record.id, record.role, record.hash, record.label) for record in records]


class Bootstrap:
    """Acts only while the replicated settings have version 0, so that what people changed later stays."""

    name = "bootstrap"
    period_s = 5.0

    async def run(self, context: DutyContext) -> None:
        """Propose tokens and settings if there are none."""
        current = await context.query("settings")
        if current["version"]:
            return
        path = context.folder / "loop.yaml"
        loop = load(LoopSettings, path) if path.exists() else LoopSettings()
        await context.propose(*first_tokens(context.folder))
        await context.propose(PutSettings(settings_of(loop), 0, "loop.yaml of a new cluster"))


DUTY = Bootstrap()
