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
from collections.abc import Iterator

import msgspec

from config.loop import LoopSettings
from workqueue.machine.commands import Capability, Free, Requirements
from workqueue.machine.state import Job, State
from workqueue.machine.transitions import State as JobState

AGE_MS = 6_000
STRIDE = 1_000_000
CLASS_OF = {
    "selfplay": "selfplay",
    "train": "training",
    "tournament": "tournament",
    "gauntlet": "tournament",
    "evaluate": "tournament",
}
OTHER_WEIGHT = 100


class BucketKey(msgspec.Struct, frozen=True, order=True):
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


def ready_key(job: Job) -> int:
    """Return the job's place in its bucket, lower first."""
    return job.available_ms - job.spec.priority * AGE_MS


class Ready:
    """The available jobs, by bucket. Derived from the state."""

    def __init__(self) -> None:
        self.buckets: dict[BucketKey, list[tuple[int, int, str]]] = {}
        self.counts: dict[BucketKey, int] = defaultdict(int)
        self.keys: dict[str, BucketKey] = {}  # of each available job
        self.group_running: dict[str, int] = defaultdict(int)

    def add(self, job: Job) -> None:
        """Take an available job in."""
        spec = job.spec
        key = BucketKey(share_of(job), spec.config, spec.kind, spec.requires, job.rules, spec.group, spec.group_limit)
        heapq.heappush(self.buckets.setdefault(key, []), (ready_key(job), job.order, spec.id))
        self.counts[key] += 1
        self.keys[spec.id] = key

    def remove(self, job: Job) -> None:
        """Forget a job that is available no more; its heap entry is dropped when it comes up."""
        key = self.keys.pop(job.spec.id)
        self.counts[key] -= 1
        if not self.counts[key]:
            del self.counts[key], self.buckets[key]

    def head(self, key: BucketKey, jobs: dict[str, Job]) -> tuple[int, int, str]:
        """Return the first live entry of a bucket that is not empty."""
        heap = self.buckets[key]
        while True:
            entry = heap[0]
            job = jobs.get(entry[2])
            if job is not None and job.state is JobState.AVAILABLE and (ready_key(job), job.order) == entry[:2]:
                return entry
            heapq.heappop(heap)

    def full(self, key: BucketKey) -> bool:
        """Whether as many jobs of the bucket's group run as may."""
        return bool(key.group) and self.group_running[key.group] >= key.group_limit

    def __iter__(self) -> Iterator[BucketKey]:
        return iter(self.counts)


def misfit(key: BucketKey, worker: str, capability: Capability, free: Free, kinds: tuple[str, ...]) -> str:
    """Return why a bucket's jobs do not fit a worker as it is now, empty when they do."""
    need = key.requires
    if worker in need.avoid:
        return "another worker must run it"
    if key.kind not in (kinds or capability.kinds):
        return f"the worker does not run jobs of kind {key.kind}"
    if need.cpus > free.cpus:
        return f"needs {need.cpus} CPUs, {free.cpus} of {capability.cpus} are free"
    if need.ram_mb > free.ram_mb:
        return f"needs {need.ram_mb} MB of memory, {free.ram_mb} are free"
    if need.disk_mb > free.disk_mb:
        return f"needs {need.disk_mb} MB of disk, {free.disk_mb} are free"
    if (need.device or need.vram_mb) and device_for(need, free) < 0:
        return f"needs a device with {need.vram_mb} MB of free memory"
    missing = [label for label in need.labels if label not in capability.labels and label != f"worker:{worker}"]
    if missing:
        return f"needs the label {missing[0]}"
    if need.build and need.build != capability.build:
        return f"needs build {need.build}, the worker has {capability.build or 'none'}"
    if key.rules and capability.rules_version and key.rules != capability.rules_version:
        return f"needs rules version {key.rules}, the worker has {capability.rules_version}"
    return ""


def device_for(need: Requirements, free: Free) -> int:
    """Return the device that a job would run on, -1 when none has room."""
    for device in range(len(free.vram_mb)):
        if free.vram_mb[device] >= need.vram_mb and (not need.device or device in free.devices):
            return device
    return -1


def reserve(need: Requirements, free: Free, device: int) -> Free:
    """Return what is left after a job took its part."""
    vram = tuple(mb - need.vram_mb if k == device else mb for k, mb in enumerate(free.vram_mb))
    devices = tuple(d for d in free.devices if not (need.device and d == device))
    return Free(free.cpus - need.cpus, free.ram_mb - need.ram_mb, free.disk_mb - need.disk_mb, vram, devices)


def weight_of(share: str, settings: LoopSettings, open_weights: dict[str, int]) -> int:
    """Return the weight of a class; the evaluation share is taken off the others in proportion."""
    reserved = settings.evaluation_share_milli
    shares = settings.shares
    per_cent = {"selfplay": shares.selfplay, "training": shares.training, "tournament": shares.tournament}
    if share == "evaluation":
        return max(1, reserved)
    if share in per_cent:
        return max(1, per_cent[share] * (1000 - reserved) // 100)
    return max(1, open_weights.get(share.removeprefix("kind:"), 0) or OTHER_WEIGHT)


def lowest(state: State, scope: str, names: list[str]) -> str:
    """Return the name with the lowest virtual clock; an idle one counts from the clock of the last served."""
    now = state.virtual_now.get(scope, 0)
    return min(names, key=lambda name: (max(state.virtual.get(f"{scope}/{name}", 0), now), name))


def charge(state: State, scope: str, name: str, weight: int) -> None:
    """Advance the clock of the one that was served."""
    start = max(state.virtual.get(f"{scope}/{name}", 0), state.virtual_now.get(scope, 0))
    state.virtual_now[scope] = start
    state.virtual[f"{scope}/{name}"] = start + STRIDE // weight


def choose(
    state: State,
    ready: Ready,
    jobs: dict[str, Job],
    fitting: list[BucketKey],
) -> tuple[BucketKey, str]:
    """Return the bucket and job to serve next among `fitting` buckets, at least one."""
    share = lowest(state, "share", sorted({key.share for key in fitting}))
    of_share = [key for key in fitting if key.share == share]
    config = lowest(state, f"config:{share}", sorted({key.config for key in of_share}))
    heads = [(ready.head(key, jobs), key) for key in of_share if key.config == config]
    (_, _, name), key = min(heads, key=lambda head: head[0])
    return key, name
