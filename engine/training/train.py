"""Training: from a window of shards to weights, resumable to the bit on the CPU.

AdamW with warm-up and cosine decay (Loshchilov, Hutter 2019), gradient clipping, an exponential average of the weights
as the result, held-out games for early stopping. The batch of a step depends on seed and step alone, so that a run that
was interrupted goes on exactly as one that was not.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from engine.nets.encoder import ENCODER, head_index
from engine.nets.net import Heads, Net, parse_size
from engine.nets.store import Manifest, digest, dump, load, save, transfer
from engine.rules import RULES_VERSION
from engine.rules.geometry import Geometry, geometry
from engine.training.curves import draw_curves
from engine.training.ranks import Ranks
from engine.training.surprise import chances, surprises
from engine.training.window import Batch, Window, load_window, make_batch

LOSS_WEIGHTS = {"policy": 1.0, "value": 1.0, "rank": 0.3, "owner": 0.15, "margin": 0.3}
AVERAGE = 0.99
CLIP = 1.0
HELDOUT_BATCH = 512
LOOK_EVERY = 50
ROOM_MIN = 1 << 16  # positions that every window may have, however few are picked of it
OPTIMIZERS = ("adamw", "sgd")
PRECISIONS = ("auto", "float32", "bfloat16")
MOMENTUM = 0.9
ALONE = Ranks()


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How to train."""

    board: str
    players: int
    steps: int
    seed: int
    size: str = "32x4"
    variant: str = "spec"
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 50
    checkpoint_steps: int = 200
    heldout: float = 0.05
    patience: int = 0  # held-out looks without improvement before stopping; 0 = never stop early
    optimizer: str = "adamw"
    precision: str = "auto"  # float32, bfloat16, or by the device: bfloat16 on a GPU
    surprise: float = 0.0  # share of picks in proportion to how much a target surprises the parent
    parents: tuple[str, ...] = ()

    @property
    def room(self) -> int:
        """Return how many positions of a window are worth their memory: as many as are picked."""
        return max(self.steps * self.batch_size, ROOM_MIN)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS), ("precision", self.precision, PRECISIONS)
        ):  # fmt: skip
            if value not in known:
                raise ValueError(f"{name} {value!r}: choose one of {', '.join(known)}")
        if not 0 <= self.surprise <= 1:
            raise ValueError("surprise is a share: 0 to 1")


class TrainSummary(msgspec.Struct, frozen=True):
    """What came out."""

    model: str
    path: str
    size_bytes: int
    steps: int
    samples: int
    loss: float
    policy_loss: float
    value_loss: float
    heldout_loss: float
    seconds: float
    skipped: int
    manifest: Manifest
    curves: str


class Stopped(Exception):
    """The run was asked to stop; its checkpoint is where the next one goes on."""

    def __init__(self, checkpoint: Path, step: int) -> None:
        super().__init__(f"stopped at step {step}")
        self.checkpoint = checkpoint
        self.step = step


def losses(heads: Heads, batch: Batch, where: Geometry, device: torch.device) -> dict[str, Tensor]:
    """Return the loss of each head."""
    index = torch.from_numpy(head_index(where)[np.where(batch.legal, batch.codes, 0)]).to(device)
    legal = torch.from_numpy(batch.legal).to(device)
    logits = heads.policy.gather(1, index).masked_fill(~legal, -1e9)
    target = torch.from_numpy(batch.policy).to(device)
    policy = -(target * torch.log_softmax(logits, 1).masked_fill(~legal, 0.0)).sum(1).mean()
    owner = torch.from_numpy(batch.owner).to(device)
    return {
        "policy": policy,
        "value": functional.cross_entropy(heads.value, torch.from_numpy(batch.winner).to(device)),
        "rank": functional.binary_cross_entropy_with_logits(heads.rank, torch.from_numpy(batch.rank).to(device)),
        "owner": functional.cross_entropy(heads.owner.flatten(2), owner, ignore_index=-1),
        "margin": functional.mse_loss(heads.margin, torch.from_numpy(batch.margin).to(device)),
    }


class Training:
    """A run and all its state."""

    def __init__(self, spec: TrainSpec, window: Window, parent: Path | None, device: str, ranks: Ranks = ALONE) -> None:
        self.spec, self.window, self.device, self.ranks = spec, window, torch.device(device), ranks
        self.where = geometry(spec.board, spec.players, spec.variant)
        if window.where is not self.where:
            raise ValueError(f"the shards are of {window.where.board} with {window.where.players} players")
        torch.manual_seed(spec.seed)
        net = Net(self.where, *parse_size(spec.size)).to(self.device)
        self.net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.transferred: tuple[str, ...] = ()
        if parent is not None:
            source, manifest = load(parent)
            copied = transfer(source, self.net)
            same = (manifest.board, manifest.players, manifest.size) == (spec.board, spec.players, spec.size)
            self.transferred = () if same else copied
        self.average = {name: tensor.detach().clone() for name, tensor in self.net.state_dict().items()}
        self.optimizer = _optimizer(self.net, spec)
        self.shared = ranks.share(self.net)
        self.half = spec.precision == "bfloat16" or (spec.precision == "auto" and self.device.type == "cuda")
        self.step = self.skipped = 0
        self.history: list[dict[str, float]] = []
        self.best, self.stale = math.inf, 0
        self.train_ids = np.flatnonzero(~window.heldout)
        self.heldout_ids = np.flatnonzero(window.heldout)[:4096]
        self.chances: NDArray[np.float64] | None = None
        if spec.surprise and parent is not None:
            self.chances = chances(surprises(self.net, window, self.train_ids, device), spec.surprise)

    def learning_rate(self) -> float:
        """Return the rate of the current step."""
        spec = self.spec
        if self.step < spec.warm_up:
            return spec.learning_rate * (self.step + 1) / spec.warm_up
        done = (self.step - spec.warm_up) / max(1, spec.steps - spec.warm_up)
        return spec.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)

    def advance(self) -> None:
        """Take one step; a batch whose loss or gradient is not a number is skipped and counted."""
        rng = np.random.default_rng([self.spec.seed, self.step])
        picked = np.sort(rng.choice(self.train_ids, min(self.spec.batch_size, len(self.train_ids)), p=self.chances))
        batch = make_batch(self.window, picked[self.ranks.number :: self.ranks.size], rng)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate()
        self.net.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            parts = losses(self._heads(batch), batch, self.where, self.device)
        total = sum((LOSS_WEIGHTS[name] * part for name, part in parts.items()), torch.zeros((), device=self.device))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.net.parameters(), CLIP)
        if self.ranks.every(bool(torch.isfinite(total) and torch.isfinite(norm))):
            self.optimizer.step()
            self._average()
        else:
            self.skipped += 1
        self.step += 1
        self.history.append(
            {"step": float(self.step), "loss": float(total.detach())} | {k: float(v.detach()) for k, v in parts.items()}
        )

    def _heads(self, batch: Batch) -> Heads:
        planes = torch.from_numpy(batch.planes).to(self.device)
        heads: Heads = self.shared(planes, torch.from_numpy(batch.scalars).to(self.device))
        return heads

    def _average(self) -> None:
        keep = min(AVERAGE, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, tensor in self.net.state_dict().items():
                if tensor.dtype.is_floating_point:
                    self.average[name].mul_(keep).add_(tensor, alpha=1 - keep)
                else:
                    self.average[name].copy_(tensor)

    def averaged(self) -> Net:
        """Return the net with averaged weights."""
        net = Net(self.where, *parse_size(self.spec.size))
        net.load_state_dict({name: tensor.cpu() for name, tensor in self.average.items()})
        return net.eval()

    def heldout_losses(self) -> dict[str, float]:
        """Return the losses on the games held out, of the averaged weights."""
        if not len(self.heldout_ids):
            return {}
        net = self.averaged().to(self.device)
        sums: dict[str, float] = {}
        with torch.inference_mode():
            for k in range(0, len(self.heldout_ids), HELDOUT_BATCH):
                ids = self.heldout_ids[k : k + HELDOUT_BATCH]
                batch = make_batch(self.window, ids, None)
                heads = net(
                    torch.from_numpy(batch.planes).to(self.device), torch.from_numpy(batch.scalars).to(self.device)
                )
                for name, part in losses(heads, batch, self.where, self.device).items():
                    sums[name] = sums.get(name, 0.0) + float(part) * len(ids)
        return {name: value / len(self.heldout_ids) for name, value in sums.items()}

    # ---- checkpoints: tensors as safetensors, numbers as JSON inside them

    def save_checkpoint(self, path: Path) -> None:
        """Write everything that the next run needs, atomically."""
        tensors: dict[str, Tensor] = {}
        tensors |= {f"net/{name}": tensor for name, tensor in self.net.state_dict().items()}
        tensors |= {f"average/{name}": tensor for name, tensor in self.average.items()}
        for number, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{slot}": torch.as_tensor(value) for slot, value in slots.items()}
        numbers = {
            "step": self.step, "skipped": self.skipped, "best": self.best if self.best < math.inf else None,
            "stale": self.stale, "history": self.history, "spec": msgspec.to_builtins(self.spec),
            "transferred": list(self.transferred),
        }  # fmt: skip
        temporary = path.with_suffix(".tmp")
        save_file(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            temporary,
            {"run": json.dumps(numbers)},
        )
        temporary.rename(path)

    def load_checkpoint(self, path: Path) -> None:
        """Go on from a checkpoint; raises ValueError when it is of another run."""
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            numbers: dict[str, Any] = json.loads(file.metadata()["run"])
        if msgspec.convert(numbers["spec"], TrainSpec) != self.spec:
            raise ValueError("the checkpoint is of a run with other settings")
        tensors = load_file(path)
        self.net.load_state_dict({k.removeprefix("net/"): v for k, v in tensors.items() if k.startswith("net/")})
        self.average = {k.removeprefix("average/"): v for k, v in tensors.items() if k.startswith("average/")}
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, number, slot = name.split("/")
                state.setdefault(int(number), {})[slot] = tensor
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        self.step, self.skipped, self.stale = numbers["step"], numbers["skipped"], numbers["stale"]
        self.best = math.inf if numbers["best"] is None else numbers["best"]
        self.history = numbers["history"]
        self.transferred = tuple(numbers["transferred"])

    def manifest(self) -> Manifest:
        """Return the manifest of the result."""
        spec = self.spec
        return Manifest(
            spec.board, spec.players, spec.size, spec.variant, RULES_VERSION, ENCODER, self.where.tables.policy_planes,
            spec.parents, self.step, self.step * spec.batch_size, self.transferred,
        )  # fmt: skip


def _optimizer(net: Net, spec: TrainSpec) -> torch.optim.Optimizer:
    if spec.optimizer == "sgd":
        return torch.optim.SGD(
            net.parameters(), lr=spec.learning_rate, momentum=MOMENTUM, weight_decay=spec.weight_decay, nesterov=True
        )
    return torch.optim.AdamW(net.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)


def train(
    spec: TrainSpec,
    shards: Sequence[Path],
    out_dir: Path,
    *,
    parent: Path | None = None,
    resume: Path | None = None,
    device: str = "cpu",
    progress: Callable[[dict[str, object]], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
    on_checkpoint: Callable[[Path, int], None] = lambda *_: None,
    ranks: Ranks = ALONE,
) -> TrainSummary:
    """Train; writes `model.safetensors`, `model.json` and `curves.png` in `out_dir`. Raises Stopped when told to.

    Of several processes (`ranks`) only the first writes.
    """
    begun = time.monotonic()
    notes: list[str] = []
    window = load_window(shards, spec.heldout, notes.append, spec.room, spec.seed)
    progress({"done": 0, "total": spec.steps, "positions": len(window.game), "left_out": notes})
    run = Training(spec, window, parent, device, ranks)
    if resume is not None:
        run.load_checkpoint(resume)
    checkpoint = out_dir / "checkpoint.safetensors"
    last_word = 0.0
    while run.step < spec.steps:
        if ranks.same(should_stop()):
            _keep(run, checkpoint)
            raise Stopped(checkpoint, run.step)
        run.advance()
        if time.monotonic() - last_word > 0.5:
            last_word = time.monotonic()
            progress(_progress(run))
        if run.step % LOOK_EVERY == 0 and spec.patience and ranks.same(_look(run)):
            break
        if spec.checkpoint_steps and run.step % spec.checkpoint_steps == 0 and run.step < spec.steps:
            _keep(run, checkpoint)
            if ranks.first:
                on_checkpoint(checkpoint, run.step)
    return _finish(run, out_dir, time.monotonic() - begun, progress)


def _keep(run: Training, checkpoint: Path) -> None:
    if run.ranks.first:
        run.save_checkpoint(checkpoint)


def _look(run: Training) -> bool:
    """Look at the held-out games; returns whether to stop early."""
    held = run.heldout_losses()
    total = sum(LOSS_WEIGHTS[name] * value for name, value in held.items())
    run.history[-1]["heldout"] = total
    if total < run.best - 1e-4:
        run.best, run.stale = total, 0
    else:
        run.stale += 1
    return bool(held) and run.stale >= run.spec.patience


def _progress(run: Training) -> dict[str, object]:
    recent = run.history[-20:]
    mean = {name: round(sum(row[name] for row in recent) / len(recent), 4) for name in ("loss", "policy", "value")}
    return {"done": run.step, "total": run.spec.steps, "skipped": run.skipped, **mean}


def _finish(
    run: Training, out_dir: Path, seconds: float, progress: Callable[[dict[str, object]], None]
) -> TrainSummary:
    held = run.heldout_losses()
    recent = run.history[-50:] or [{"loss": 0.0, "policy": 0.0, "value": 0.0}]
    mean = {name: sum(row[name] for row in recent) / len(recent) for name in ("loss", "policy", "value")}
    net, manifest = run.averaged(), run.manifest()
    path, curves, data = out_dir / "model.safetensors", out_dir / "curves.png", dump(net, manifest)
    if run.ranks.first:
        save(net, manifest, out_dir)
        draw_curves(run.history, held, curves)
    progress(_progress(run) if run.history else {"done": 0, "total": 0})
    return TrainSummary(
        digest(data), str(path), len(data), run.step, run.step * run.spec.batch_size, mean["loss"],
        mean["policy"], mean["value"], sum(LOSS_WEIGHTS[k] * v for k, v in held.items()), seconds, run.skipped,
        manifest, str(curves),
    )  # fmt: skip
