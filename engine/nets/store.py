"""Weights as safetensors with a JSON manifest beside them; anything that does not fit is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from engine.nets.encoder import ENCODER
from engine.nets.net import Net, parse_size
from engine.rules import RULES_VERSION
from engine.rules.geometry import Geometry, geometry


class ModelError(Exception):
    """Weights or a manifest that cannot be used; the text says why."""


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What weights are: enough to refuse them where they do not fit."""

    board: str
    players: int
    size: str
    variant: str = "spec"
    rules_version: str = RULES_VERSION
    encoder: str = ENCODER
    policy_planes: int = 0
    parents: tuple[str, ...] = ()
    steps: int = 0
    samples: int = 0
    transferred: tuple[str, ...] = ()  # tensors that came from a parent of another config

    def geometry(self) -> Geometry:
        """Return the geometry that the net plays."""
        return geometry(self.board, self.players, self.variant)


_METADATA = "riftq"


def dump(net: Net, manifest: Manifest) -> bytes:
    """Return weights with the manifest inside them; the same weights always give the same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in sorted(net.state_dict().items())}
    return save_tensors(tensors, {_METADATA: msgspec.json.encode(manifest, order="sorted").decode()})


def digest(data: bytes) -> str:
    """Return the id of weights."""
    return hashlib.sha256(data).hexdigest()


def save(net: Net, manifest: Manifest, folder: Path) -> tuple[Path, str]:
    """Write `model.safetensors` and `model.json` in `folder`; returns the path and the id of the weights."""
    data = dump(net, manifest)
    path = folder / "model.safetensors"
    path.write_bytes(data)
    (folder / "model.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return path, digest(data)


def read_manifest(data: bytes) -> Manifest:
    """Return the manifest of weights without loading them."""
    try:
        length = int.from_bytes(data[:8], "little")
        header = msgspec.json.decode(data[8 : 8 + length])
        manifest = msgspec.json.decode(header["__metadata__"][_METADATA], type=Manifest)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"these weights carry no manifest of ours: {error}") from error
    return manifest


def _check(manifest: Manifest, where: Geometry | None) -> None:
    if manifest.rules_version != RULES_VERSION:
        raise ModelError(f"made for rules version {manifest.rules_version}, these are {RULES_VERSION}")
    if manifest.encoder != ENCODER:
        raise ModelError(f"made for encoder {manifest.encoder}, this is {ENCODER}")
    if where and (manifest.board, manifest.players, manifest.variant) != (where.board, where.players, where.variant):
        raise ModelError(
            f"plays {manifest.board} with {manifest.players} players ({manifest.variant}), "
            f"not {where.board} with {where.players} ({where.variant})"
        )


def parse(data: bytes, where: Geometry | None = None) -> tuple[Net, Manifest]:
    """Return the net of weights, checked against `where`; raises ModelError."""
    manifest = read_manifest(data)
    _check(manifest, where)
    try:
        net = Net(manifest.geometry(), *parse_size(manifest.size))
        net.load_state_dict(load_tensors(data))
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise ModelError(f"the weights do not fit their manifest: {error}") from error
    if any(not torch.isfinite(tensor).all() for tensor in net.state_dict().values()):
        raise ModelError("the weights hold values that are not numbers")
    return net.eval(), manifest


def load(path: Path, where: Geometry | None = None) -> tuple[Net, Manifest]:
    """Read weights from a file; raises ModelError."""
    return parse(path.read_bytes(), where)


def transfer(source: Net, target: Net) -> tuple[str, ...]:
    """Copy every tensor of `source` that has its like in `target`; returns their names."""
    theirs, ours = source.state_dict(), target.state_dict()
    fitting = tuple(name for name, tensor in ours.items() if name in theirs and theirs[name].shape == tensor.shape)
    ours.update({name: theirs[name].clone() for name in fitting})
    target.load_state_dict(ours)
    return fitting
