"""Handlers of commands about settings, switches, kinds, tokens and alerts."""

from __future__ import annotations

import msgspec

from config.loop import LoopSettings
from config.removed import recorded
from workqueue.machine.commands import (
    Halt,
    PutSettings,
    PutToken,
    RegisterKind,
    Resume,
    RevokeToken,
    SetAlert,
    SilenceAlert,
)
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import Changed, Code, Outcome, Refused, SettingsSet
from workqueue.machine.state import Alert, HaltRecord, OpenKind, Token
from workqueue.schema import KINDS

SHARE_MAX = 1000
ROLES = ("admin", "worker", "read")


def typed(values: dict[str, msgspec.Raw]) -> LoopSettings:
    """Return the settings that dotted keys describe; raises msgspec.ValidationError or ValueError."""
    tree: dict[str, object] = {}
    for name in sorted(values):
        node = tree
        *path, last = name.split(".")
        for part in path:
            inner = node.setdefault(part, {})
            if not isinstance(inner, dict):
                raise ValueError(f"`{name}` is below a value")
            node = inner
        node[last] = msgspec.msgpack.decode(values[name])
    return recorded(tree)


def put_settings(ledger: Ledger, command: PutSettings) -> Outcome:
    """Handle PutSettings: all keys or none, checked together with the ones that stay."""
    state = ledger.state
    if command.expected not in {-1, state.settings_version}:
        return Refused(
            Code.CONFLICT,
            f"the settings have version {state.settings_version}; read them again",
            current=str(state.settings_version),
        )
    values = {**state.settings, **command.values}
    try:
        ledger.settings = typed(values)
    except (msgspec.MsgspecError, ValueError) as error:
        return Refused(Code.INVALID, f"settings: {error}")
    state.settings = {name: msgspec.Raw(bytes(values[name])) for name in sorted(values)}
    state.settings_version += 1
    for name in sorted(command.values):
        ledger.record("set", name, command.reason)
    return SettingsSet(state.settings_version)


def halt(ledger: Ledger, command: Halt) -> Outcome:
    """Handle Halt."""
    if not command.scope:
        return Refused(Code.INVALID, "name a kind, a config or *")
    ledger.state.halts[command.scope] = HaltRecord(command.scope, command.reason, ledger.actor, ledger.now_ms)
    ledger.record("halt", command.scope, command.reason)
    return Changed((command.scope,))


def resume(ledger: Ledger, command: Resume) -> Outcome:
    """Handle Resume."""
    if ledger.state.halts.pop(command.scope, None) is None:
        return Refused(Code.NOT_FOUND, f"{command.scope} is not halted")
    ledger.claimable_version += 1
    ledger.record("resume", command.scope, command.reason)
    return Changed((command.scope,))


def register_kind(ledger: Ledger, command: RegisterKind) -> Outcome:
    """Handle RegisterKind."""
    if not command.name or command.name in KINDS:
        return Refused(Code.INVALID, f"{command.name!r} is a built-in kind or no name at all; choose another")
    if not 0 <= command.share <= SHARE_MAX:
        return Refused(Code.INVALID, f"a share is 0 to {SHARE_MAX}; all of the built-in kinds have 1000 together")
    ledger.state.kinds[command.name] = OpenKind(
        command.name, command.payload_schema, command.result_schema, command.share
    )
    ledger.record("register kind", command.name)
    return Changed((command.name,))


def put_token(ledger: Ledger, command: PutToken) -> Outcome:
    """Handle PutToken."""
    if command.role not in ROLES:
        return Refused(Code.INVALID, f"there is no role {command.role!r}; use one of {', '.join(ROLES)}")
    if command.id in ledger.state.tokens:
        return Refused(Code.CONFLICT, f"there is a token {command.id} already")
    ledger.state.tokens[command.id] = Token(
        command.id, command.role, command.hash, command.label, ledger.now_ms, command.expires_ms
    )
    ledger.record("create token", command.id, f"{command.role} {command.label}".strip())
    return Changed((command.id,))


def revoke_token(ledger: Ledger, command: RevokeToken) -> Outcome:
    """Handle RevokeToken."""
    token = ledger.state.tokens.get(command.id)
    if token is None:
        return Refused(Code.NOT_FOUND, f"there is no token {command.id}")
    token.revoked_ms = token.revoked_ms or ledger.now_ms
    ledger.record("revoke token", command.id, command.reason)
    return Changed((command.id,))


def set_alert(ledger: Ledger, command: SetAlert) -> Outcome:
    """Handle SetAlert."""
    name = f"{command.name}/{command.key}"
    alerts = ledger.state.alerts
    known = alerts.get(name)
    if known is not None and command.active and command.sent and not known.sent:
        known.sent = True
        return Changed((name,))
    if command.active == (known is not None):
        return Changed()
    if command.active:
        alerts[name] = Alert(command.name, command.key, command.detail, ledger.now_ms, command.sent)
        ledger.emit("alert.raised", name, detail=command.detail)
    else:
        del alerts[name]
        ledger.emit("alert.cleared", name)
    return Changed((name,))


def silence_alert(ledger: Ledger, command: SilenceAlert) -> Outcome:
    """Handle SilenceAlert."""
    ledger.state.silences[command.name] = command.until_ms
    ledger.record("silence", command.name, command.reason)
    return Changed((command.name,))
