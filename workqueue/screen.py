"""The live screen of `rift up` and `rift status`: the /status document as one page of tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from workqueue.standing import standing

if TYPE_CHECKING:
    from collections.abc import Sequence

_RUNNING_MAX = 12


def share_done(progress: object) -> float:
    """Return how much of a job is done, 0 to 1, from whichever pair of counters its kind reports."""
    if not isinstance(progress, dict):
        return 0.0
    for done, total in (("done", "total"), ("games", "games_total"), ("step", "steps"), ("games", "of")):
        part, whole = progress.get(done), progress.get(total)
        if isinstance(part, int | float) and isinstance(whole, int | float) and whole > 0:
            return min(1.0, part / whole)
    return 0.0


def line(document: dict[str, Any]) -> str:
    """Return the document as one line for a log."""
    consensus, state = document["consensus"], document["state"]
    jobs = {name: sum(kinds.values()) for name, kinds in state["jobs"].items()}
    parts = [
        f"leader={consensus['leader'] or '-'} term={consensus['term']} commit={consensus['commit_index']}",
        f"workers={sum(worker['live'] for worker in state['workers'])}",
        " ".join(f"{name}={count}" for name, count in sorted(jobs.items())) or "no jobs",
    ]
    for config in state["configs"]:
        champion = config["champion"][:10] or "-"
        parts.append(
            f"{config['config']}: games={config['games']} loss={config['loss_milli'] / 1000:.3f} "
            f"champion={champion} elo={config['elo_milli'] // 1000}"
        )
    return " | ".join(parts)


def page(document: dict[str, Any], url: str = "") -> Group:
    """Return the document as tables."""
    consensus, state = document["consensus"], document["state"]
    up = sum(voter["reachable"] for voter in consensus["voters"])
    head = Text(
        f"leader {consensus['leader'] or 'none'}  term {consensus['term']}  commit {consensus['commit_index']}  "
        f"voters {up}/{len(consensus['voters'])}",
        style="bold" if consensus["ready"] else "bold red",
    )
    members = Text("  ".join(f"{v['id']} {'up' if v['reachable'] else 'DOWN'}" for v in consensus["voters"]))
    parts: list[Any] = [head, members, _queue(state["jobs"]), _running(state["running"]), _workers(state["workers"])]
    parts += [_configs(state["configs"]), *(_elo(name, rows) for name, rows in state["elo"].items())]
    parts += [Text(f"alert {a['name']} {a['key']}: {a['detail']}", style="red") for a in state["alerts"]]
    parts += [Text(f"halted {h['scope']}: {h['reason']}", style="yellow") for h in state["halts"]]
    if url:
        parts.append(Text(f"status page {url}/dashboard   Ctrl-C drains and stops", style="dim"))
    return Group(*parts)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _queue(jobs: dict[str, dict[str, int]]) -> Table:
    kinds = sorted({kind for counts in jobs.values() for kind in counts})
    table = _table("queue", ("state", *kinds))
    for state, counts in sorted(jobs.items()):
        table.add_row(state, *(str(counts.get(kind, 0)) for kind in kinds))
    return table


def _running(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table(f"running, {games_a_second(rows):.1f} games/s", ("job", "kind", "config", "worker", "progress", ""))
    for row in rows[:_RUNNING_MAX]:
        bar = ProgressBar(total=1.0, completed=share_done(row["progress"]), width=24)
        table.add_row(row["id"], row["kind"], row["config"], row["worker"], bar, counters(row["progress"]))
    return table


def counters(progress: object) -> str:
    """Return what a job reports, in a few words."""
    if not isinstance(progress, dict):
        return ""
    shown = [f"{progress['done']}/{progress['total']}"] if {"done", "total"} <= progress.keys() else []
    shown += [f"{name} {progress[name]}" for name in ("games_s", "loss", "policy", "value") if name in progress]
    return "  ".join(shown)


def games_a_second(rows: Sequence[dict[str, Any]]) -> float:
    """Return the games a second of all self-play jobs that run."""
    rates = [row["progress"].get("games_s", 0) for row in rows if isinstance(row["progress"], dict)]
    return float(sum(rate for rate in rates if isinstance(rate, int | float)))


def _workers(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("workers", ("worker", "state", "running", "completed", "failed"))
    for row in rows:
        table.add_row(row["id"], standing(row), str(len(row["running"])), str(row["completed"]), str(row["failed"]))
    return table


def _configs(rows: Sequence[dict[str, Any]]) -> Table:
    table = _table("loop", ("config", "games", "new", "trainings", "loss", "matches", "champion", "elo", "promotions"))
    for row in rows:
        table.add_row(
            row["config"], str(row["games"]), str(row["games_new"]), str(row["trainings"]),
            f"{row['loss_milli'] / 1000:.3f}", str(row["matches"]), row["champion"][:10] or "-",
            str(row["elo_milli"] // 1000), str(row["promotions"]),
        )  # fmt: skip
    return table


def _elo(config: str, rows: Sequence[dict[str, Any]]) -> Table:
    table = _table(f"ratings {config}", ("player", "elo", "games"))
    for row in rows:
        digest, _, rest = row["player"].partition(":")
        table.add_row(f"{digest[:10]}:{rest}", str(row["elo_milli"] // 1000), str(row["games"]))
    return table
