"""A match log read as people and programs want it: standings with intervals, anchors, and what the tests found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from engine.rating.fit import Fitted, Standing, Ties, fit
from engine.rating.games import RatedGame, config_of, rated
from engine.rating.residuals import PairResidual, WorkerResidual, contamination, intransitivity

PAIRS_SHOWN = 10


class Report(msgspec.Struct, frozen=True):
    """Ratings of one config and the residual tests of the same games."""

    config: str
    model: str
    games: int
    standings: tuple[Standing, ...]
    pinned: dict[str, int]  # thousandths of an Elo point
    second_anchor: Standing | None
    tie: float | None
    converged: bool
    workers: tuple[WorkerResidual, ...]
    pairs: tuple[PairResidual, ...]  # the most surprising ones

    @property
    def warnings(self) -> list[str]:
        """Return a sentence for everything that a person should look at."""
        found = [
            f"worker {each.worker}: its {each.games} games do not agree with all others (p {each.p:.2g}, "
            f"mostly {each.player}, {each.z:+.1f} standard errors)"
            for each in self.workers
            if each.flagged
        ]
        found += [
            f"{each.first} against {each.second}: {each.wins:g} of {each.games:g}, {each.expected:.1f} expected "
            f"(p {each.p:.2g}): no one scale explains these players"
            for each in self.pairs
            if each.flagged
        ]
        if not self.pinned:
            found.append("no pinned player in these games: the scale is the prior's, compare within this table only")
        if not self.converged:
            found.append("the fit did not converge: do not decide by it")
        return found


def report(games: Sequence[RatedGame], *, ties: Ties = "half") -> Report:
    """Rate games of one config and test what is left over; raises RatingError."""
    config = config_of(games)
    fitted: Fitted = fit(games, ties=ties)
    scale = fit(games) if ties == "davidson" else fitted
    return Report(
        config, fitted.model, len(games), fitted.standings(),
        {player: round(1000 * elo) for player, elo in fitted.pinned.items()}, fitted.second_anchor, fitted.tie,
        fitted.converged, contamination(games), intransitivity(games, scale)[:PAIRS_SHOWN],
    )  # fmt: skip


def reports(matches: Iterable[Mapping[str, Any]], config: str = "", *, ties: Ties = "half") -> dict[str, Report]:
    """Rate every config of a match log, or one; each on its own."""
    by_config: dict[str, list[RatedGame]] = {}
    for game in rated(matches, config):
        by_config.setdefault(game.config, []).append(game)
    found = {}
    for name in sorted(by_config):
        found[name] = report(by_config[name], ties=ties)
    return found
