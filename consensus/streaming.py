"""When snapshots are taken, and how they reach a voter that lags behind the leader's log.

Sending is a window over the bytes of a file, acknowledged by offset and begun again from the byte that the follower
named last when nothing moves, so that lost, repeated and reordered pieces do no harm. A received snapshot replaces the
state only when it is complete, synced and verified, and never by an older one (defects 3, 9, 19, 24, 26).
"""

from collections.abc import Callable

from consensus import messages as m
from consensus.clock import Clock
from consensus.errors import InvariantBroken, StorageCorrupt
from consensus.machine import StateMachine
from consensus.raft import Raft
from consensus.snapshot import (
    INCOMING,
    SNAPSHOT,
    WRITING,
    Child,
    SnapshotHead,
    Spawn,
    publish,
    read_head,
    restore_snapshot,
    start_snapshot,
    verify_snapshot,
)
from consensus.storage import File, Storage

CHUNK_BYTES = 512 << 10
WINDOW_BYTES = 4 << 20
RESEND_S = 1.0


class SnapshotPolicy:
    """When to take a snapshot, and how much of the log to keep behind it for voters that lag a little."""

    def __init__(self, entries: int, size_bytes: int, trailing: int, timeout_s: float) -> None:
        self.entries = entries
        self.size_bytes = size_bytes
        self.trailing = trailing
        self.timeout_s = timeout_s


class _Outgoing:
    """A snapshot on its way to one follower."""

    def __init__(self, file: File, head: SnapshotHead, now: float) -> None:
        self.file = file
        self.head = head
        self.total = file.size()
        self.acked = 0
        self.sent = 0
        self.heard = 0  # what the follower said last; less than acked if that was said by an earlier life of it
        self.moved_at = now


class _Incoming:
    """A snapshot on its way from the leader."""

    def __init__(self, file: File, message: m.SnapshotChunk) -> None:
        self.file = file
        self.id = (message.index, message.last_term, message.total)
        self.have = 0


class SnapshotFlow:
    """Takes, publishes, sends and receives snapshots for one `Raft`."""

    def __init__(
        self,
        raft: Raft,
        storage: Storage,
        machine: StateMachine,
        spawn: Spawn,
        clock: Clock,
        policy: SnapshotPolicy,
        make_head: Callable[[], SnapshotHead],
    ) -> None:
        self._raft = raft
        self._storage = storage
        self._machine = machine
        self._spawn = spawn
        self._clock = clock
        self._policy = policy
        self._make_head = make_head
        self._outgoing: dict[str, _Outgoing] = {}
        self._incoming: _Incoming | None = None
        self._child: Child | None = None
        self._child_head: SnapshotHead | None = None
        self._child_since = 0.0
        self._forced = False
        self._last_bytes = 0
        self._last_index = raft.journal.base_index
        self.on_restored: Callable[[SnapshotHead], None] = lambda _head: None
        self.on_finished: Callable[[bool], None] = lambda _ok: None
        self.taken = 0
        self.installed = 0

    @property
    def busy(self) -> bool:
        """Whether a snapshot is being written."""
        return self._child is not None

    def force(self) -> None:
        """Take a snapshot at the next tick, due or not."""
        self._forced = True

    def close(self) -> None:
        """End the child and close the files."""
        self._abort_child()
        for node_id in list(self._outgoing):
            self.forget(node_id)
        if self._incoming is not None:
            self._incoming.file.close()
            self._incoming = None

    # ---- taking

    def tick(self) -> None:
        """Start, watch and publish snapshots of our own."""
        if self._child is not None:
            self._watch()
        elif self._forced or self._due():
            self._start()

    def _due(self) -> bool:
        grown = self._raft.journal.total_bytes - self._last_bytes
        return self._raft.applied_index - self._last_index >= self._policy.entries or grown >= self._policy.size_bytes

    def _start(self) -> None:
        self._forced = False
        self._last_bytes = self._raft.journal.total_bytes
        if self._raft.applied_index <= self._last_index:
            self.on_finished(True)  # noqa: FBT003  the newest snapshot holds all there is
            return
        self._last_index = self._raft.applied_index
        self._raft.journal.rotate()
        self._child_head = self._make_head()
        self._child_since = self._clock.monotonic()
        self._child = start_snapshot(self._storage, self._spawn, self._machine, self._child_head)

    def _watch(self) -> None:
        if self._child is None or self._child_head is None:
            return
        ended = self._child.poll()
        if ended is None:
            if self._clock.monotonic() - self._child_since > self._policy.timeout_s:
                self._abort_child()
            return
        head, self._child, self._child_head = self._child_head, None, None
        if ended:
            publish(self._storage, WRITING)
            self._raft.journal.compact(head.index - self._policy.trailing)
            self.taken += 1
        self.on_finished(ended)

    def _abort_child(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = self._child_head = None
            self._storage.remove(WRITING)
            self.on_finished(False)  # noqa: FBT003  whether it was written

    # ---- sending

    def feed(self, node_id: str) -> bool:
        """Send a follower the next pieces; False if the window is full or there is no snapshot."""
        now = self._clock.monotonic()
        stream = self._outgoing.get(node_id) or self._open(node_id, now)
        if stream is None:
            return False
        if now - stream.moved_at > RESEND_S:
            stream.sent = stream.acked = stream.heard
            stream.moved_at = now
        fed = False
        while stream.sent < stream.total and stream.sent - stream.acked < WINDOW_BYTES:
            data = stream.file.read(stream.sent, CHUNK_BYTES)
            head = stream.head
            chunk = m.SnapshotChunk(self._raft.term, head.index, head.term, stream.total, stream.sent, data)
            if not self._raft.tell(node_id, chunk):
                break
            stream.sent += len(data)
            fed = True
        return fed

    def received(self, node_id: str, message: m.SnapshotReceived) -> None:
        """Move the window; at the end the follower goes on with the log."""
        stream = self._outgoing.get(node_id)
        if stream is None or stream.head.index != message.index:
            return
        stream.heard = message.offset
        if message.offset >= stream.total:
            self.forget(node_id)
            self._raft.follower_has(node_id, message.index)
            return
        if message.offset > stream.acked:
            stream.acked, stream.moved_at = message.offset, self._clock.monotonic()
            stream.sent = max(stream.sent, stream.acked)
        elif message.offset == 0 and stream.acked:
            stream.acked = stream.sent = 0  # it begins anew
        self.feed(node_id)

    def forget(self, node_id: str) -> None:
        """Stop sending to this voter."""
        stream = self._outgoing.pop(node_id, None)
        if stream is not None:
            stream.file.close()

    def _open(self, node_id: str, now: float) -> _Outgoing | None:
        head = read_head(self._storage)
        if head is None:
            return None
        stream = self._outgoing[node_id] = _Outgoing(self._storage.open(SNAPSHOT), head, now)
        return stream

    # ---- receiving

    def chunk(self, node_id: str, message: m.SnapshotChunk) -> None:
        """Take a piece; install the snapshot when it is whole."""
        if message.index <= self._raft.commit_index:  # ours is as new, and what is committed surely matches
            self._raft.tell(node_id, m.SnapshotReceived(message.term, message.index, message.total))
            self._raft.promise(node_id, self._raft.commit_index)
            return
        incoming = self._expect(message)
        if incoming is not None and message.offset == incoming.have:
            incoming.file.write(incoming.have, message.data)
            incoming.have += len(message.data)
            if incoming.have >= message.total and not self._install(node_id, incoming):
                incoming = None
        have = 0 if incoming is None else incoming.have
        self._raft.tell(node_id, m.SnapshotReceived(message.term, message.index, have))

    def _expect(self, message: m.SnapshotChunk) -> _Incoming | None:
        incoming = self._incoming
        if incoming is not None and incoming.id == (message.index, message.last_term, message.total):
            return incoming
        if message.offset != 0:
            return None
        if incoming is not None:
            incoming.file.close()
        self._storage.remove(INCOMING)
        self._incoming = _Incoming(self._storage.open(INCOMING, create=True), message)
        return self._incoming

    def _install(self, node_id: str, incoming: _Incoming) -> bool:
        """Replace state and log by a complete snapshot; False if its bytes are wrong and it must be sent again."""
        self._incoming = None
        incoming.file.sync()
        incoming.file.close()
        try:
            head = verify_snapshot(self._storage, INCOMING)
        except StorageCorrupt:
            self._storage.remove(INCOMING)
            return False
        if (head.index, head.term) != incoming.id[:2]:
            raise InvariantBroken(f"the leader sent a snapshot of {head.index} as one of {incoming.id[0]}")
        self._abort_child()
        publish(self._storage, INCOMING)
        restore_snapshot(self._storage, self._machine)
        self._raft.installed(head.index, head.term, node_id)
        self._last_index, self._last_bytes = head.index, self._raft.journal.total_bytes
        self.installed += 1
        self.on_restored(head)
        return True
