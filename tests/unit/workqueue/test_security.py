"""Tokens, roles, certificates and the folder of a new cluster."""

from __future__ import annotations

import asyncio
import stat
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from cryptography import x509

from config.cluster import ClusterSettings, VoterAddress, VoterSettings
from config.errors import ConfigError
from config.load import load
from config.loop import LoopSettings
from engine.rules import geometry
from engine.selfplay import spec
from workqueue import bounds
from workqueue.admission import Bucket, Envelope, actor_of, admit, command_type
from workqueue.authority import issue, new_ca
from workqueue.http.auth import Tokens
from workqueue.http.problem import Problem
from workqueue.init import create, loopback
from workqueue.machine.commands import AnyCommand, Command, Enqueue, Halt, JobSpec, QuarantineWorker, Tick
from workqueue.schema import BOARDS
from workqueue.security import Identity, may, may_propose, new_token, token_hash, token_id_of, token_matches
from workqueue.stream import StreamError
from workqueue.tls import server_context, voter_client_context, voter_of

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web


def test_a_token_is_known_by_its_keyed_hash() -> None:
    """Only the right token under the right key matches, and its hash does not show it."""
    token_id, token = new_token()
    known = token_hash(b"key", token)
    assert token_id_of(token) == token_id
    assert token_matches(b"key", token, known)
    assert not token_matches(b"other", token, known)
    assert not token_matches(b"key", token + "x", known)
    assert token.split("_", 2)[2] not in known


@pytest.mark.parametrize("text", ["", "rift", "rift_", "x_y_z", "\udcff", "rift_a"])
def test_what_is_no_token_has_no_id_that_is_known(text: str) -> None:
    """Garbage is compared like any other token and never raises."""
    assert token_id_of(text) in {"", "y"} or text.startswith("rift_")
    assert not token_matches(b"key", text, "0" * 64)


def test_a_token_holds_until_its_moment() -> None:
    """To the millisecond, for requests and for connections that were let in before; without one for ever."""
    now_ms = 0
    (timed, timed_text), (endless, endless_text) = new_token(), new_token()
    records = [
        {"id": name, "role": "read", "hash": token_hash(b"key", text), "expires_ms": expires_ms}
        for name, text, expires_ms in ((timed, timed_text, 1000), (endless, endless_text, 0))
    ]
    core: Any = SimpleNamespace(views={"tokens": records})
    tokens = Tokens(core, b"key", frozenset(), lambda: now_ms, _no_leader)
    now_ms = 999
    let_in = tokens.check(timed_text)
    assert tokens.still_valid(let_in)
    now_ms = 1000
    with pytest.raises(Problem, match="revoked or has expired") as refused:
        tokens.check(timed_text)
    assert refused.value.status == 401
    assert not tokens.still_valid(let_in)
    assert tokens.still_valid(tokens.check(endless_text))


async def _no_leader() -> list[dict[str, Any]]:
    raise StreamError("unavailable", "no leader is known")


class Leader:
    """The leader's list, and how often it was read."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failing = False

    async def read(self) -> list[dict[str, Any]]:
        self.reads += 1
        records, failing = list(self.records), self.failing
        await self.gate.wait()
        if failing:
            await _no_leader()
        return records


def _asking(token: str) -> web.Request:
    return make_mocked_request("GET", "/status", headers={"Authorization": f"Bearer {token}"})


def _behind(leader: Leader, *, views: tuple[dict[str, Any], ...] = ()) -> Tokens:
    core: Any = SimpleNamespace(views={"tokens": views})
    return Tokens(core, b"key", frozenset(), lambda: 0, leader.read)


def _record(role: str = "read", **fields: object) -> tuple[dict[str, Any], str]:
    name, text = new_token()
    return {"id": name, "role": role, "hash": token_hash(b"key", text), **fields}, text


async def test_a_token_that_only_the_leader_knows_holds() -> None:
    """A voter that lags lets in whoever has a token that was made a moment ago, and goes on to."""
    record, text = _record("worker", label="new")
    leader = Leader(record)
    tokens = _behind(leader)
    identity = await tokens.authenticate(_asking(text), "worker")
    assert (identity.actor, tokens.still_valid(identity), tokens.knows(record["id"])) == ("worker:new", True, True)
    await tokens.authenticate(_asking(text), "worker")
    assert leader.reads == 1


async def test_the_leaders_word_on_a_token_is_checked_as_the_own() -> None:
    """A secret that is not the token's, a revoked token and a role that is too low are refused after it too."""
    (record, text), (revoked, old) = _record(), _record(revoked_ms=1)
    tokens = _behind(Leader(record, revoked))
    for wanted, token, status in (("read", text[:-1] + "~", 401), ("read", old, 401), ("admin", text, 403)):
        with pytest.raises(Problem) as refused:
            await tokens.authenticate(_asking(token), wanted)
        assert refused.value.status == status


async def test_what_the_core_pushed_comes_before_what_was_read() -> None:
    """A token that was read while it held is refused once the core has applied its end."""
    record, text = _record()
    core: Any = SimpleNamespace(views={"tokens": ()})
    tokens = Tokens(core, b"key", frozenset(), lambda: 0, Leader(record).read)
    identity = await tokens.authenticate(_asking(text), "read")
    core.views["tokens"] = ({**record, "revoked_ms": 5},)
    assert not tokens.still_valid(identity)
    with pytest.raises(Problem, match="revoked"):
        await tokens.authenticate(_asking(text), "read")


async def test_an_unknown_token_is_wrong_only_by_the_leaders_word() -> None:
    """401 when the leader does not know it either; without a leader nobody can say, so it is not called wrong."""
    record, text = _record()
    leader = Leader()
    tokens = _behind(leader)
    with pytest.raises(Problem, match="no such token"):
        await tokens.authenticate(_asking(text), "read")
    leader.failing = True
    with pytest.raises(StreamError, match="no leader"):
        await tokens.authenticate(_asking(text), "read")
    leader.failing, leader.records = False, [record]
    assert (await tokens.authenticate(_asking(text), "read")).token_id == record["id"]


async def test_made_up_tokens_share_readings_of_the_leaders_list() -> None:
    """However many come at once: one reading under way, one for all who came after it began, then a pause."""
    leader = Leader()
    tokens = _behind(leader)
    leader.gate.clear()
    first = asyncio.create_task(tokens.authenticate(_asking(_record()[1]), "read"))
    async with asyncio.timeout(5):
        while not leader.reads:
            await asyncio.sleep(0)
    record, text = _record()
    leader.records.append(record)  # after the first reading began, so that it cannot be in its answer
    rest = [asyncio.create_task(tokens.authenticate(_asking(_record()[1]), "read")) for _ in range(100)]
    late = asyncio.create_task(tokens.authenticate(_asking(text), "read"))
    await asyncio.sleep(0)
    leader.gate.set()
    answers = await asyncio.gather(first, *rest, return_exceptions=True)
    assert [type(answer) for answer in answers] == [Problem] * 101
    assert (await late).token_id == record["id"]
    assert leader.reads == 2


async def test_made_up_tokens_one_after_the_other_wait_between_readings() -> None:
    """Whoever tries them in a row makes a voter read the leader's list at most twenty times a second."""
    leader = Leader()
    tokens, loop = _behind(leader), asyncio.get_running_loop()
    began = loop.time()
    for _ in range(5):
        with pytest.raises(Problem, match="no such token"):
            await tokens.authenticate(_asking(_record()[1]), "read")
    assert leader.reads == 5
    assert loop.time() - began >= 4 * 0.05 - 0.005  # the loop's clock counts milliseconds


async def test_known_tokens_and_none_ask_nobody() -> None:
    """Neither a token that is known here, nor a caller that names none, costs a reading."""
    record, text = _record()
    leader = Leader()
    tokens = _behind(leader, views=(record,))
    await tokens.authenticate(_asking(text), "read")
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}):
        with pytest.raises(Problem):
            await tokens.authenticate(make_mocked_request("GET", "/status", headers=headers), "read")
    assert leader.reads == 0


def test_roles_include_the_lower_ones() -> None:
    """read < worker < admin < voter, and nothing for an unknown role."""
    assert [may(role, "worker") for role in ("read", "worker", "admin", "voter", "root")] == [
        False, True, True, True, False,
    ]  # fmt: skip


def test_each_command_has_someone_who_may_propose_it() -> None:
    """A reader proposes nothing; admins everything but the leader's own duties; voters everything."""
    names = {kind.__name__ for kind in Command.__subclasses__()}
    assert not any(may_propose("read", name) for name in names)
    assert {name for name in names if not may_propose("admin", name)} == {
        "BeginTerm", "Tick", "EndBoot", "Archive", "CollectArtifacts", "DropHolder", "SetAlert",
    }  # fmt: skip
    assert all(may_propose("voter", name) for name in names)
    assert {name for name in names if may_propose("worker", name)} == {
        "Claim", "Renew", "Complete", "Fail", "Release", "RegisterWorker", "DeregisterWorker", "Acquire", "RenewLock",
        "Unlock", "Enqueue", "QuarantineWorker",
    }  # fmt: skip


def envelope(command: AnyCommand, actor: str = "") -> Envelope:
    return Envelope("c", 1, actor, msgspec.Raw(msgspec.msgpack.encode(command)))


def test_the_type_is_read_from_the_bytes() -> None:
    """With the tag first as the encoder writes it, or anywhere; without one the command is malformed."""
    assert command_type(msgspec.Raw(msgspec.msgpack.encode(Tick()))) == "Tick"
    assert command_type(msgspec.Raw(msgspec.msgpack.encode({"jobs": [], "type": "Enqueue"}))) == "Enqueue"
    for wrong in (b"\x80", b"\xc0", b"\x81\xa4type\x01", b"\x81\xa4type"):
        with pytest.raises(StreamError):
            command_type(msgspec.Raw(wrong))


def test_a_request_that_needs_no_change_is_passed_on_as_it_is() -> None:
    """Nothing is encoded again when the actor is right already."""
    worker = Identity("worker:w", "worker", "id")
    right = envelope(Enqueue((JobSpec("a", "open"),)), "worker:w")
    assert admit(worker, right) is right
    assert admit(worker, envelope(Enqueue((JobSpec("a", "open"),)), "root")).actor == "worker:w/root"


def test_workers_are_kept_from_what_is_not_theirs() -> None:
    """Neither halts, nor built-in kinds, nor lifting a quarantine."""
    worker = Identity("worker:w", "worker", "id")
    for command in (Halt("*", "r"), Enqueue((JobSpec("a", "train"),)), QuarantineWorker("w", on=False)):
        with pytest.raises(StreamError) as caught:
            admit(worker, envelope(command))
        assert caught.value.code == "forbidden"
    assert admit(worker, envelope(QuarantineWorker("w", reason="canary")))


def test_payloads_are_checked_on_the_stream_too() -> None:
    """An open kind's schema holds whichever way a job comes in."""
    kinds = [{"name": "open", "payload_schema": '{"required": ["x"]}'}]
    with pytest.raises(StreamError, match="'x' is a required property"):
        admit(Identity("a", "admin"), envelope(Enqueue((JobSpec("a", "open"),))), kinds)


MATCH = {"board": "hex8", "players": 2, "seed": 1}
ONE, OTHER = {"kind": "random"}, {"kind": "heuristic"}
SELFPLAY = {**MATCH, "player": OTHER, "games": 8}
TRAIN = {**MATCH, "shards": ["a" * 64], "steps": 10}
EVALUATE = {**MATCH, "candidate": ONE, "champion": OTHER, "games_max": 8}


def built_in(kind: str, payload: dict[str, object]) -> JobSpec:
    return JobSpec("a", kind, msgspec.Raw(msgspec.msgpack.encode(payload)), config="hex8_2p")


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("selfplay", {**SELFPLAY, "games": 0}, "games is 1 or more, not 0"),
        ("selfplay", {**SELFPLAY, "opening_plies": -1}, "opening_plies is 0 or more, not -1"),
        ("selfplay", {**SELFPLAY, "board": "go"}, "no board 'go'; give one of hex8, "),
        ("train", {**TRAIN, "shards": []}, "names no shards"),
        ("train", {**TRAIN, "steps": 0}, "steps is 1 or more"),
        ("export", {"board": "hex8", "players": 2, "shards": []}, "names no shards"),
        ("tournament", {**MATCH, "entrants": [ONE, ONE], "games": 1}, "two different entrants"),
        ("gauntlet", {**MATCH, "candidate": ONE, "baselines": [ONE], "games": 1}, "a baseline that is not"),
        ("evaluate", {**EVALUATE, "champion": ONE}, "the same player"),
        ("evaluate", {**EVALUATE, "alpha_milli": 0}, "lie between 0 and 500"),
        ("evaluate", {**EVALUATE, "beta_milli": 500}, "lie between 0 and 500"),
        ("evaluate", {**EVALUATE, "elo0_milli": 50_000}, "elo0_milli lies below"),
        ("verify", {}, "names nothing to verify"),
        ("benchmark", {"board": "hex8", "players": 2, "seconds": 0}, "seconds is 1 or more"),
    ],
)
def test_what_no_worker_could_do_is_refused_at_the_door(kind: str, payload: dict[str, object], says: str) -> None:
    """With what may be asked for, whichever job of the command it is."""
    fine = built_in("selfplay", SELFPLAY)
    with pytest.raises(StreamError, match=f"`{kind}` job is refused: .*{says}") as caught:
        admit(Identity("a", "admin"), envelope(Enqueue((fine, built_in(kind, payload)))))
    assert caught.value.code == "invalid"


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("selfplay", SELFPLAY),
        ("selfplay", {**SELFPLAY, "shard_seconds": 0}),
        ("train", TRAIN),
        ("evaluate", EVALUATE),
        ("gauntlet", {**MATCH, "candidate": ONE, "baselines": [ONE, OTHER], "games": 1}),
        ("verify", {"model": "a" * 64}),
        ("train", {"steps": "many"}),  # the state machine says what is wrong with it
    ],
)
def test_what_can_be_done_is_let_in(kind: str, payload: dict[str, object]) -> None:
    """As it came."""
    request = envelope(Enqueue((built_in(kind, payload),)), "a")
    assert admit(Identity("a", "admin"), request) is request


def test_the_door_knows_the_engines_boards_and_bounds() -> None:
    """The control plane names both again, because it must not import the engine."""
    assert set(BOARDS) == set(geometry.BOARDS)
    assert {name: bounds._LEAST[name] for name in spec.LEAST} == spec.LEAST


def test_an_actor_stays_within_its_identity() -> None:
    """Nobody appears as another by naming them."""
    admin = Identity("admin:ops", "admin")
    assert actor_of(admin, "") == "admin:ops"
    assert actor_of(admin, "admin:ops/alice") == "admin:ops/alice"
    assert actor_of(admin, "admin:opsy") == "admin:ops/admin:opsy"
    assert len(actor_of(admin, "x" * 1000)) == 200


def test_a_bucket_lets_through_its_rate() -> None:
    """A burst of one second's worth, then as much as time brings; the pause it names is long enough."""
    bucket = Bucket(10, 0.0)
    assert [bucket.take(1, 0.0) for _ in range(10)] == [0] * 10
    pause_ms = bucket.take(1, 0.0)
    assert pause_ms > 0
    assert bucket.take(1, pause_ms / 1000) == 0


def test_a_new_cluster_loads_and_keeps_its_secrets(tmp_path: Path) -> None:
    """All files of `create` are read back by the programs that need them; secrets are the owner's alone."""
    made = create(tmp_path, loopback(3, 23000), loop=LoopSettings(configs=("hex8_3p",)))
    cluster = load(ClusterSettings, made.cluster)
    assert [voter.http_port for voter in cluster.voters] == [23000, 23010, 23020]
    assert load(LoopSettings, made.loop).configs == ("hex8_3p",)
    for path in made.voters:
        own = load(VoterSettings, path)
        server_context(tmp_path / own.cert, tmp_path / own.key, made.ca)
        voter_client_context(tmp_path / own.cert, tmp_path / own.key, made.ca)
        assert stat.S_IMODE((tmp_path / own.key).stat().st_mode) == 0o600
    for secret in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="exists"):
        create(tmp_path, loopback(1))


def test_a_certificate_names_its_voter_and_hosts() -> None:
    """A voter's certificate is for its id and its host, by name or by address."""
    ca, ca_key = new_ca("c")
    pem, _ = issue(ca, ca_key, "voter-7", ("10.0.0.7", "seven.example"))
    names = x509.load_pem_x509_certificate(pem.encode()).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert "seven.example" in names.value.get_values_for_type(x509.DNSName)
    assert "10.0.0.7" in [str(address) for address in names.value.get_values_for_type(x509.IPAddress)]
    uri = names.value.get_values_for_type(x509.UniformResourceIdentifier)[0]
    assert voter_of({"subjectAltName": (("DNS", "x"), ("URI", uri))}) == "voter-7"
    assert voter_of({}) == voter_of(None) == ""


def test_a_voter_may_be_an_address_or_a_name(tmp_path: Path) -> None:
    """Hosts that are names get certificates too."""
    made = create(tmp_path, [VoterAddress("a", "voter-a.example")])
    assert made.voters[0].name == "a.yaml"
