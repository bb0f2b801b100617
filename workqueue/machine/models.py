"""Handlers of commands about models: aliases move by compare-and-set with evidence, and never lose their history."""

from __future__ import annotations

from workqueue.machine.artifacts import add_reference
from workqueue.machine.commands import Evidence, RegisterModel, RejectModel, Rollback, SetAlias
from workqueue.machine.ledger import Ledger
from workqueue.machine.outcomes import AliasSet, Changed, Code, Outcome, Refused
from workqueue.machine.state import AliasStep, Model

CHAMPION = "champion"


def current(ledger: Ledger, alias: str) -> str:
    """Return what an alias points at, empty when at nothing."""
    steps = ledger.state.aliases.get(alias)
    return steps[-1].sha256 if steps else ""


def register_model(ledger: Ledger, command: RegisterModel) -> Outcome:
    """Handle RegisterModel."""
    if "_" not in command.config:
        return Refused(Code.INVALID, "a model needs a config such as square8_2p")
    artifact = ledger.state.artifacts.get(command.sha256)
    if artifact is None:
        return Refused(Code.ARTIFACT_MISSING, f"the weights {command.sha256} are not stored; upload them first")
    if command.sha256 not in ledger.state.models:
        ledger.state.models[command.sha256] = Model(
            command.sha256, command.config, ledger.sharing.raw(command.manifest), artifact.size_bytes,
            command.parents, command.job, created_ms=ledger.now_ms,
        )  # fmt: skip
        add_reference(artifact, f"model:{command.sha256}")
        ledger.record("register model", command.sha256)
    return Changed((command.sha256,))


def set_alias(ledger: Ledger, command: SetAlias) -> Outcome:
    """Handle SetAlias."""
    model = ledger.state.models.get(command.sha256)
    if model is None:
        return Refused(Code.NOT_FOUND, f"there is no model {command.sha256}")
    role, _, config = command.alias.partition("/")
    if not role or model.config != config:
        return Refused(Code.INVALID, f"alias {command.alias} cannot point at a model of {model.config}")
    now = current(ledger, command.alias)
    if now != command.expected:
        return Refused(Code.CONFLICT, f"{command.alias} moved meanwhile; test against {now or 'nothing'}", current=now)
    if now == command.sha256:
        return Refused(Code.CONFLICT, f"{command.alias} points at this model already", current=now)
    if role == CHAMPION and model.status in {"rejected", "revoked"} and command.evidence.rule != "manual":
        return Refused(Code.CONFLICT, f"model {command.sha256} was {model.status}: {model.reason}")
    wrong = unsound(ledger, config, command.evidence, now) if role == CHAMPION else ""
    if wrong:
        return Refused(Code.INVALID, f"the evidence is refused: {wrong}")
    return _move(ledger, command.alias, command.sha256, command.evidence, command.reason)


def unsound(ledger: Ledger, config: str, evidence: Evidence, champion: str) -> str:
    """Return what is wrong with the evidence for a champion, empty when nothing is."""
    if evidence.rule == "manual":
        return "" if evidence.note else "a promotion by hand needs a note that says why"
    if evidence.rule not in {"bootstrap", "sprt"}:
        return f"there is no rule {evidence.rule!r}; use bootstrap, sprt or manual"
    known = [name for name in evidence.match_ids if name in ledger.match_ids]
    if not known or len(known) != len(evidence.match_ids) or len(set(known)) != len(known):
        return "it names matches that are not in the log, or one twice"
    if any(ledger.matches[ledger.match_ids[name]].config != config for name in known):
        return "it names matches of another config"
    if any(ledger.matches[ledger.match_ids[name]].revoked for name in known):
        return "it rests on matches that were revoked"
    below = [name for name, (points, games, bar) in evidence.floors.items() if games <= 0 or points < bar]
    if below:
        return f"it is below the floor against {below[0]}"
    return _of_rule(evidence, champion)


def _of_rule(evidence: Evidence, champion: str) -> str:
    if evidence.rule == "bootstrap":
        if champion:
            return "bootstrap is for a config without a champion"
        return "" if evidence.floors else "bootstrap needs floors"
    if evidence.champion != champion:
        return f"it was tested against {evidence.champion}, the champion is {champion}"
    if evidence.games <= 0 or evidence.wins + evidence.draws + evidence.losses != evidence.games:
        return "wins, draws and losses do not add up to games"
    if evidence.bound_milli <= 0 or evidence.llr_milli < evidence.bound_milli:
        return "the sequential test did not reach its bound"
    return ""


def _move(ledger: Ledger, alias: str, sha: str, evidence: Evidence, reason: str) -> AliasSet:
    state = ledger.state
    previous = current(ledger, alias)
    state.aliases.setdefault(alias, []).append(AliasStep(sha, state.now_ms, ledger.actor, evidence, reason))
    if alias.startswith(f"{CHAMPION}/"):
        if previous in state.models:
            state.models[previous].status = "retired"
        model = state.models[sha]
        model.status, model.evidence, model.reason = "champion", evidence, reason
        ledger.emit("model.promoted", sha, alias=alias, previous=previous, rule=evidence.rule)
    ledger.record(f"set {alias}", sha, reason or evidence.rule)
    return AliasSet(alias, sha, previous)


def rollback(ledger: Ledger, command: Rollback) -> Outcome:
    """Handle Rollback: to the last other model that the alias pointed at before."""
    steps = ledger.state.aliases.get(command.alias, [])
    now = current(ledger, command.alias)
    if now != command.expected:
        return Refused(Code.CONFLICT, f"{command.alias} moved meanwhile", current=now)
    models = ledger.state.models
    earlier = (step.sha256 for step in reversed(steps) if step.sha256 != now)
    target = next((sha for sha in earlier if models[sha].status not in {"rejected", "revoked"}), "")
    if not target:
        return Refused(Code.NOT_FOUND, f"{command.alias} has no earlier model to go back to")
    moved = _move(ledger, command.alias, target, command.evidence, command.reason)
    model = models[now]
    if model.status != CHAMPION:  # another alias than the champion's may go back while it names the champion
        model.status, model.reason = "rejected", f"rolled back: {command.reason}"
    ledger.emit("model.rolled_back", now, alias=command.alias, to=target, reason=command.reason)
    return moved


def reject_model(ledger: Ledger, command: RejectModel) -> Outcome:
    """Handle RejectModel."""
    model = ledger.state.models.get(command.sha256)
    if model is None:
        return Refused(Code.NOT_FOUND, f"there is no model {command.sha256}")
    if model.status == "champion":
        return Refused(Code.CONFLICT, "this model is the champion; roll back instead")
    model.status, model.evidence, model.reason = "rejected", command.evidence, command.reason
    ledger.record("reject model", command.sha256, command.reason)
    return Changed((command.sha256,))
