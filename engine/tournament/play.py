"""Matches: the same random openings for every seating, so that luck of the opening and of the seat cancels out."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Sequence, Set

import msgspec
import numpy as np

from engine.players.player import Player, legal_of
from engine.rules import layout as lay
from engine.rules.batch import GameBatch
from engine.rules.cells import Words
from engine.rules.game import Game, Rules
from engine.rules.geometry import Geometry, geometry
from engine.rules.kernels import is_over, ranks
from engine.rules.records import GameRecord, Provenance
from engine.tournament.pairing import ADAPTIVE, next_round

SIDE_BY_SIDE = 64

REDRAWS = 20  # of an opening that another set has


class MatchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to play: sets of games, one for each opening, in which every seating occurs once. Formats: see pairing."""

    board: str
    players: int
    games: int
    seed: int
    variant: str = "spec"
    opening_plies: int = 6
    format: str = "round_robin"
    node: str = ""
    job: str = ""


class PlayedGame(msgspec.Struct, frozen=True):
    """A finished game. `seats` are places in the list of players."""

    id: str
    seats: tuple[int, ...]
    ranks: tuple[int, ...]
    plies: int
    reason: str
    opening: str
    record: bytes


def seatings(lineup: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the rotations of a line-up that differ: every player sits in every seat equally often."""
    n = len(lineup)
    return list(dict.fromkeys(lineup[k:] + lineup[:k] for k in range(n)))


class _Set:
    """An opening that no round before had, as long as there are enough, and the seatings that play it."""

    def __init__(self, spec: MatchSpec, where: Geometry, number: int, lineup: tuple[int, ...], taken: Set[str]) -> None:
        self.lineup = lineup
        text = ""
        for attempt in range(REDRAWS):
            self._draw(spec, where, [spec.seed, number, attempt] if attempt else [spec.seed, number])
            text = f"{spec.board}/{spec.players}/{spec.variant}/{self.codes}"
            self.name = _name(text)
            if self.name not in taken:
                break
        else:  # there are few openings: this set plays one again, under a name of its own
            self.name = _name(f"{text}/{number}")

    def _draw(self, spec: MatchSpec, where: Geometry, seed: list[int]) -> None:
        rng = np.random.default_rng(seed)
        self.batch = GameBatch(where, 1)
        self.codes: list[int] = []
        plies = int(rng.integers(spec.opening_plies // 2, spec.opening_plies + 1)) if spec.opening_plies else 0
        while len(self.codes) < plies and not is_over(self.batch.data[0]):
            codes, counts = legal_of(self.batch.data, np.zeros(1, np.int32), where)
            self.codes.append(int(codes[0, rng.integers(0, counts[0])]))
            self.batch.apply(np.array(self.codes[-1:], np.int32))


def _name(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_Waiting = tuple[_Set, list[tuple[int, ...]]]


class Match:
    """Games side by side among players."""

    def __init__(self, spec: MatchSpec, players: Sequence[Player], keys: Sequence[str]) -> None:
        self.spec, self.players, self.keys = spec, players, keys
        self.where = geometry(spec.board, spec.players, spec.variant)
        self.start = Game.new(spec.board, spec.players, Rules(variant=spec.variant))

    def rounds(self, played: Sequence[PlayedGame]) -> Iterator[list[_Waiting]]:
        """Yield rounds of openings with their seatings until there are enough games; `played` grows meanwhile."""
        spec, games = self.spec, 0
        taken: set[str] = set()
        for number in itertools.count():
            table = next_round(spec.format, len(self.players), spec.players, played, spec.seed)
            due = [(_Set(spec, self.where, number, lineup, taken), seatings(lineup)) for lineup in table]
            taken |= {each.name for each, _ in due}  # line-ups of one round share their opening
            yield due
            games += sum(len(tables) for _, tables in due)
            if games >= spec.games:
                return

    def play_sets(self, chosen: list[_Waiting]) -> list[PlayedGame]:
        """Play whole sets side by side."""
        seats = [seating for _, tables in chosen for seating in tables]
        sets = [each for each, tables in chosen for _ in tables]
        batch = GameBatch(self.where, len(seats))
        codes = [list(each.codes) for each in sets]
        for k, each in enumerate(sets):
            batch.data[k] = each.batch.data[0]
        table = np.array(seats, np.int32)
        # One generator a set: how a game goes does not depend on what is played beside it.
        rng = np.random.default_rng([self.spec.seed, int(sets[0].name[:8], 16)])
        while True:
            live = np.flatnonzero(~batch.over).astype(np.int32)
            if not len(live):
                break
            chosen_codes = self._choose(batch, live, table, rng)
            batch.apply(chosen_codes)
            for k in live.tolist():
                codes[k].append(int(chosen_codes[k]))
        return [self._played(batch.data[k], seats[k], sets[k], codes[k]) for k in range(len(seats))]

    def _choose(self, batch: GameBatch, live: Words, table: Words, rng: np.random.Generator) -> Words:
        chosen = np.full(len(batch), -1, np.int32)
        legal, counts = legal_of(batch.data, live, self.where)
        forced = counts == 1
        chosen[live[forced]] = legal[forced, 0]
        rows = live[~forced]
        who = table[rows, batch.data[rows, lay.PLAYER] - 1]
        for number, player in enumerate(self.players):
            mine = rows[who == number]
            if len(mine):
                chosen[mine] = player.choose(batch.data, mine, rng)
        return chosen

    def _played(self, state: Words, seats: tuple[int, ...], of: _Set, codes: list[int]) -> PlayedGame:
        found = np.zeros(self.spec.players, np.int32)
        ranks(state, found)
        names = tuple(self.keys[k] for k in seats)
        models = tuple(name.split(":", 1)[0] for name in names)
        record = GameRecord.of(
            self.start, codes, Provenance(models=models, seed=self.spec.seed, node=self.spec.node, job=self.spec.job)
        )
        identity = hashlib.sha256("/".join((of.name, str(self.spec.seed), *names)).encode()).hexdigest()[:24]
        return PlayedGame(
            identity, seats, tuple(int(r) for r in found), len(codes), record.result.reason, of.name, record.to_bytes()
        )


def play(
    spec: MatchSpec,
    players: Sequence[Player],
    keys: Sequence[str],
    *,
    progress: Callable[[dict[str, object]], None] = lambda _: None,
    should_stop: Callable[[list[PlayedGame]], bool] = lambda _: False,
    side_by_side: int = SIDE_BY_SIDE,
) -> list[PlayedGame]:
    """Play sets until there are enough games, or `should_stop` says so of the games so far; always whole sets."""
    match = Match(spec, players, keys)
    done: list[PlayedGame] = []
    waiting: list[_Waiting] = []
    for due in match.rounds(done):
        for each in due:
            waiting.append(each)
            full = sum(len(tables) for _, tables in waiting) >= side_by_side
            if full or (each is due[-1] and spec.format in ADAPTIVE):
                done += match.play_sets(waiting)
                waiting = []
                progress({"done": len(done), "total": spec.games})
                if should_stop(done):
                    return done
    if waiting:
        done += match.play_sets(waiting)
        progress({"done": len(done), "total": spec.games})
    return done


def points(games: Sequence[PlayedGame], player: int) -> tuple[float, int]:
    """Return the points of a player (1 a win, shared when first is shared) and the games it played."""
    total, count = 0.0, 0
    for game in games:
        if player not in game.seats:
            continue
        count += 1
        first = [seat for seat, rank in zip(game.seats, game.ranks, strict=True) if rank == 1]
        total += first.count(player) / len(first)
    return total, count


def pack_records(games: Sequence[PlayedGame]) -> bytes:
    """Return the records of games as one file: a msgpack array of game files, in order."""
    return msgspec.msgpack.encode([game.record for game in games])


def unpack_records(data: bytes) -> list[bytes]:
    """Return the game files of such a file; raises msgspec.MsgspecError."""
    return msgspec.msgpack.decode(data, type=list[bytes])
