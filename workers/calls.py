"""What a worker asks of the voters and when: to join, to renew, for jobs; one of each at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers import events as ev
from workqueue.machine.commands import Claim, LeaseRenewal

if TYPE_CHECKING:
    from workers.attempts import Options
    from workers.pace import Pace, Steps
    from workers.slots import Slots

_JOIN_PAUSE_MS_MAX = 5_000


class Calls:
    """Which calls are under way, and when the next may go out."""

    def __init__(self, options: Options, steps: Steps, pace: Pace, slots: Slots) -> None:
        self._options = options
        self._steps = steps
        self._pace = pace
        self._slots = slots
        self.joined = self.draining = False
        self._joining = self._claiming = self._renewing = False
        self._join_after_ms = self._renew_after_ms = 0
        self._first_join_ms = -1
        self._unreached = 0

    # ---- answers

    def took_in(self, *, drain: bool, quarantined: bool) -> None:
        """The voters know this boot now."""
        self.joined, self._joining, self._unreached = True, False, 0
        self.draining, self._pace.quarantined = drain, quarantined
        self._steps.note("worker.joined", drain=int(drain), quarantined=int(quarantined))

    def join_refused(self, now: int, code: str, message: str) -> bool:
        """Whether to give up; another live boot of this name is waited for, and voters that do not answer."""
        self._joining = False
        if code in {"", "exists"} and (not code or now - self._first_join_ms < self._options.join_ms_max):
            self._unreached += 1
            self._join_after_ms = now + min(self._pace.backoff(self._unreached), _JOIN_PAUSE_MS_MAX)
            self._steps.note("worker.join_waits", code=code, message=message)
            return False
        return True

    def claim_answered(self) -> None:
        """A claim got leases."""
        self._claiming, self._unreached = False, 0

    def claim_empty(self, now: int, retry_ms: int) -> None:
        """A claim found nothing."""
        self.claim_answered()
        self._pace.claim_after_ms = max(self._pace.claim_after_ms, now + retry_ms)

    def claim_refused(self, now: int, code: str, message: str, retry_ms: int) -> None:
        """The voters did not take a claim."""
        self.claim_answered()
        self._pace.refused(now, retry_ms)
        if code == "not_found":  # voters forgot this boot, or ended it
            self.joined = False
        if code == "quarantined":
            self._pace.quarantined = True
        self._steps.note("claim.refused", code=code, message=message)

    def unreached(self, now: int, what: str, reason: str) -> None:
        """No voter answered."""
        self._unreached += 1
        pause = self._pace.backoff(self._unreached)
        if what == "claim":
            self._claiming, self._pace.claim_after_ms = False, now + pause
        else:
            self._renewing, self._renew_after_ms = False, now + min(pause, self._heartbeat_ms() // 2)
        self._steps.note("voters.unreached", what=what, reason=reason, pause_ms=pause)

    def renewed(self, event: ev.RenewAnswered) -> None:
        """Take what the voters say of this worker and of each lease."""
        renewed = event.renewed
        self._renewing, self._unreached = False, 0
        self._renew_after_ms = event.sent_ms + self._heartbeat_ms()
        self.joined = self.joined and renewed.known
        self.draining, self._pace.quarantined = renewed.drain, renewed.quarantined
        for state in renewed.leases:
            self._slots.take_state(event.now_ms, event.sent_ms, state)

    def renew_soon(self, now: int) -> None:
        """A job was started: its lease may be shorter than those before."""
        self._renew_after_ms = min(self._renew_after_ms, now + self._heartbeat_ms())

    # ---- calls

    def make(self, now: int, closed: str, disk_mb: int) -> None:
        """Send what is due; nothing is claimed while the worker is `closed`."""
        if not self.joined:
            if not self._joining and now >= self._join_after_ms and not self._slots.unfit:
                self._joining = True
                self._first_join_ms = now if self._first_join_ms < 0 else self._first_join_ms
                self._steps.add(ev.Join())
            return
        if not self._renewing and now >= self._renew_after_ms:
            self._renewing = True
            held = self._slots.held
            renewals = tuple(LeaseRenewal(*task.key, task.progress, task.cursor) for task in held)
            self._steps.add(ev.SendRenew(renewals))
        if self._may_claim(now, closed):
            self._claiming = True
            self._steps.add(self._claim(disk_mb))

    def _may_claim(self, now: int, closed: str) -> bool:
        forbidden = self._claiming or closed or self.draining or self._pace.quarantined or self._slots.fenced
        return bool(self._slots.idle) and now >= self._pace.claim_after_ms and not forbidden

    def _claim(self, disk_mb: int) -> ev.SendClaim:
        options, slots = self._options, self._slots
        wait_ms = options.claim_wait_busy_ms if slots.running else options.claim_wait_ms
        return ev.SendClaim(Claim(options.worker, options.boot, slots.free(disk_mb), len(slots.idle)), wait_ms)

    def _heartbeat_ms(self) -> int:
        shortest = min((task.lease.lease_ms for task in self._slots.held), default=0)
        return min(shortest // 4, self._options.heartbeat_ms_max) if shortest else self._options.idle_heartbeat_ms
