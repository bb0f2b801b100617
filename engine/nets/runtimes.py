"""ONNX Runtime and OpenVINO: faster on CPUs than torch, and installed by extras of their own."""

from __future__ import annotations

import io
from collections.abc import Callable

from engine.nets.encoder import Floats
from engine.nets.graph import INPUTS, OUTPUTS, onnx_bytes
from engine.nets.net import Net

Run = Callable[[Floats, Floats], tuple[Floats, Floats]]


def onnxruntime_run(net: Net, threads: int) -> Run:
    """Return the function of a net by ONNX Runtime, in single precision."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    session = onnxruntime.InferenceSession(onnx_bytes(net), options, providers=["CPUExecutionProvider"])

    def run(planes: Floats, scalars: Floats) -> tuple[Floats, Floats]:
        policy, chances = session.run(OUTPUTS, dict(zip(INPUTS, (planes, scalars), strict=True)))
        return policy, chances

    return run


def openvino_run(net: Net, threads: int, precision: str) -> Run:
    """Return the function of a net by OpenVINO; what comes out is single precision in any case."""
    import openvino

    core = openvino.Core()
    hints = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",  # one stream with all threads: a search waits for its batch
        "ENABLE_CPU_PINNING": False,  # jobs side by side would share their cores
    }
    compiled = core.compile_model(core.read_model(io.BytesIO(onnx_bytes(net))), "CPU", hints)
    request = compiled.create_infer_request()

    def run(planes: Floats, scalars: Floats) -> tuple[Floats, Floats]:
        found = request.infer(dict(zip(INPUTS, (planes, scalars), strict=True)), share_inputs=True, share_outputs=True)
        return found[OUTPUTS[0]], found[OUTPUTS[1]]

    return run


def openvino_has_bf16() -> bool:
    """Return whether this CPU computes in bfloat16 itself."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
