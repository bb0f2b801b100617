"""The core's end of the unix socket: proposals gathered, claims parked, queries answered, state pushed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import msgspec

from consensus import ConsensusError, NotLeader, Overloaded, Unknown
from workqueue.machine.outcomes import Changed, Empty, Granted, Refused
from workqueue.meters import Meters
from workqueue.parking import Parked
from workqueue.replication import CoreState, core_state
from workqueue.stream import PUSH, ErrorBody, Frame, FrameError, Splitter, StreamError, decode_as, pack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from workqueue.replication import Log, Machine

STATE_S = 0.1  # pace of pushed state
EVENTS_S = 0.05  # pace of looking for new events for those who wait
WATCHED = ("tokens", "kinds")  # views that every front keeps at hand
GATHER_MAX = 2_000  # requests proposed together
_ENQUEUE = b"\xa7Enqueue"  # how the tag of such a command is encoded; a guess is enough here
_HEAD = 512  # bytes of a request in which its tag is found

Taken: TypeAlias = "Callable[[Sequence[object], ErrorBody | None], None]"
_encode = msgspec.msgpack.Encoder().encode


class Connection(asyncio.Protocol):
    """One front."""

    def __init__(self, server: CoreServer) -> None:
        self._server = server
        self._splitter = Splitter(forgiving=True)
        self._out: list[bytes] = []
        self.parked: dict[int, int] = {}  # call id -> ticket

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet with the state."""
        self._transport = cast("asyncio.Transport", transport)
        self._server.joined(self)

    def data_received(self, data: bytes) -> None:
        """Take the frames; bytes that are not frames end the connection."""
        try:
            for frame in self._splitter.feed(data):
                self._server.received(self, frame)
        except FrameError:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its parked claims."""
        del exc
        self._server.left(self)

    def write(self, frame: bytes) -> None:
        """Write a frame with the others of this turn of the loop."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(frame)

    def _flush(self) -> None:
        data, self._out = b"".join(self._out), []
        self._transport.write(data)


class ParkedClaim:
    """A claim, who asked, and what to do with its answer."""

    __slots__ = ("call_id", "connection", "deadline", "request")

    def __init__(self, connection: Connection, call_id: int, request: msgspec.Raw, deadline: float) -> None:
        self.connection = connection
        self.call_id = call_id
        self.request = request
        self.deadline = deadline


class CoreServer:
    """Serves fronts from one replica and its machine."""

    def __init__(self, log: Log, machine: Machine) -> None:
        self._log = log
        self._machine = machine
        self._loop = asyncio.get_running_loop()
        self._connections: set[Connection] = set()
        self._requests: list[bytes] = []
        self._takers: list[tuple[int, Taken]] = []
        self._parked: Parked[ParkedClaim] = Parked()
        self._sweeping = False
        self._appeared = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._pushed_state: CoreState | None = None
        self._pushed_views: dict[str, bytes] = {}
        self.meters = Meters(machine.last_seq)

    def connection(self) -> Connection:
        """Return the protocol of a new connection."""
        return Connection(self)

    async def run(self) -> None:
        """Push state, expire parked claims; ends when cancelled."""
        while True:
            self._push_state()
            self.meters.look(self._machine)
            for claim in self._parked.expired(self._loop.time()):
                self._answer_claim(claim, Empty(retry_ms=0))
            self._sweep_soon()
            await asyncio.sleep(STATE_S)

    def changed(self) -> None:
        """Push the state at once: called when role, leader or term change."""
        if not self._log.role().is_leader:
            for claim in self._parked.clear():
                self._refuse(claim.connection, claim.call_id, _NOT_LEADER)
        self._push_state()

    # ---- connections

    def joined(self, connection: Connection) -> None:
        """Tell a new front where the core stands."""
        self._connections.add(connection)
        connection.write(pack(PUSH, "state", self._state()))
        for name, view in self._pushed_views.items():
            connection.write(pack(PUSH, name, msgspec.Raw(view)))

    def left(self, connection: Connection) -> None:
        """Forget a front and the claims it parked."""
        self._connections.discard(connection)
        for ticket in connection.parked.values():
            self._parked.drop(ticket)
        connection.parked.clear()

    def received(self, connection: Connection, frame: Frame) -> None:
        """Start what a frame asks for."""
        call_id, op, body = frame
        try:
            if op == "propose":
                self._propose(connection, call_id, decode_as(list[msgspec.Raw], body))
            elif op == "claim":
                request, wait_ms = decode_as(tuple[msgspec.Raw, int], body)
                deadline = self._loop.time() + max(wait_ms, 0) / 1000
                self._try_claim(ParkedClaim(connection, call_id, request, deadline))
            elif op == "drop":
                self._drop(connection, decode_as(int, body))
            else:
                self._spawn(self._answer(connection, call_id, op, body))
        except StreamError as error:
            self._refuse(connection, call_id, error.body)

    # ---- proposals: whatever arrives in one turn of the loop is proposed together

    def _propose(self, connection: Connection, call_id: int, requests: list[msgspec.Raw]) -> None:
        def taken(outcomes: Sequence[object], error: ErrorBody | None) -> None:
            if error:
                self._refuse(connection, call_id, error)
            else:
                connection.write(pack(call_id, "ok", outcomes))

        self._enqueue(requests, taken)

    def _enqueue(self, requests: list[msgspec.Raw], taken: Taken) -> None:
        if not self._requests:
            self._loop.call_soon(self._flush)
        self._requests.extend(map(bytes, requests))
        self._takers.append((len(requests), taken))
        if len(self._requests) >= GATHER_MAX:
            self._flush()

    def _flush(self) -> None:
        if not self._takers:
            return
        requests, self._requests = self._requests, []
        takers, self._takers = self._takers, []
        self._add_riders(requests, takers)
        started = time.perf_counter()

        def committed(outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
            failed = None if error is None else _error_body(error)
            known, at = outcomes or (), 0
            if outcomes:
                self._measure(time.perf_counter() - started, outcomes)
                if any(type(outcome) is Changed for outcome in outcomes):
                    self._push_state()  # a kind or token that was answered for is known to the fronts
            for count, taken in takers:
                taken(known[at : at + count], failed)
                at += count
            self._sweep_soon()

        self._log.propose_nowait(requests, committed)

    def _measure(self, seconds: float, outcomes: Sequence[object]) -> None:
        self.meters.commits.observe(seconds)
        if granted := sum(type(outcome) is Granted for outcome in outcomes):
            self.meters.claims.observe(seconds, granted)

    def _add_riders(self, requests: list[bytes], takers: list[tuple[int, Taken]]) -> None:
        """Let claims that wait travel with jobs that are being added: granted in the same entry, one commit sooner."""
        if not len(self._parked) or not self._log.role().is_leader:
            return
        count = sum(_ENQUEUE in request[:_HEAD] for request in requests)
        if riders := self._parked.riders(count):
            requests.extend(bytes(claim.request) for claim in riders)
            takers.append((len(riders), self._claims_taken(riders)))

    # ---- claims

    def _try_claim(self, claim: ParkedClaim) -> None:
        version = self._machine.claimable_version

        def taken(outcomes: Sequence[object], error: ErrorBody | None) -> None:
            if error:
                self._refuse(claim.connection, claim.call_id, error)
            elif not isinstance(outcomes[0], Empty):
                self._answer_claim(claim, outcomes[0])
            else:
                self._park(claim, version)

        self._enqueue([claim.request], taken)

    def _park(self, claim: ParkedClaim, seen_version: int) -> None:
        if claim.deadline <= self._loop.time():
            self._answer_claim(claim, Empty(retry_ms=0))
        elif claim.connection in self._connections:
            ticket = self._parked.park(claim.deadline, claim, seen_version=seen_version)
            claim.connection.parked[claim.call_id] = ticket

    def _drop(self, connection: Connection, call_id: int) -> None:
        ticket = connection.parked.pop(call_id, None)
        if ticket is not None and (claim := self._parked.drop(ticket)):
            self._answer_claim(claim, Empty(retry_ms=0))

    def _answer_claim(self, claim: ParkedClaim, outcome: object) -> None:
        claim.connection.parked.pop(claim.call_id, None)
        claim.connection.write(pack(claim.call_id, "ok", outcome))

    def _sweep_soon(self) -> None:
        if self._machine.claimable_version > self._parked.version:
            self._appeared.set()
        if not self._sweeping and len(self._parked):
            self._sweeping = True
            self._spawn(self._sweep())

    async def _sweep(self) -> None:
        try:
            while claims := self._parked.sweep(self._machine.claimable_version):
                self._appeared.clear()
                fruitful = await self._try_together([claim for _, claim in claims])
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._parked.swept(fruitful=fruitful)):
                        await self._appeared.wait()
        finally:
            self._sweeping = False

    async def _try_together(self, claims: list[ParkedClaim]) -> bool:
        """Propose parked claims; what comes back empty is parked again. Returns whether all were answered."""
        done: asyncio.Future[bool] = self._loop.create_future()
        settle = self._claims_taken(claims)

        def taken(outcomes: Sequence[object], error: ErrorBody | None) -> None:
            settle(outcomes, error)
            if not done.done():  # cancelled while the voter stops
                done.set_result(not any(isinstance(outcome, Empty) for outcome in outcomes))

        self._enqueue([claim.request for claim in claims], taken)
        return await done

    def _claims_taken(self, claims: list[ParkedClaim]) -> Taken:
        """Return what answers these claims; those that come back empty are parked again."""
        version = self._machine.claimable_version

        def taken(outcomes: Sequence[object], error: ErrorBody | None) -> None:
            for claim, outcome in zip(claims, outcomes, strict=False):
                if isinstance(outcome, Empty):
                    self._park(claim, version)
                else:
                    self._answer_claim(claim, outcome)
            if error:
                for claim in claims:
                    self._refuse(claim.connection, claim.call_id, error)

        return taken

    # ---- everything else

    async def _answer(self, connection: Connection, call_id: int, op: str, body: msgspec.Raw) -> None:
        try:
            answer = await self._compute(op, body)
        except StreamError as error:
            self._refuse(connection, call_id, error.body)
        except ConsensusError as error:
            self._refuse(connection, call_id, _error_body(error))
        except Exception as error:  # noqa: BLE001  a supervised task: one odd call must not stay without an answer
            self._refuse(connection, call_id, ErrorBody("invalid", f"{op} cannot be answered: {error}"))
        else:
            connection.write(pack(call_id, "ok", answer))

    async def _compute(self, op: str, body: msgspec.Raw) -> object:
        match op:
            case "query":
                return await self._query(*decode_as(tuple[str, dict[str, Any], str], body))
            case "events":
                return await self._events(*decode_as(tuple[int, int, int], body))
            case "barrier":
                return await self._log.barrier()
            case "status":
                self.meters.look(self._machine)
                return {
                    "state": self._state(),
                    "log": self._log.metrics(),
                    "parked": len(self._parked),
                    "digests": {str(index): digest for index, digest in self._log.digests().items()},
                    "meters": self.meters.report(),
                }
            case "meters":
                return self.meters.report()
            case "transfer":
                await self._log.transfer_leadership(decode_as(tuple[str], body)[0] or None)
                return None
            case "snapshot":
                await self._log.snapshot_now()
                return self._log.role().applied_index
            case _:
                raise StreamError("malformed", f"the core has no call `{op}`")

    async def _query(self, name: str, args: dict[str, Any], consistency: str) -> object:
        if consistency == "linear":
            await self._log.barrier()
        role = self._log.role()
        view = self._machine.query(name, args)
        if isinstance(view, Refused):
            raise StreamError(view.code.value, view.message)
        return view, role.applied_index, role.age_ms

    async def _events(self, since: int, limit: int, wait_ms: int) -> object:
        machine, deadline = self._machine, self._loop.time() + wait_ms / 1000
        if since < 0 or since > machine.last_seq:
            since = machine.last_seq
        while machine.last_seq <= since and self._loop.time() < deadline:  # noqa: ASYNC110  followers apply unannounced
            await asyncio.sleep(EVENTS_S)
        events = list(machine.events_since(since))[:limit]
        return (events[-1].seq if events else machine.last_seq, events)

    def _state(self) -> CoreState:
        due = 0 < self._machine.next_due_ms <= self._log.now_ms()
        return core_state(self._log.role(), len(self._parked), self._machine.live, due=due)

    def _push_state(self) -> None:
        state = self._state()
        if state != self._pushed_state:
            self._pushed_state = state
            self._broadcast(pack(PUSH, "state", state))
        for name in WATCHED:
            view = _encode(self._machine.query(name, {}))
            if view != self._pushed_views.get(name):
                self._pushed_views[name] = view
                self._broadcast(pack(PUSH, name, msgspec.Raw(view)))

    def _broadcast(self, frame: bytes) -> None:
        for connection in self._connections:
            connection.write(frame)

    def _refuse(self, connection: Connection, call_id: int, error: ErrorBody) -> None:
        connection.parked.pop(call_id, None)
        connection.write(pack(call_id, "error", error))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_NOT_LEADER = ErrorBody("not_leader", "this voter does not lead", 50)


def _error_body(error: ConsensusError) -> ErrorBody:
    match error:
        case NotLeader():
            return _NOT_LEADER
        case Overloaded():
            return ErrorBody("limit", str(error), error.retry_ms)
        case Unknown():
            return ErrorBody("unknown", str(error))
        case _:
            return ErrorBody("unknown", f"the log has stopped: {error}")
