"""What the recorded matches say of a model: games against the champion and against the baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from config.loop import LoopSettings
    from workqueue.client import Client
    from workqueue.machine.commands import Evidence
    from workqueue.machine.views import Match

PAGE = 5_000


class Recorded(msgspec.Struct, frozen=True):
    """Evidence from the match log; points are the model's, in thousandths a game."""

    model: str
    champion: str
    config: str
    games: int  # against the champion
    wins: int
    draws: int
    losses: int
    points_milli: int
    llr_milli: int
    bound_milli: int
    verdict: str  # of the sequential test: "accept", "reject" or "undecided"
    floors: dict[str, tuple[int, int, int]]  # baseline -> (points, games, what is needed)
    match_ids: tuple[str, ...]  # of the games against the champion


def owner(seat: str) -> str:
    """Return the model of a player key, "none" for a player without one."""
    return seat.split(":", 1)[0]


def recorded(matches: Sequence[Match], model: str, champion: str, config: str, settings: LoopSettings) -> Recorded:
    """Return what valid matches of a config say; every search budget of the two models counts."""
    from workqueue.duties.gate import bars
    from workqueue.duties.priority import parts
    from workqueue.sequential import Observed, judge, points_of

    players = parts(config)[1]
    own = [match for match in matches if not match.revoked and model in map(owner, match.seats)]
    duels = [match for match in own if champion and champion != model and champion in map(owner, match.seats)]
    points = [points_of(model, [owner(seat) for seat in match.seats], match.ranks) for match in duels]
    observed = [Observed(f"{m.job}/{m.opening}", point) for m, point in zip(duels, points, strict=True)]
    gate = settings.gate
    verdict = judge(observed, players, elo0=gate.elo0, elo1=gate.elo1)
    floors = {}
    for baseline, bar in bars(settings, players, bootstrap=not champion).items():
        met = [match for match in own if baseline in match.seats]
        total = sum(points_of(model, [owner(seat) for seat in match.seats], match.ranks) for match in met)
        floors[baseline] = (round(1000 * total / len(met)) if met else 0, len(met), bar)
    wins, losses = sum(point == 1 for point in points), sum(point == 0 for point in points)
    share = round(1000 * sum(points) / len(points)) if points else 0
    return Recorded(
        model, champion, config, len(duels), wins, len(duels) - wins - losses, losses, share,
        round(1000 * verdict.llr), round(1000 * verdict.upper),
        verdict.verdict, floors, tuple(match.id for match in duels),
    )  # fmt: skip


async def look(client: Client, model: str, champion: str, config: str) -> Recorded:
    """Read the matches of a config and return what they say."""
    from workqueue.duties.improve import settings_of
    from workqueue.machine.views import Match, SettingsView

    settings = settings_of(await client.query_as(SettingsView, "settings"))
    matches: list[Match] = []
    while True:
        page = await client.query_as(tuple[Match, ...], "matches", config=config, limit=PAGE, offset=len(matches))
        matches += page
        if len(page) < PAGE:
            return recorded(matches, model, champion, config, settings)


def as_evidence(found: Recorded, note: str) -> Evidence:
    """Return it as a promotion by hand carries it."""
    from workqueue.machine.commands import Evidence

    return Evidence(
        "manual", found.champion, found.match_ids, found.games, found.wins, found.draws, found.losses, found.llr_milli,
        found.bound_milli, found.floors, note,
    )  # fmt: skip


def lines(found: Recorded) -> list[str]:
    """Return it in sentences."""
    if not found.champion:
        said = [f"{found.config} has no champion"]
    elif not found.games:
        said = [f"no recorded game against the champion {found.champion[:10]}"]
    else:
        said = [
            f"against the champion {found.champion[:10]}: {found.games} games, {found.wins} won, {found.draws} drawn, "
            f"{found.losses} lost, {found.points_milli / 10:.1f} % of the points",
            f"sequential test: {found.verdict}, log-likelihood ratio {found.llr_milli / 1000:.2f} of "
            f"{found.bound_milli / 1000:.2f} needed",
        ]
    for name, (points, games, bar) in found.floors.items():
        met = f"{points / 10:.1f} % of the points in {games} games" if games else "no recorded game"
        said.append(f"against {name}: {met}, {bar / 10:.1f} % are needed")
    return said


def summary(found: Recorded) -> dict[str, Any]:
    """Return it for programs."""
    plain: dict[str, Any] = msgspec.to_builtins(found)
    return plain
