"""Engines of self-play, giving up, and games that do not depend on their neighbours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.data.shards import Shard, load_shard, replay
from engine.nets.evaluator import UniformEvaluator
from engine.players.player import PlayerConfig
from engine.rules.geometry import Geometry, geometry
from engine.selfplay import Selfplay, SelfplaySpec, SelfplaySummary, temperature_at
from engine.selfplay.games import Running

WHERE = geometry("square8", 2)


def spec(kind: str, games: int = 4, **fields: object) -> SelfplaySpec:
    base = {"board": "square8", "players": 2, "player_key": "x", "seed": 4, "batch_games": 3, "simulations_fast": 2}
    player = PlayerConfig(kind, 5)
    return SelfplaySpec(**{**base, "player": player, "games": games, **fields})  # type: ignore[arg-type]


def played(what: SelfplaySpec, folder: Path, evaluator: object) -> tuple[Shard, SelfplaySummary]:
    """Play without a net file; the shard is read back and replayed."""
    run = Selfplay(what, folder, evaluator)  # type: ignore[arg-type]
    while run.step():
        pass
    written = run.flush()
    assert written is not None
    shard = load_shard(written[0])
    replay(shard)
    return shard, run.summary(1.0)


def games_of(shard: Shard) -> dict[int, tuple[int, ...]]:
    """Codes of each game by its seed."""
    ends = np.cumsum(shard.plies)
    return {
        int(seed): tuple(shard.codes[end - plies : end].tolist())
        for seed, plies, end in zip(shard.seeds, shard.plies, ends, strict=True)
    }


@pytest.mark.parametrize("kind", ["heuristic", "gumbel", "mcts", "policy", "mixed"])
def test_every_engine_makes_games_by_the_rules(kind: str, tmp_path: Path) -> None:
    """With targets, and the same ones whatever is played beside them."""
    shard, done = played(spec(kind), tmp_path, UniformEvaluator(WHERE))
    assert done.games == 4
    assert done.positions == shard.meta.positions > 0
    assert (done.evaluations > 0) == (kind != "heuristic")
    again, _ = played(spec(kind, batch_games=1), tmp_path, UniformEvaluator(WHERE))
    assert games_of(again) == games_of(shard)


@pytest.mark.parametrize("kind", ["gumbel", "mcts", "policy", "mixed"])
def test_kept_evaluations_leave_the_games_as_they_are(kind: str, tmp_path: Path) -> None:
    """They only spare some; kept visits make other games by the rules; an unknown way of keeping is refused."""
    fresh, cost = played(spec(kind, keep="nothing"), tmp_path, UniformEvaluator(WHERE))
    kept, less = played(spec(kind, keep="values"), tmp_path, UniformEvaluator(WHERE))
    assert games_of(kept) == games_of(fresh)
    assert np.array_equal(np.sort(kept.targets_prob), np.sort(fresh.targets_prob))
    assert less.evaluations < cost.evaluations or kind == "policy"
    more, _ = played(spec(kind, keep="visits"), tmp_path, UniformEvaluator(WHERE))
    assert more.meta.games == 4
    with pytest.raises(ValueError, match="nothing, values, visits"):
        spec(kind, keep="all")


def test_only_searched_moves_of_a_mixed_game_teach(tmp_path: Path) -> None:
    """A policy or heuristic seat yields no target: there are fewer than in games that search every move."""
    mixed, _ = played(spec("mixed", 12, full_share=1.0), tmp_path, UniformEvaluator(WHERE))
    searched, _ = played(spec("gumbel", 12, full_share=1.0), tmp_path, UniformEvaluator(WHERE))
    assert 0 < mixed.meta.positions / len(mixed.codes) < 0.9 * searched.meta.positions / len(searched.codes)


def test_a_mix_can_be_chosen(tmp_path: Path) -> None:
    """By the player's own shares; a seat that cannot play here is refused."""
    half = PlayerConfig("mixed", 5, mix=((1.0, PlayerConfig("gumbel")), (9.0, PlayerConfig("heuristic"))))
    rare, _ = played(spec("gumbel", 12, player=half, full_share=1.0), tmp_path, UniformEvaluator(WHERE))
    usual, _ = played(spec("mixed", 12, full_share=1.0), tmp_path, UniformEvaluator(WHERE))
    assert rare.meta.positions / len(rare.codes) < usual.meta.positions / len(usual.codes)
    with pytest.raises(ValueError, match="gumbel, policy or heuristic"):
        spec("gumbel", player=PlayerConfig("mixed", mix=((1.0, PlayerConfig("random")),)))


class Certain:
    """Sure that seat 1 wins."""

    def __init__(self, where: Geometry) -> None:
        self.where = where

    def evaluate(self, data: np.ndarray, rows: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> tuple:
        del data, counts
        chances = np.tile(np.array([0.99, 0.01], np.float32), (len(rows), 1))
        return np.zeros(codes.shape, np.float32), chances


def test_who_gives_up_is_played_to_the_end_by_the_policy(tmp_path: Path) -> None:
    """No targets after it, an end by the rules; control games go on, and show how often giving up was wrong."""
    shard, done = played(
        spec("gumbel", 30, resign_below=0.1, control_share=0.4, full_share=1.0), tmp_path, Certain(WHERE)
    )
    assert done.resigned + done.controls == 30
    assert 5 <= done.controls <= 20
    assert 0 < done.controls_wrong < done.controls  # the certainty is unfounded
    [info] = done.shards  # which is what a job adds up
    assert (info.resigned, info.controls, info.controls_wrong) == (done.resigned, done.controls, done.controls_wrong)
    ends = np.cumsum(shard.plies)
    targets = np.bincount(np.searchsorted(ends, shard.targets_ply, side="right"), minlength=30)
    assert (targets == 3).sum() == done.resigned  # what it takes to be sure
    assert (targets > 10).sum() == done.controls


def test_with_three_players_only_a_won_position_names_losers() -> None:
    """A low chance of the one to move does not say who of the others wins; of two players it does."""
    for players, low in ((2, True), (3, False)):
        asked = spec("gumbel", players=players, resign_below=0.1, resign_run=2)
        game = Running(asked, 0, 1)
        assert [game.hopeless(asked, 0, value) for value in (0.01, 0.01)] == [False, low]
        game = Running(asked, 0, 1)
        assert [game.hopeless(asked, 0, value) for value in (0.99, 0.5, 0.99, 0.99)] == [False, False, False, True]
        assert game.loser == 1


def test_nobody_gives_up_unless_told_to(tmp_path: Path) -> None:
    """By default every game is searched to its end."""
    _, done = played(spec("gumbel", 3), tmp_path, Certain(WHERE))
    assert (done.resigned, done.controls) == (0, 0)


def test_settings_that_make_no_sense_are_refused() -> None:
    """Each with what to choose."""
    with pytest.raises(ValueError, match="constant, step"):
        spec("gumbel", temperature="warm")
    with pytest.raises(ValueError, match="heuristic, gumbel"):
        spec("random")
    with pytest.raises(ValueError, match="control"):
        spec("gumbel", resign_below=0.1, control_share=0.0)
    for name, value in (("games", 0), ("simulations_fast", -1), ("opening_plies", -1), ("batch_games", -2),
                        ("temperature_plies", -1), ("full_share", 1.5), ("full_share", float("nan")),
                        ("temperature_start", -1.0), ("temperature_end", float("nan"))):  # fmt: skip
        with pytest.raises(ValueError, match=name):
            spec("gumbel", **{name: value})
    with pytest.raises(ValueError, match="simulations are 0 or more"):
        spec("gumbel", player=PlayerConfig("gumbel", -1))


def test_temperatures() -> None:
    """Every schedule starts hot and ends cool, over moves, over entropy or over games."""
    for name in ("step", "linear", "cosine"):
        what = spec("gumbel", temperature=name)
        assert temperature_at(what, 0, 0.5) == pytest.approx(1.0)
        assert temperature_at(what, 40, 0.5) == pytest.approx(0.25)
    assert temperature_at(spec("gumbel", temperature="constant"), 40, 0.5) == 1.0
    assert temperature_at(spec("gumbel", temperature="entropy"), 0, 1.0) == 0.25
    what = spec("gumbel", 5, temperature="curriculum")
    assert [temperature_at(what, 0, 0.5, game) for game in (0, 4)] == [1.0, 0.25]
