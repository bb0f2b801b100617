"""Nets, search, players, self-play and matches: what each promises, at the smallest sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engine.data.shards import ShardError, load_shard, read_shard, replay
from engine.nets.encoder import PLANES, SCALARS, encode_rows, frame_of_cell
from engine.nets.evaluator import NetEvaluator, UniformEvaluator, absolute
from engine.nets.net import Net
from engine.nets.store import Manifest, ModelError, dump, parse, read_manifest, transfer
from engine.players.player import HeuristicPlayer, PlayerConfig, legal_of, make
from engine.rules import layout as lay
from engine.rules.batch import GameBatch
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import is_over
from engine.rules.symmetry import exact_symmetries, symmetries, turn_codes, turn_state
from engine.search.gumbel import GumbelSearch, halving
from engine.selfplay import SelfplaySpec, play
from engine.tournament.pairing import lineups
from engine.tournament.play import MatchSpec, points, seatings
from engine.tournament.play import play as play_match

CONFIGS = [("square8", 2), ("hex8", 3), ("square8", 4)]


def positions(where: Geometry, games: int = 12, plies: int = 25) -> tuple[np.ndarray, np.ndarray]:
    batch = GameBatch(where, games)
    batch.random_playouts(3, plies)
    return batch.data, np.flatnonzero(~batch.over).astype(np.int32)


def planes_of(data: np.ndarray, rows: np.ndarray, where: Geometry) -> tuple[np.ndarray, np.ndarray]:
    planes = np.empty((len(rows), PLANES, where.size**2), np.float32)
    scalars = np.empty((len(rows), SCALARS), np.float32)
    encode_rows(data, rows, where.tables, planes, scalars)
    return planes, scalars


# ---- encoder


@pytest.mark.parametrize(("board", "players"), CONFIGS)
def test_planes_show_the_cells(board: str, players: int) -> None:
    """Each cell's owner and kind are on the plane of the seat relative to the player to move."""
    where = geometry(board, players)
    data, rows = positions(where)
    planes, scalars = planes_of(data, rows, where)
    squares = where.tables.table[lay.T_SQUARE : lay.T_SQUARE + where.cells]
    frame = frame_of_cell(where)
    for k, row in enumerate(rows):
        words = data[row, squares]
        relative = ((words & 7) - data[row, lay.PLAYER]) % players
        for first, kind in ((1, lay.STACK), (5, lay.MARKER), (9, lay.COLLAPSED)):
            held = ((words & kind) > 0) & ((words & 7) > 0)
            for seat in range(players):
                assert (planes[k, first + seat, frame] == (held & (relative == seat))).all()
        assert planes[k, 0].sum() == where.cells
        assert scalars[k, :9].sum() == 1.0


@pytest.mark.parametrize(("board", "players"), CONFIGS)
def test_a_turned_position_has_turned_planes(board: str, players: int) -> None:
    """Encoding and symmetry commute."""
    where = geometry(board, players)
    data, rows = positions(where)
    frame = frame_of_cell(where)
    planes, scalars = planes_of(data, rows, where)
    for k in exact_symmetries(board)[1:3]:
        turned = np.stack([turn_state(data[row], where, k) for row in rows])
        again, same = planes_of(turned, np.arange(len(rows), dtype=np.int32), where)
        assert (again[:, :, frame[symmetries(board)[k]]] == planes[:, :, frame]).all()
        assert (same == scalars).all()


# ---- nets


def test_values_are_turned_to_seats() -> None:
    """The chance of relative seat 0 belongs to the player to move."""
    relative = np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1]], np.float32)
    seats = absolute(relative, np.array([1, 3], np.int32))
    assert np.allclose(seats, [[0.7, 0.2, 0.1], [0.2, 0.1, 0.7]])


def test_weights_carry_their_manifest_and_fail_closed() -> None:
    """What fits is loaded; other boards, changed bytes and values that are no numbers are refused."""
    where = geometry("square8", 2)
    net = Net(where, 8, 1)
    data = dump(net, Manifest("square8", 2, "8x1"))
    assert dump(net, Manifest("square8", 2, "8x1")) == data
    assert read_manifest(data).size == "8x1"
    parse(data, where)
    with pytest.raises(ModelError, match="plays square8"):
        parse(data, geometry("hex8", 2))
    for bad in (data[:-10], b"junk", data.replace(b"8x1", b"8x2")):
        with pytest.raises(ModelError):
            parse(bad, where)
    with torch.no_grad():
        net.value.bias[0] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        parse(dump(net, Manifest("square8", 2, "8x1")), where)


def test_transfer_copies_what_has_its_like() -> None:
    """From two players to three everything but the heads of values carries over."""
    source, target = Net(geometry("square8", 2), 8, 1), Net(geometry("square8", 3), 8, 1)
    copied = transfer(source, target)
    assert "stem.weight" in copied
    assert "policy.weight" in copied
    assert "value.weight" not in copied
    assert torch.equal(target.stem.weight, source.stem.weight)


# ---- search


def test_halving_shares_the_simulations() -> None:
    """Sixteen moves, then eight, four, two; every simulation is used, and visits grow one by one."""
    due = halving(16, 32)
    assert list(due[:16]) == [0] * 16
    assert len(due) == 32
    assert list(halving(2, 6)) == [0, 0, 1, 1, 2, 2]
    assert list(halving(1, 3)) == [0, 1, 2]


class OneMove:
    """Says that one code of a position wins; all else is even."""

    def __init__(self, where: Geometry, code: int) -> None:
        self.where, self.code = where, code

    def evaluate(self, data: np.ndarray, rows: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> tuple:
        del counts
        chances = np.full((len(rows), self.where.players), 1 / self.where.players, np.float32)
        return np.where(codes == self.code, 3.0, 0.0).astype(np.float32), chances


@pytest.mark.parametrize(("board", "players"), CONFIGS)
def test_search_follows_a_clear_policy_and_its_target_is_one(board: str, players: int) -> None:
    """The improved policy sums to one over the legal codes and prefers what the policy prefers."""
    where = geometry(board, players)
    data, rows = positions(where)
    codes, counts = legal_of(data, rows, where)
    open_rows = counts > 1
    rows, codes = rows[open_rows], codes[open_rows]
    best = int(codes[0, 0])
    found = GumbelSearch(OneMove(where, best), len(rows), 8).run(data, rows, 8, None)
    assert np.allclose(found.policy.sum(1), 1.0, atol=1e-4)
    assert found.codes[0] == best
    assert all(found.codes[k] in codes[k, : found.counts[k]] for k in range(len(rows)))


def winning(where: Geometry) -> tuple[np.ndarray, int]:
    """Return a position in which the player to move can win at once, and its seat: the last choice of a random game."""
    rng = np.random.default_rng(5)
    for _ in range(200):
        batch = GameBatch(where, 1)
        last = batch.data.copy()
        while not batch.over[0]:
            codes, counts = legal_of(batch.data, np.zeros(1, np.int32), where)
            if counts[0] > 1:
                last = batch.data.copy()
            batch.apply(codes[:, int(rng.integers(0, counts[0]))])
        if int(last[0, lay.PLAYER]) == int(batch.winners[0]):
            return last, int(batch.winners[0])
    raise AssertionError("no such game was played")


@pytest.mark.parametrize("players", [2, 3])
def test_a_win_at_once_is_found(players: int) -> None:
    """Without any knowledge the search finds a winning move, and its value is the mover's own, never another's."""
    where = geometry("square8", players)
    data, seat = winning(where)
    _, counts = legal_of(data, np.zeros(1, np.int32), where)
    search = GumbelSearch(UniformEvaluator(where), 1, 200, considered=200)
    found = search.run(data, np.zeros(1, np.int32), max(64, 2 * int(counts[0])), None)
    after = GameBatch(where, 1)
    after.data[0] = data[0]
    after.apply(found.codes)
    for _ in range(5):
        if is_over(after.data[0]):
            break
        codes, left = legal_of(after.data, np.zeros(1, np.int32), where)
        assert left[0] == 1
        after.apply(codes[:1, 0])
    assert int(after.data[0, lay.WINNER]) == seat
    assert found.value[0] > 1 / players


# ---- players, self-play, matches


def test_the_heuristic_beats_chance() -> None:
    """Far above an even score."""
    where = geometry("square8", 2)
    players = [HeuristicPlayer(where), make(PlayerConfig("random"), where)]
    games = play_match(MatchSpec(board="square8", players=2, games=60, seed=2), players, ["h", "r"])
    won, count = points(games, 0)
    assert won / count > 0.7


def test_unknown_players_are_refused() -> None:
    """With the names of those that exist."""
    with pytest.raises(ValueError, match="choose one of random"):
        make(PlayerConfig("clever"), geometry("square8", 2))
    with pytest.raises(ValueError, match="needs the weights"):
        make(PlayerConfig("gumbel", 8), geometry("square8", 2))


def test_everyone_sits_everywhere_equally() -> None:
    """Rotations of each line-up, for two to four players and fewer entrants than seats."""
    for players in (2, 3, 4):
        for lineup in lineups("gauntlet", 3, players):
            tables = seatings(lineup)
            assert len(tables) == players
            assert {table.index(0) for table in tables} == set(range(players))
    assert lineups("round_robin", 3, 2) == [(0, 1), (0, 2), (1, 2)]


def spec(games: int = 6, **fields: object) -> SelfplaySpec:
    base = {"board": "square8", "players": 2, "player": PlayerConfig("heuristic"), "player_key": "none:heuristic:-"}
    return SelfplaySpec(**{**base, "games": games, "seed": 4, "batch_games": 3, **fields})  # type: ignore[arg-type]


def test_equal_seeds_give_equal_shards(tmp_path: Path) -> None:
    """To the byte, and other seeds give others."""
    names = []
    for k, seed in enumerate((4, 4, 5)):
        (tmp_path / str(k)).mkdir()
        names.append(play(spec(seed=seed), tmp_path / str(k)).shards[0].sha256)
    assert names[0] == names[1] != names[2]


def test_a_net_plays_and_its_targets_are_policies(tmp_path: Path) -> None:
    """Only fully searched moves become targets; every target names legal codes and sums to one."""
    where = geometry("square8", 2)
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(dump(Net(where, 8, 1), Manifest("square8", 2, "8x1")))
    done = play(
        spec(3, player=PlayerConfig("gumbel", 6), simulations_fast=2, full_share=0.3), tmp_path, weights=weights
    )
    shard = load_shard(tmp_path / f"{done.shards[0].sha256}.npz")
    assert 0 < shard.meta.positions < len(shard.codes) // 2
    states, _ = replay(shard)
    codes, counts = legal_of(states, np.arange(len(states), dtype=np.int32), where)
    start = 0
    for k, n in enumerate(shard.targets_count):
        assert set(shard.targets_code[start : start + n]) <= set(codes[k, : counts[k]])
        assert abs(float(shard.targets_prob[start : start + n].sum()) - 1) < 0.01
        start += n
    assert ((shard.targets_value >= 0) & (shard.targets_value <= 1)).all()


def test_a_damaged_shard_is_refused(tmp_path: Path) -> None:
    """Cut, changed, or with a move or result that the rules do not allow."""
    done = play(spec(), tmp_path)
    data = (tmp_path / f"{done.shards[0].sha256}.npz").read_bytes()
    for bad in (data[:-30], b"", data[:100] + b"\x00" * 50 + data[150:]):
        with pytest.raises(ShardError):
            replay(read_shard(bad))
    shard = read_shard(data)
    shard.codes[40] = (shard.codes[40] + 1) % shard.where.tables.policy_size
    with pytest.raises(ShardError, match="does not follow the rules"):
        replay(shard)
    shard = read_shard(data)
    shard.ranks[2] = shard.ranks[2][::-1]
    with pytest.raises(ShardError, match="game 2"):
        replay(shard)


def test_turned_codes_stay_legal() -> None:
    """What training does to a sample is another legal position of the same game."""
    where = geometry("square8", 2)
    data, rows = positions(where)
    codes, counts = legal_of(data, rows, where)
    for k, row in enumerate(rows[:5]):
        images = turn_codes(data[row], where, codes[k, : counts[k]], 3)
        turned = turn_state(data[row], where, 3)[None]
        legal, n = legal_of(turned, np.zeros(1, np.int32), where)
        assert set(images) == set(legal[0, : n[0]])


def test_evaluation_does_not_depend_on_the_batch() -> None:
    """A position has the same answer alone and among others."""
    where = geometry("hex8", 2)
    data, rows = positions(where)
    codes, counts = legal_of(data, rows, where)
    torch.manual_seed(1)
    evaluator = NetEvaluator(Net(where, 8, 1), where)
    logits, values = evaluator.evaluate(data, rows, codes, counts)
    alone, value = evaluator.evaluate(data, rows[2:3], codes[2:3], counts[2:3])
    n = counts[2]
    assert np.allclose(logits[2, :n], alone[0, :n], atol=1e-4)
    assert np.allclose(values[2], value[0], atol=1e-4)
    assert np.allclose(values.sum(1), 1, atol=1e-5)
