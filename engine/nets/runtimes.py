"""ONNX Runtime and OpenVINO: faster on CPUs than torch, and installed by extras of their own."""

from __future__ import annotations

import io
from collections.abc import Callable

from engine.nets.encoder import Floats
from engine.nets.graph import INPUTS, OUTPUTS, onnx_bytes
from engine.nets.net import Net

Run = Callable[[Floats, Floats], tuple[Floats, Floats]]


def onnxruntime_run(net: Net, threads: int) -> Run:
    """Return the function of a net by ONNX Runtime, in single precision; raises RuntimeError where it fails."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = tuple(each for each in vars(state).values() if isinstance(each, type) and issubclass(each, Exception))

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        session = onnxruntime.InferenceSession(onnx_bytes(net), options, providers=["CPUExecutionProvider"])
    except own as error:  # its errors are of no standard kind
        raise RuntimeError(str(error)) from error

    def run(planes: Floats, scalars: Floats) -> tuple[Floats, Floats]:
        try:
            policy, chances = session.run(OUTPUTS, dict(zip(INPUTS, (planes, scalars), strict=True)))
        except own as error:
            raise RuntimeError(str(error)) from error
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
