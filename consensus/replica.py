"""A voter on asyncio: real clock, real disk, mutual TLS; the one file that drives Raft from an event loop."""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from consensus.clock import Clock, SystemClock
from consensus.driver import Driver
from consensus.errors import ConsensusError, NotLeader, Overloaded, StorageFailed
from consensus.identity import KnownVoters, load_identity
from consensus.machine import StateMachine
from consensus.ports import Answer
from consensus.settings import ReplicaSettings, Role
from consensus.snapshot import ForkedChild
from consensus.storage import DiskStorage
from consensus.transport import LinkTransport


class Replica:
    """One voter of a replicated log; an async context manager.

    Keep the process single-threaded: snapshots are written by a forked child. If the voter has to stop (disk failure,
    divergence, a state machine that raises), `failure` is set, everything that waits is answered, the links are cut
    and `wait_failed` raises; the process should then exit.
    """

    def __init__(self, settings: ReplicaSettings, machine: StateMachine, clock: Clock | None = None) -> None:
        self.settings = settings
        self.machine = machine
        self.on_apply: Callable[[int, Sequence[object]], None] | None = None
        self.on_role: Callable[[Role], None] | None = None
        self.on_restore: Callable[[int], None] | None = None
        self.on_divergence: Callable[[int], None] | None = None
        self._clock = clock or SystemClock()
        self._driver: Driver | None = None
        self._transport: LinkTransport | None = None
        self._failed: asyncio.Future[ConsensusError] | None = None

    async def __aenter__(self) -> Self:
        settings = self.settings
        loop = asyncio.get_running_loop()
        storage = DiskStorage(settings.data_dir, fsync=settings.fsync)
        try:
            identity = load_identity(storage, settings)
            known = KnownVoters(storage)
        except OSError as error:
            raise StorageFailed(f"the data folder {settings.data_dir} cannot be used: {error}") from error
        self._failed = loop.create_future()
        transport = LinkTransport(settings, identity.uuid, known.accept, self._clock.monotonic)
        chance = random.Random()  # noqa: S311 - spreads election timeouts; not a secret
        driver = Driver(settings, self.machine, storage, transport, loop, self._clock, chance, ForkedChild)
        driver.on_apply = lambda index, outcomes: self.on_apply and self.on_apply(index, outcomes)
        driver.on_role = lambda role: self.on_role and self.on_role(role)
        driver.on_restore = lambda index: self.on_restore and self.on_restore(index)
        driver.on_divergence = lambda index: self.on_divergence and self.on_divergence(index)
        driver.on_failure = self._on_failure
        self._driver, self._transport = driver, transport
        await transport.start(driver)
        driver.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._transport is not None:
            await self._transport.stop()
        if self._driver is not None:
            self._driver.close()

    # ---- proposals and reads

    async def propose(self, commands: Sequence[bytes]) -> Sequence[object]:
        """Commit commands and return their outcomes in order.

        Raises NotLeader or Overloaded (certainly not applied), or Unknown (propose again with the same request ids).
        """
        future: asyncio.Future[Sequence[object]] = asyncio.get_running_loop().create_future()

        def answer(outcomes: Sequence[object] | None, error: ConsensusError | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(outcomes or ())

        self._running().propose_nowait(commands, answer)
        return await future

    def propose_nowait(self, commands: Sequence[bytes], callback: Answer) -> None:
        """Commit commands; callback(outcomes, None) or callback(None, error) comes from the event loop."""
        self._running().propose_nowait(commands, callback)

    async def barrier(self) -> int:
        """Return an index at which a read of the local state is linearizable; raises NotLeader."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def answer(index: int | None, error: ConsensusError | None) -> None:
            if future.done():
                return
            if error is not None or index is None:
                future.set_exception(error or NotLeader(None))
            else:
                future.set_result(index)

        self._running().barrier_nowait(answer)
        return await future

    # ---- duties of an operator

    async def transfer_leadership(self, target: str | None = None) -> None:
        """Hand the leadership to a voter that has every entry, and wait until it is given up; raises NotLeader."""
        driver = self._running()
        for _ in range(200):
            if not driver.role().is_leader:
                return
            driver.transfer(target)
            await asyncio.sleep(0.05)
        raise Overloaded(1000)

    async def snapshot_now(self) -> None:
        """Take a snapshot of the applied state; raises StorageFailed if it could not be written."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._running().snapshot_nowait(lambda ok: None if future.done() else future.set_result(ok))
        if not await future:
            raise StorageFailed("the snapshot was not written (disk full, or replaced by a newer one)")

    def role(self) -> Role:
        """Return what this voter is now."""
        return self._running().role()

    def now_ms(self) -> int:
        """Return the time that an entry proposed now would have, which is not quite this machine's."""
        return self._running().now_ms()

    def metrics(self) -> dict[str, float]:
        """Return counters and gauges by name."""
        links = {} if self._transport is None else self._transport.metrics()
        return self._running().metrics() | links

    def digests(self) -> dict[int, str]:
        """Return the digests of this voter's state at recent indices that all voters compare, in hexadecimal."""
        return self._running().digests()

    # ---- failure

    @property
    def failure(self) -> ConsensusError | None:
        """Why the voter has stopped by itself, if it has."""
        return None if self._driver is None else self._driver.failure

    async def wait_failed(self) -> None:
        """Wait until the voter has to stop, and raise the reason."""
        if self._failed is not None:
            raise await asyncio.shield(self._failed)

    def _on_failure(self, error: ConsensusError) -> None:
        if self._transport is not None:
            self._transport.drop_all()
        if self._failed is not None and not self._failed.done():
            self._failed.set_result(error)

    def _running(self) -> Driver:
        if self._driver is None:
            raise RuntimeError("enter the replica's context first")
        return self._driver
