"""An engine on one file, one thread: `python -m benchmarks.engines.run litert|onnxruntime|ncnn|mnn FILE TENSOR.npy OUT.npz < lines`.

TENSOR is (1, 3, H, W); each line of stdin is one run. OUT gets the real numbers of the outputs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.peers.turns import serve

Ready = tuple[Callable[[], Any], Callable[[], list[Any]]]
"""What runs the network, and what then returns its outputs as real numbers."""


def litert(file: str, tensor: Any) -> Ready:
    """LiteRT; an int8 input is filled as its scale says."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - each engine is in an environment of its own

    interpreter = Interpreter(file, num_threads=1)
    interpreter.allocate_tensors()
    wanted = interpreter.get_input_details()[0]
    scale, zero_point = wanted["quantization"]
    given = tensor.transpose(0, 2, 3, 1)
    given = np.rint(given / scale + zero_point) if scale else given
    interpreter.set_tensor(wanted["index"], np.ascontiguousarray(given, wanted["dtype"]))

    def outputs() -> list[Any]:
        found = []
        for told in interpreter.get_output_details():
            values, (by, zero) = interpreter.get_tensor(told["index"]).astype(np.float32), told["quantization"]
            found.append((values - zero) * by if by else values)
        return found

    return interpreter.invoke, outputs


def onnxruntime(file: str, tensor: Any) -> Ready:
    """The CPU part of onnxruntime."""
    import onnxruntime as ort  # noqa: PLC0415 - as above

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    given = {session.get_inputs()[0].name: tensor}
    return lambda: session.run(None, given), lambda: session.run(None, given)


def ncnn(file: str, tensor: Any) -> Ready:
    """ncnn, as it sets itself up but for the threads."""
    import ncnn as engine  # noqa: PLC0415 - as above

    net = engine.Net()
    net.opt.num_threads = 1
    net.load_param(f"{file}.param")
    net.load_model(f"{file}.bin")
    first, names = net.input_names()[0], net.output_names()

    def run() -> list[Any]:
        extractor = net.create_extractor()
        extractor.input(first, engine.Mat(tensor[0]))
        return [extractor.extract(name)[1] for name in names]

    return run, lambda: [np.array(each) for each in run()]


def mnn(file: str, tensor: Any) -> Ready:
    """MNN's session on the CPU."""
    import MNN  # noqa: PLC0415 - as above

    interpreter = MNN.Interpreter(file)
    session = interpreter.createSession({"backend": "CPU", "numThread": 1})
    given = MNN.Tensor(tensor.shape, MNN.Halide_Type_Float, tensor, MNN.Tensor_DimensionType_Caffe)
    interpreter.getSessionInput(session).copyFrom(given)

    def outputs() -> list[Any]:
        found = []
        for each in interpreter.getSessionOutputAll(session).values():
            shape = each.getShape()
            host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
            each.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData()).reshape(shape))
        return found

    return lambda: interpreter.runSession(session), outputs


PACKAGES = {"litert": "ai-edge-litert", "onnxruntime": "onnxruntime", "ncnn": "ncnn", "mnn": "MNN"}


def main() -> None:
    """Run it once for each line."""
    name, file, tensor, out = sys.argv[1:5]
    run, outputs = {"litert": litert, "onnxruntime": onnxruntime, "ncnn": ncnn, "mnn": mnn}[name](file, np.load(tensor))
    run()
    np.savez(out, *outputs())

    def once(_: str) -> int:
        run()
        return 0

    serve(once, **{name: version(PACKAGES[name])})


if __name__ == "__main__":
    main()
