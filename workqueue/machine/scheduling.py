"""Who runs next: fair shares among classes and configs, ageing among jobs, strict fit to the worker.

Ready jobs lie in buckets of equal kind, config and requirements, so that fit is decided once a bucket. In a bucket the
key is `available_ms - priority * AGE_MS`: a point of priority is worth six seconds of waiting, which orders jobs once
for all and bounds how long any of them is overtaken. Among classes (kinds with a share) and among the configs of a
class, start-time fair queueing decides (Goyal, Vin, Cheng 1996): each has a virtual clock that a claim advances by the
inverse of its weight, and the lowest clock is served; one that was idle resumes at the clock of the last served.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from config.loop import LoopSettings
from workqueue.machine.commands import Capability, Free, Requirements
from workqueue.machine.state import Job, OpenKind, State
from workqueue.machine.transitions import AVAILABLE

AGE_MS = 6_000
STRIDE = 1_000_000
SHARES = "share"  # scope of the clocks of classes
CLASS_OF = {
    "selfplay": "selfplay",
    "train": "training",
    "tournament": "tournament",
    "gauntlet": "tournament",
    "evaluate": "tournament",
}
CLASSES = frozenset(CLASS_OF.values())
OTHER_WEIGHT = 100
WORKER_LABEL = "worker:"  # before a name: a label of that worker alone
ABILITIES_MAX = 1000  # different sorts of workers remembered


class BucketKey(msgspec.Struct, frozen=True, order=True, cache_hash=True, gc=False):
    """What jobs of a bucket have in common."""

    share: str
    config: str
    kind: str
    requires: Requirements
    rules: str = ""
    group: str = ""
    group_limit: int = 1


def share_of(job: Job) -> str:
    """Return the class whose share a job uses."""
    return "evaluation" if job.spec.reserved else CLASS_OF.get(job.spec.kind, f"kind:{job.spec.kind}")


def key_of(job: Job) -> BucketKey:
    """Return the key of the bucket that a job is in when it is available."""
    spec = job.spec
    return BucketKey(share_of(job), spec.config, spec.kind, spec.requires, job.rules, spec.group, spec.group_limit)


_Shape = tuple[str, str, Requirements, str, str, int, bool]  # what decides a bucket, quicker to hash than a key


def _shape(job: Job) -> _Shape:
    spec = job.spec
    return spec.kind, spec.config, spec.requires, job.rules, spec.group, spec.group_limit, spec.reserved


def ready_key(job: Job) -> int:
    """Return the job's place in its bucket, lower first."""
    return job.available_ms - job.spec.priority * AGE_MS


class Bucket:
    """Available jobs that have everything in common that decides who may run them."""

    __slots__ = ("heap", "key", "waiting")

    def __init__(self, key: BucketKey) -> None:
        self.key = key
        self.heap: list[tuple[int, int, str]] = []  # (ready_key, order, id); entries of jobs that left come up later
        self.waiting = 0  # jobs

    def head(self, jobs: dict[str, Job]) -> tuple[int, int, str]:
        """Return the first live entry; a bucket has one as long as it is in use."""
        heap = self.heap
        while True:
            entry = heap[0]
            job = jobs.get(entry[2])
            if job is not None and job.state is AVAILABLE and entry[0] == ready_key(job) and entry[1] == job.order:
                return entry
            heapq.heappop(heap)


class ConfigOffer(NamedTuple):
    """The buckets of a config, within a class, that a sort of worker can run when it has room."""

    name: str
    clock: str  # under which its virtual clock is kept
    buckets: list[Bucket]


class Offer(NamedTuple):
    """The same for a class."""

    name: str
    clock: str
    scope: str  # of the clocks of its configs
    configs: list[ConfigOffer]


Choice = tuple[Offer, ConfigOffer, Bucket, str]  # a job to be served, and in whose turn
Ability = tuple[tuple[str, ...], tuple[str, ...], str, str]  # kinds, labels, build, rules version


def ability(capability: Capability, kinds: tuple[str, ...]) -> Ability:
    """Return what decides which jobs a worker can run at all."""
    return kinds or capability.kinds, capability.labels, capability.build, capability.rules_version


class Ready:
    """The available jobs, by bucket. Derived from the state."""

    def __init__(self) -> None:
        self.generation = 0  # grows when a bucket comes or goes
        self._offers: dict[Ability, list[Offer]] = {}  # as long as no bucket comes or goes
        self._buckets: dict[_Shape, Bucket] = {}
        self._last = 0  # the key of the job that came last, which most of a batch share
        self.group_running: dict[str, int] = defaultdict(int)

    def add(self, job: Job) -> None:
        """Take an available job in."""
        bucket = self._buckets.get(_shape(job))
        if bucket is None:
            bucket = self._buckets[_shape(job)] = Bucket(key_of(job))
            self._changed()
        place = ready_key(job)
        self._last = place = self._last if place == self._last else place
        heapq.heappush(bucket.heap, (place, job.order, job.spec.id))
        bucket.waiting += 1

    def remove(self, job: Job) -> None:
        """Forget a job that is available no more; its heap entry goes when it is the first, or comes to be."""
        bucket = self.bucket(job)
        bucket.waiting -= 1
        if not bucket.waiting:
            del self._buckets[_shape(job)]
            self._changed()
        elif bucket.heap[0][1] == job.order:
            heapq.heappop(bucket.heap)

    def bucket(self, job: Job) -> Bucket:
        """Return the bucket of an available job."""
        return self._buckets[_shape(job)]

    def _changed(self) -> None:
        self.generation += 1
        self._offers.clear()

    def offers(self, able: Ability) -> list[Offer]:
        """Return the buckets that workers of this ability can run, by class and config."""
        found = self._offers.get(able)
        if found is None:
            if len(self._offers) >= ABILITIES_MAX:
                self._offers.clear()
            found = self._offers[able] = offers_of([bucket for bucket in self if not unable(bucket.key, able)])
        return found

    def full(self, key: BucketKey) -> bool:
        """Whether as many jobs of the bucket's group run as may."""
        return bool(key.group) and self.group_running[key.group] >= key.group_limit

    def __iter__(self) -> Iterator[Bucket]:
        return iter(self._buckets.values())


def offers_of(buckets: Iterable[Bucket]) -> list[Offer]:
    """Return buckets by class and config, both in the order of their names."""
    shares: dict[str, dict[str, list[Bucket]]] = {}
    for bucket in buckets:
        shares.setdefault(bucket.key.share, {}).setdefault(bucket.key.config, []).append(bucket)
    return [
        Offer(
            share,
            f"{SHARES}/{share}",
            f"config:{share}",
            [ConfigOffer(config, f"config:{share}/{config}", mine) for config, mine in sorted(configs.items())],
        )
        for share, configs in sorted(shares.items())
    ]


def misfit(key: BucketKey, worker: str, capability: Capability, free: Free, kinds: tuple[str, ...]) -> str:
    """Return why a bucket's jobs do not fit a worker as it is now, empty when they do."""
    need = key.requires
    return unable(key, ability(capability, kinds)) or unwanted(need, worker) or lack(need, free, capability.cpus)


def unwanted(need: Requirements, worker: str) -> str:
    """Return why jobs are not for a worker of this name, empty when they are for anybody or for it."""
    if worker in need.avoid:
        return "another worker must run it"
    other = [label for label in need.labels if label.startswith(WORKER_LABEL) and label != WORKER_LABEL + worker]
    return f"needs the label {other[0]}" if other else ""


def workers_named(need: Requirements) -> list[str]:
    """Return the workers whose names decide who may run a job."""
    wanted = [label.removeprefix(WORKER_LABEL) for label in need.labels if label.startswith(WORKER_LABEL)]
    return [*need.avoid, *wanted]


def lack(need: Requirements, free: Free, cpus: int) -> str:
    """Return what a worker with so many CPUs has too little of now, empty when it has room."""
    if need.cpus > free.cpus:
        return f"needs {need.cpus} CPUs, {free.cpus} of {cpus} are free"
    if need.ram_mb > free.ram_mb:
        return f"needs {need.ram_mb} MB of memory, {free.ram_mb} are free"
    if need.disk_mb > free.disk_mb:
        return f"needs {need.disk_mb} MB of disk, {free.disk_mb} are free"
    if (need.device or need.vram_mb) and device_for(need, free) < 0:
        return f"needs a device with {need.vram_mb} MB of free memory"
    return ""


def unable(key: BucketKey, able: Ability) -> str:
    """Return why a worker can never run a bucket's jobs, empty when it can."""
    kinds, labels, build, rules_version = able
    need = key.requires
    if key.kind not in kinds:
        return f"the worker does not run jobs of kind {key.kind}"
    missing = [label for label in need.labels if label not in labels and not label.startswith(WORKER_LABEL)]
    if missing:
        return f"needs the label {missing[0]}"
    if need.build and need.build != build:
        return f"needs build {need.build}, the worker has {build or 'none'}"
    if key.rules and rules_version and key.rules != rules_version:
        return f"needs rules version {key.rules}, the worker has {rules_version}"
    return ""


def device_for(need: Requirements, free: Free) -> int:
    """Return the device that a job would run on, -1 when none has room."""
    for device in range(len(free.vram_mb)):
        if free.vram_mb[device] >= need.vram_mb and (not need.device or device in free.devices):
            return device
    return -1


def reserve(need: Requirements, free: Free, device: int) -> Free:
    """Return what is left after a job took its part."""
    vram, devices = free.vram_mb, free.devices
    if device >= 0:
        vram = tuple(mb - need.vram_mb if k == device else mb for k, mb in enumerate(vram))
        devices = tuple(d for d in devices if not (need.device and d == device))
    return Free(free.cpus - need.cpus, free.ram_mb - need.ram_mb, free.disk_mb - need.disk_mb, vram, devices)


def weight_of(share: str, settings: LoopSettings, kinds: dict[str, OpenKind]) -> int:
    """Return the weight of a class; the evaluation share is taken off the others in proportion."""
    reserved = settings.evaluation_share_milli
    if share == "evaluation":
        return max(1, reserved)
    if share in CLASSES:
        per_cent: int = getattr(settings.shares, share)
        return max(1, per_cent * (1000 - reserved) // 100)
    kind = kinds.get(share.removeprefix("kind:"))
    return (kind.share if kind is not None and kind.share > 0 else 0) or OTHER_WEIGHT


def charge(state: State, scope: str, clock: str, weight: int) -> None:
    """Advance the clock of the one that was served."""
    start, now = state.virtual.get(clock, 0), state.virtual_now.get(scope, 0)
    state.virtual_now[scope] = start = start if start > now else now
    state.virtual[clock] = start + STRIDE // weight


def choose(
    state: State, jobs: dict[str, Job], offers: list[Offer], open_now: Callable[[BucketKey], bool]
) -> Choice | None:
    """Return what to serve next among the buckets that are open now, None if there is none.

    An idle class or config counts from the clock of the last served.
    """
    for offer in offers if len(offers) == 1 else _by_clock(state, SHARES, offers):
        configs = offer.configs
        for config in configs if len(configs) == 1 else _by_clock(state, offer.scope, configs):
            heads = [(bucket.head(jobs), bucket) for bucket in config.buckets if open_now(bucket.key)]
            if heads:
                (_, _, name), bucket = heads[0] if len(heads) == 1 else min(heads, key=lambda head: head[0])
                return offer, config, bucket, name
    return None


Clocked = TypeVar("Clocked", Offer, ConfigOffer)


def _by_clock(state: State, scope: str, several: list[Clocked]) -> Iterator[Clocked]:
    """Yield classes or configs, the lowest virtual clock first, then by name as they come.

    Most often only the first is asked for, so the others are put in order when it was not what was wanted.
    """
    if not several:
        return
    now, clock_of = state.virtual_now.get(scope, 0), state.virtual.get
    first, lowest = several[0], -1
    for each in several:
        clock = clock_of(each.clock, 0)
        if clock <= now:  # none is lower
            first = each
            break
        if lowest < 0 or clock < lowest:
            first, lowest = each, clock
    yield first
    rest = [each for each in several if each is not first]
    yield from sorted(rest, key=lambda each: max(clock_of(each.clock, 0), now))
