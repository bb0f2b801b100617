"""`rift gate`: the promotion test on this machine, for pull requests: floors first, then the sequential test."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.etree import ElementTree as Xml

import msgspec
import typer

from workqueue.cli.context import REFUSED, USAGE, ask, call, fail
from workqueue.cli.engine import part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from config.loop import LoopSettings
    from workqueue.sequential import Verdict

app = typer.Typer(help="Test a candidate against a champion, for a pull request.")
PASS, FAIL = "pass", "fail"


class Check(msgspec.Struct, frozen=True):
    """One part of the test."""

    name: str
    passed: bool
    detail: str
    games: int = 0
    seconds: float = 0.0
    skipped: bool = False


class Gate(msgspec.Struct, frozen=True):
    """What was tested, what came out, and the games that show it."""

    verdict: str  # "pass", "fail"
    config: str
    candidate: str
    against: str
    checks: tuple[Check, ...]
    llr: float
    bounds: tuple[float, float]
    settings: dict[str, Any]
    games: tuple[dict[str, Any], ...]


class Arena:
    """Plays the candidate against others on this machine."""

    def __init__(self, candidate: Path, simulations: int, device: str, seed: int) -> None:
        store = part("nets.store")
        try:
            manifest = store.read_manifest(candidate.read_bytes())
            self.where = manifest.geometry()
            self.me = self.net(candidate, simulations, device)
        except (OSError, ValueError, store.ModelError) as error:
            fail(f"{candidate} cannot be tested: {error}", USAGE)
        self.board, self.players, self.variant = manifest.board, manifest.players, manifest.variant
        self.sha = store.digest(candidate.read_bytes())
        self.seed = seed
        self.games: list[dict[str, Any]] = []

    def net(self, weights: Path, simulations: int, device: str) -> Any:
        """Return a player with a net; raises ModelError for weights of another board."""
        module = part("players.player")
        return module.make(module.PlayerConfig("gumbel", simulations), self.where, weights, device)

    def baseline(self, kind: str) -> Any:
        """Return a player without a net."""
        module = part("players.player")
        return module.make(module.PlayerConfig(kind), self.where)

    def meet(self, other: Any, key: str, games: int, should_stop: Callable[[Sequence[Any]], bool]) -> list[Any]:
        """Play the candidate against another; whole sets."""
        module, shown = part("tournament.play"), part("progress")
        spec = module.MatchSpec(
            board=self.board, players=self.players, variant=self.variant, games=games, seed=self.seed, format="gauntlet"
        )
        mine = f"{self.sha}:candidate"
        with shown.progress() as progress:
            played: list[Any] = module.play(
                spec, [self.me, other], [mine, key], progress=shown.bar(progress, key[:24], games),
                should_stop=should_stop, side_by_side=32,
            )  # fmt: skip
        self.games += [
            {
                "id": game.id, "config": f"{self.board}_{self.players}p", "opening": game.opening,
                "seats": [(mine, key)[seat] for seat in game.seats], "ranks": list(game.ranks), "plies": game.plies,
            }
            for game in played
        ]  # fmt: skip
        return played


@app.callback(invoke_without_command=True)
def gate(
    candidate: Annotated[Path, typer.Option(help="The candidate's model.safetensors.")],
    against: Annotated[str, typer.Option(help="champion (of the cluster), or a model.safetensors.")] = "champion",
    json: Annotated[Path | None, typer.Option(help="Write the result with all games as JSON here.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report here.")] = None,
    simulations: Annotated[int | None, typer.Option(min=1, help="Simulations a move.")] = None,
    floor_games: Annotated[int | None, typer.Option(min=2, help="Games against each baseline.")] = None,
    floor_random: Annotated[float | None, typer.Option(min=0, max=100, help="% needed against random.")] = None,
    floor_heuristic: Annotated[float | None, typer.Option(min=0, max=100, help="% against the heuristic.")] = None,
    elo0: Annotated[int | None, typer.Option(help="Fail when it is shown to be no stronger than this.")] = None,
    elo1: Annotated[int | None, typer.Option(help="Pass when it is shown to be as strong as this.")] = None,
    games_max: Annotated[int | None, typer.Option(min=2, help="Undecided after that many games: fail.")] = None,
    seed: Annotated[int, typer.Option(help="Equal seeds give equal games.")] = 1,
    device: Annotated[str, typer.Option(help="cpu or cuda:0.")] = "cpu",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the nets.")] = 2,
) -> None:
    """Run the test; exit code 0 when the candidate passes, 1 when it fails, 2 for bad input."""
    settings = _settings(against)
    wanted = {
        "simulations": simulations, "floor_games": floor_games, "elo0": elo0, "elo1": elo1, "games_max": games_max,
    }  # fmt: skip
    chosen = msgspec.structs.replace(settings.gate, **{k: v for k, v in wanted.items() if v is not None})
    settings = msgspec.structs.replace(settings, gate=chosen)
    if chosen.elo0 >= chosen.elo1:
        fail(f"--elo0 {chosen.elo0} must be below --elo1 {chosen.elo1}", USAGE)
    part("threads").use(threads)
    arena = Arena(candidate, chosen.simulations, device, seed)
    with tempfile.TemporaryDirectory() as folder:
        name, rival = _rival(arena, against, Path(folder), chosen.simulations, device)
        bars = _bars(settings, arena.players, (floor_random, floor_heuristic), bootstrap=rival is None)
        found = _test(arena, settings, bars, name, rival)
    if json:
        json.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    if junit:
        junit.write_text(junit_xml(found))
    for check in found.checks:
        mark = "skipped" if check.skipped else "passed" if check.passed else "FAILED"
        typer.echo(f"{mark:8}{check.name}: {check.detail}")
    typer.echo(f"{found.candidate[:10]} {'passes' if found.verdict == PASS else 'fails'} against {found.against[:10]}")
    raise typer.Exit(0 if found.verdict == PASS else REFUSED)


def _settings(against: str) -> LoopSettings:
    """Return the cluster's settings when its champion is meant, else those that a new cluster has."""
    from config.loop import LoopSettings

    if against != "champion":
        return LoopSettings()
    from workqueue.duties.improve import settings_of
    from workqueue.machine.views import SettingsView

    view = msgspec.convert(ask("settings"), SettingsView)
    return settings_of(view) if view.version else LoopSettings()


def _rival(arena: Arena, against: str, folder: Path, simulations: int, device: str) -> tuple[str, Any]:
    """Return the opponent's id and player; no player when the cluster has no champion yet."""
    store = part("nets.store")
    path = Path(against)
    if against == "champion":
        from workqueue.cli.model import champion_of

        sha = champion_of(f"{arena.board}_{arena.players}p")
        if not sha:
            return "nobody", None
        path = folder / "champion.safetensors"
        call(lambda client: client.get_artifact(sha, path))
    try:
        return str(store.digest(path.read_bytes())), arena.net(path, simulations, device)
    except (OSError, ValueError, store.ModelError) as error:
        fail(f"{against} cannot be played against: {error}", USAGE)


def _bars(
    settings: LoopSettings, players: int, given: tuple[float | None, float | None], *, bootstrap: bool
) -> dict[str, int]:
    """Return what is needed against each baseline, in thousandths of the points."""
    from workqueue.duties.gate import bars

    found = bars(settings, players, bootstrap=bootstrap)
    for key, percent in zip(found, given, strict=True):
        if percent is not None:
            found[key] = round(10 * percent)
    return found


def _test(arena: Arena, settings: LoopSettings, bars: dict[str, int], name: str, rival: Any) -> Gate:
    """Run the floors, then the sequential test unless a floor was missed."""
    points = part("tournament.play").points
    checks = []
    for key, bar in bars.items():
        begun = time.monotonic()
        kind = key.split(":")[1]
        won, count = points(arena.meet(arena.baseline(kind), key, settings.gate.floor_games, lambda _: False), 0)
        share = 1000 * won / count
        detail = f"{share / 10:.1f} % of the points in {count} games, {bar / 10:.1f} % are needed"
        checks.append(Check(f"floor against {kind}", share >= bar, detail, count, time.monotonic() - begun))
    verdict = None
    if rival is None:
        checks.append(Check("sequential test", True, "there is no champion yet", skipped=True))
    elif not all(check.passed for check in checks):
        checks.append(Check("sequential test", False, "a floor was missed", skipped=True))
    else:
        check, verdict = _duel(arena, settings, name, rival)
        checks.append(check)
    passed = all(check.passed for check in checks)
    return Gate(
        PASS if passed else FAIL, f"{arena.board}_{arena.players}p", arena.sha, name, tuple(checks),
        verdict.llr if verdict else 0.0, (verdict.lower, verdict.upper) if verdict else (0.0, 0.0),
        msgspec.to_builtins(settings.gate) | {"bars": bars, "seed": arena.seed}, tuple(arena.games),
    )  # fmt: skip


def _duel(arena: Arena, settings: LoopSettings, name: str, rival: Any) -> tuple[Check, Verdict]:
    from workqueue.sequential import Observed, judge, points_of

    gate = settings.gate

    def look(played: Sequence[Any]) -> Verdict:
        games = [Observed(game.opening, points_of("0", [str(s) for s in game.seats], game.ranks)) for game in played]
        return judge(games, arena.players, elo0=gate.elo0, elo1=gate.elo1)

    begun = time.monotonic()
    played = arena.meet(rival, f"{name}:champion", gate.games_max, lambda so_far: look(so_far).verdict != "undecided")
    found = look(played)
    detail = (
        f"{found.verdict} after {len(played)} games: {100 * found.mean:.1f} % of the points, LLR {found.llr:.2f} "
        f"in {found.lower:.2f} to {found.upper:.2f}"
    )
    return Check("sequential test", found.verdict == "accept", detail, len(played), time.monotonic() - begun), found


def junit_xml(found: Gate) -> str:
    """Return the result as a JUnit report: one suite, one case a check."""
    failed = sum(not check.passed and not check.skipped for check in found.checks)
    skipped = sum(check.skipped for check in found.checks)
    suite = Xml.Element(
        "testsuite", name=f"rift gate {found.config}", tests=str(len(found.checks)), failures=str(failed),
        skipped=str(skipped), errors="0", time=f"{sum(check.seconds for check in found.checks):.3f}",
    )  # fmt: skip
    for check in found.checks:
        case = Xml.SubElement(
            suite, "testcase", classname=f"gate.{found.config}", name=check.name, time=f"{check.seconds:.3f}"
        )
        if check.skipped:
            Xml.SubElement(case, "skipped", message=check.detail)
        elif not check.passed:
            Xml.SubElement(case, "failure", message=check.detail).text = check.detail
        else:
            Xml.SubElement(case, "system-out").text = check.detail
    root = Xml.Element("testsuites", name="rift gate")
    root.append(suite)
    Xml.indent(root)
    return Xml.tostring(root, encoding="unicode", xml_declaration=True) + "\n"
