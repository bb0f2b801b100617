"""A net as an ONNX graph, which ONNX Runtime and OpenVINO read: the same layers, normalisations folded.

Written layer by layer and not traced, so that it needs the `onnx` package alone. Whoever loads it compares its answers
with torch's (`engine.nets.inference`), so that a net that changes without its graph is refused and not misread.
"""

from __future__ import annotations

from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from engine.nets.encoder import PLANES, SCALARS
from engine.nets.fold import folded
from engine.nets.net import SCALAR_PLANES, Block, Net

OPSET = 17
INPUTS = ("planes", "scalars")
OUTPUTS = ("policy", "chances")


class Graph:
    """Nodes and constants, in order."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Tensor) -> str:
        """Add a constant and return its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(values.detach().float().contiguous().numpy(), name))
        return name

    def numbers(self, *values: int) -> str:
        """Add a constant of whole numbers and return its name."""
        name = f"c{len(self.constants)}"
        self.constants.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], list(values)))
        return name

    def add(self, kind: str, *inputs: str, out: str = "", **fields: Any) -> str:
        """Add a node and return the name of what comes out."""
        out = out or f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **fields))
        return out

    def conv(self, x: str, weight: Tensor, bias: Tensor | None) -> str:
        """Convolve with the edge padded by zeros."""
        side = weight.shape[2] // 2
        constants = [self.constant(each) for each in (weight, bias) if each is not None]
        return self.add("Conv", x, *constants, pads=[side] * 4, kernel_shape=list(weight.shape[2:]))

    def pointwise(self, x: str, weight: Tensor, bias: Tensor) -> str:
        """Apply a dense layer to [n, channels, 1, 1]."""
        return self.conv(x, weight[:, :, None, None], bias)

    def dense(self, x: str, layer: nn.Linear) -> str:
        """Apply a dense layer to [n, channels]."""
        return self.add("Gemm", x, self.constant(layer.weight), self.constant(layer.bias), transB=1)


def onnx_bytes(net: Net) -> bytes:
    """Return the graph of what play needs: policy logits [n, planes * frame] and win chances [n, players]."""
    net, g = folded(net).cpu(), Graph()
    x = _trunk(g, net)
    pool = g.add("Concat", g.add("GlobalAveragePool", x), g.add("GlobalMaxPool", x), axis=1)
    hidden = g.add("Relu", g.dense(g.add("Flatten", pool), net.pooled))
    cells = g.conv(g.add("Relu", g.conv(x, net.policy_mix.weight, net.policy_mix.bias)), net.policy.weight,
                   net.policy.bias)  # fmt: skip
    whole = g.add("Reshape", g.dense(hidden, net.policy_scalar), g.numbers(-1, SCALAR_PLANES, 1, 1))
    spread = g.add("Tile", whole, g.numbers(1, 1, net.size, net.size))
    g.add("Flatten", g.add("Concat", cells, spread, axis=1), out=OUTPUTS[0])
    g.add("Softmax", g.dense(hidden, net.value), out=OUTPUTS[1], axis=1)
    return _model(g, net)


def _trunk(g: Graph, net: Net) -> str:
    scalars = g.add("Reshape", g.dense(INPUTS[1], net.scalars), g.numbers(-1, net.channels, 1, 1))
    x = g.add("Relu", g.add("Add", g.conv(INPUTS[0], net.stem.weight, None), scalars))
    for block in net.tower:
        assert isinstance(block, Block)
        x = _block(g, block, x, net.channels)
    return x


def _block(g: Graph, block: Block, x: str, channels: int) -> str:
    y = g.add("Relu", g.conv(x, block.conv1.weight, block.conv1.bias))
    y = g.conv(y, block.conv2.weight, block.conv2.bias)
    squeezed = g.add("Relu", g.pointwise(g.add("GlobalAveragePool", y), block.squeeze.weight, block.squeeze.bias))
    weight, bias = block.excite.weight, block.excite.bias
    scale = g.add("Sigmoid", g.pointwise(squeezed, weight[:channels], bias[:channels]))
    shift = g.pointwise(squeezed, weight[channels:], bias[channels:])
    return g.add("Relu", g.add("Add", x, g.add("Add", g.add("Mul", y, scale), shift)))


def _model(g: Graph, net: Net) -> bytes:
    shapes = ([PLANES, net.size, net.size], [SCALARS]), ([net.planes * net.size**2], [net.players])
    inputs, outputs = (
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])
            for name, shape in zip(names, each, strict=True)
        ]
        for names, each in zip((INPUTS, OUTPUTS), shapes, strict=True)
    )
    graph = helper.make_graph(g.nodes, "net", inputs, outputs, g.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
