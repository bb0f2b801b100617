"""Anti-entropy: two members compare digests of their views and exchange the buckets that differ; also how one joins."""

from __future__ import annotations

import math

from membership.local import SEAL_BYTES, Local, Send
from membership.messages import BUCKETS, PACKET_BYTES_MAX, Entry, Envelope, Sync, View, entry_bytes

_PACE_MS = 2  # between the packets of one transfer
_TRANSFERS_MAX = 8
_FIRST_MS = 500  # the comparisons of a newcomer begin frequent and become rare


class AntiEntropy:
    """Joins by the seeds, compares views now and then, and knocks at dead members."""

    def __init__(self, local: Local, seeds: list[str]) -> None:
        self._local = local
        self._seeds = seeds
        self._transfers = 0
        self._interval_ms = _FIRST_MS
        self.joined = False  # whether anybody has answered

    def begin(self) -> None:
        """Start the three loops."""
        self._join()
        self._compare_later()
        self._knock_later()

    def compare_with(self, address: str, first: list[Entry] | None = None) -> None:
        """Send the digest of our view."""
        local = self._local
        local.post(address, Sync(local.roster.digest), [local.myself(), *(first or [])])

    def answer(self, sync: Sync, source: str) -> None:
        """Send what differs, and ask for the other's part of the same buckets."""
        ours, theirs = self._local.roster.digest, sync.digest
        mask = sum(1 << b for b in range(BUCKETS) if ours[8 * b : 8 * b + 8] != theirs[8 * b : 8 * b + 8])
        self._send(source, mask, wanted=mask)

    def receive(self, view: View, source: str) -> None:
        """Return our part, once the other's is applied."""
        self.joined = True
        if view.wanted:
            self._send(source, view.wanted, wanted=0)

    def _send(self, address: str, mask: int, wanted: int) -> None:
        local = self._local
        if self._transfers >= _TRANSFERS_MAX:
            local.counters["transfer refused"] += 1
            return
        entries = [record.entry(local.id) for record in local.roster.in_buckets(mask)] if mask else []
        packets = _packets(entries)
        self._transfers += 1

        def send(index: int) -> None:
            last = index + 1 == len(packets)
            view = View(wanted if last else 0, packets[index])
            local.outbox.append(Send(address, Envelope(local.id, view)))
            if last:
                self._transfers -= 1
            else:
                local.after(_PACE_MS, lambda: send(index + 1))

        send(0)

    def _join(self) -> None:
        local = self._local
        if self.joined or local.leaving:
            return
        for seed in self._seeds:
            self.compare_with(seed)
        local.after(500 + local.random.randrange(500), self._join)

    def _compare_later(self) -> None:
        local = self._local
        present = local.roster.present
        scale = 1 if present <= 32 else math.ceil(math.log2(present) - 4)  # as memberlist: rarer in a large group
        self._interval_ms = min(2 * self._interval_ms, local.timing.sync_ms * scale)
        local.after(self._interval_ms * (0.75 + local.random.random() / 2), self._compare)

    def _compare(self) -> None:
        local = self._local
        if local.leaving:
            return
        for record in local.roster.sample(local.random, 1, lambda r: not r.gone):
            self.compare_with(record.endpoint)
        self._compare_later()

    def _knock_later(self) -> None:
        local = self._local
        local.after(local.timing.reconnect_ms * (0.75 + local.random.random() / 2), self._knock)

    def _knock(self) -> None:
        """Try one dead member and the unknown seeds, so that a parted group finds together."""
        local = self._local
        if local.leaving:
            return
        dead = [record for record in local.roster.gone() if not record.left]
        if dead:
            record = local.random.choice(dead)
            self.compare_with(record.endpoint, local.accusation(record))
        known = {record.endpoint for record in local.roster.records()} if self._seeds else set()
        for seed in self._seeds:
            if seed not in known:
                self.compare_with(seed)
        self._knock_later()


def _packets(entries: list[Entry]) -> list[list[Entry]]:
    """Return the entries in groups that fit a packet; at least one, perhaps empty, group."""
    groups: list[list[Entry]] = [[]]
    room_bytes = capacity_bytes = PACKET_BYTES_MAX - SEAL_BYTES - 96
    for entry in entries:
        size_bytes = entry_bytes(entry)
        if groups[-1] and (size_bytes > room_bytes or len(groups[-1]) == 64):
            groups.append([])
            room_bytes = capacity_bytes
        groups[-1].append(entry)
        room_bytes -= size_bytes
    return groups
