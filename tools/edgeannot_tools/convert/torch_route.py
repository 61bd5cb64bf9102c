"""The EfficientNet-Lite networks from a PyTorch state: MobileNet's inverted residuals without the parts that quantize badly.

No squeeze-and-excitation, ReLU6 in place of swish. https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
and the paper, https://arxiv.org/abs/1905.11946, table 1. Tensor names are those of the PyTorch ports: `_blocks.3._expand_conv.weight`.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeannot.base.errors import InputError, MissingError
from edgeannot.base.foreign import sha256_of
from edgeannot_tools.convert.files import CLASS_NAMES_HINT, Converted, Request, label_names
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.writer import Activation, Net

__all__ = ["EMBEDDING", "LOGITS", "convert_torch", "efficientnet_lite", "read_state"]

BATCH_NORM_EPSILON = 1e-3
LOGITS, EMBEDDING = "logits", "embedding"

State = Mapping[str, NDArray[Any]]

STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of each stage's first block; the others have 1."""


@dataclass(frozen=True, slots=True)
class Lite:
    """One of the five networks: B0 widened and deepened by the paper's rule, stem, first and last stage as deep as they were."""

    name: str
    size: int
    """Width and height of the input in pixels."""
    blocks: tuple[int, ...]
    """In each stage."""
    channels: int
    """That the last block gives."""


NETWORKS = (
    Lite("EfficientNet-Lite0", 224, (1, 2, 2, 3, 3, 4, 1), 320),
    Lite("EfficientNet-Lite1", 240, (1, 3, 3, 4, 4, 5, 1), 320),
    Lite("EfficientNet-Lite2", 260, (1, 3, 3, 4, 4, 5, 1), 352),
    Lite("EfficientNet-Lite3", 280, (1, 3, 3, 5, 5, 6, 1), 384),
    Lite("EfficientNet-Lite4", 300, (1, 4, 4, 6, 6, 8, 1), 448),
)


def network_of(state: State) -> Lite:
    """Return the network that a state is of, by the number of its blocks and what the last one gives. Raises InputError."""
    blocks = sum(name.startswith("_blocks.") and name.endswith("._project_conv.weight") for name in state)
    last = state.get(f"_blocks.{blocks - 1}._project_conv.weight")
    channels = 0 if last is None or not last.ndim else len(last)
    for network in NETWORKS:
        if (sum(network.blocks), network.channels) == (blocks, channels):
            return network
    raise InputError(f"no EfficientNet-Lite 0 to 4 has {blocks} blocks of which the last gives {channels} channels")


def efficientnet_lite(state: State) -> Graph:
    """Return the float network: (1, size, size, 3) RGB in, (byte - 127) / 128; out 1000 logits and the 1280 numbers they are made of.

    The last layer is written as a 1x1 convolution, which int8 kernels give one scale a class, where a dense layer has one in all.
    Raises InputError where the state is of none of the five networks, or a tensor is missing.
    """
    network = network_of(state)
    net = Net()
    x = net.input("images", (1, network.size, network.size, 3))
    x = _conv(net, state, "stem", x, "_conv_stem", "_bn0", stride=2)
    number = 0
    for blocks, stride in zip(network.blocks, STRIDES, strict=True):
        for repeat in range(blocks):
            x = _block(net, state, number, x, stride if repeat == 0 else 1)
            number += 1
    x = _conv(net, state, "top", x, "_conv_head", "_bn1")
    embedding = net.mean_hw(EMBEDDING, x)
    weights, bias = _tensor(state, "_fc.weight"), _tensor(state, "_fc.bias")
    logits = net.conv(LOGITS, embedding, weights[:, :, None, None], bias)
    return net.outputs([logits, embedding])


def _block(net: Net, state: State, number: int, x: int, stride: int) -> int:
    """Widen, filter each channel, narrow; added to the input where both have one shape."""
    prefix, name = f"_blocks.{number}.", f"block{number}"
    y = x
    if f"{prefix}_expand_conv.weight" in state:
        y = _conv(net, state, f"{name}_expand", y, f"{prefix}_expand_conv", f"{prefix}_bn0")
    channels = net.shape(y)[3]
    y = _conv(net, state, f"{name}_depthwise", y, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride, groups=channels)
    y = _conv(net, state, f"{name}_project", y, f"{prefix}_project_conv", f"{prefix}_bn2", activation="linear")
    return net.add(f"{name}_add", y, x) if net.shape(y) == net.shape(x) else y


def _conv(
    net: Net,
    state: State,
    name: str,
    x: int,
    conv: str,
    norm: str,
    *,
    stride: int = 1,
    groups: int = 1,
    activation: Activation = "relu6",
) -> int:
    """Return a convolution with its batch normalisation folded in."""
    weights = _tensor(state, f"{conv}.weight").astype(np.float64)
    scale, shift, mean, variance = (
        _tensor(state, f"{norm}.{part}").astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    weights = weights * factor[:, None, None, None]
    bias = shift - mean * factor
    return net.conv(name, x, weights.astype(np.float32), bias.astype(np.float32), stride=stride, groups=groups, activation=activation)


def _tensor(state: State, name: str) -> NDArray[Any]:
    if name not in state:
        raise InputError(f"the state has no tensor {name}; is it an {network_of(state).name}?")
    return state[name]


MEAN, STD = 127.0, 128.0
"""EfficientNet-Lite's preprocessing, in bytes."""


def convert_torch(sources: Sequence[Path], request: Request) -> Converted:
    """Return the classifier of a state file. Raises MissingError, or InputError for what is no such state."""
    (path,) = sources
    try:
        state = read_state(path)
        network, graph = network_of(state), efficientnet_lite(state)
    except InputError as exc:
        advice = "only states of EfficientNet-Lite are read directly; export another network to ONNX and convert that"
        raise InputError(f"{str(exc).rstrip('.')} ({advice})") from exc
    if request.size_wh not in (None, (network.size, network.size)):
        raise InputError(f"--size: an {network.name} takes {network.size}x{network.size} only")
    labels = request.hints.labels
    classes = graph.shape(graph.find(LOGITS))[-1]
    card = {
        "task": "classify",
        "family": "mobilenet",
        "input": {"width": network.size, "height": network.size, "resize": "stretch", "color": "RGB", "mean": [MEAN], "std": [STD]},
        "head": {"kind": "classify", "output": LOGITS, "activation": "softmax"},
        "defaults": {"min_score": 0.1},
        "provenance": {"source_sha256": sha256_of(path)},
    }
    names = () if labels is None else label_names(labels, classes)
    return Converted(
        graph,
        source=path.name,
        card=card,
        names=names,
        evidence=(f"converted from a PyTorch state whose tensors have the names and shapes of {network.name}",),
        notes=() if names else (CLASS_NAMES_HINT,),
    )


Array = NDArray[Any]
STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_PROTOCOL = 1001
STORAGES: dict[str, str] = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "|i1",
    "ByteStorage": "|u1",
    "BoolStorage": "|b1",
}
"""PyTorch's names of number types, as numpy writes them."""


class _StorageType:
    """Stands for `torch.FloatStorage` and its kin."""

    def __init__(self, name: str) -> None:
        self.dtype = np.dtype(STORAGES[name])


class _Tensor:
    """A view into a storage that may not have been read yet."""

    def __init__(self, storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides

    def array(self) -> Array:
        """Return the values. Raises InputError where the view reaches beyond its storage."""
        values = self.storage.values
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        legal = self.offset >= 0 and all(n >= 0 for n in self.shape) and all(s >= 0 for s in self.strides)
        if values is None or not legal or (0 not in self.shape and last >= values.size):
            raise InputError(f"a tensor of shape {self.shape} reaches beyond its {0 if values is None else values.size} stored numbers")
        if 0 in self.shape:
            return np.zeros(self.shape, values.dtype)
        byte_strides = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, byte_strides).copy()


class _Storage:
    """A run of numbers that tensors look into."""

    def __init__(self, kind: _StorageType, size: int) -> None:
        self.dtype, self.size = kind.dtype, size
        self.values: Array | None = None

    def fill(self, data: bytes) -> None:
        """Take the numbers. Raises InputError where there are fewer than were announced."""
        wanted = self.size * self.dtype.itemsize
        if len(data) < wanted:
            raise InputError(f"wanted {wanted} bytes for a tensor, found {len(data)}; the file is truncated, fetch it again")
        self.values = np.frombuffer(data[:wanted], self.dtype)


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: Any, *_: Any) -> Any:
    return tensor


class _Unpickler(pickle.Unpickler):
    """Knows the names in `KNOWN` and storages; everything else is refused before it is imported."""

    KNOWN: Mapping[tuple[str, str], Callable[..., Any]] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
        ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    }

    def __init__(self, file: io.BufferedIOBase, storages: dict[str, _Storage]) -> None:
        super().__init__(file)
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in STORAGES:
            return _StorageType(name)
        found = self.KNOWN.get((module, name))
        if found is None:
            raise InputError(
                f"the file wants to use {module}.{name}, which a dictionary of tensors does not need; save a state_dict instead"
            )
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a storage by the key under which its numbers follow: ("storage", type, key, place, size, ...)."""
        if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _StorageType)):
            raise InputError(f"the file refers to something that is no tensor: {pid!r:.80}")
        return self.storages.setdefault(str(pid[2]), _Storage(pid[1], int(pid[4])))


def read_state(path: Path) -> dict[str, Array]:
    """Return the tensors of a state file by name. Raises MissingError, or InputError for what is no such file or holds something else."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise MissingError(f"{path} cannot be read: {exc.strerror}") from exc
    storages: dict[str, _Storage] = {}
    try:
        state = _read_zip(data, storages) if zipfile.is_zipfile(io.BytesIO(data)) else _read_stream(data, storages)
        return _tensors(state)
    except InputError as exc:
        raise InputError(f"{path}: {exc}") from exc
    except Exception as exc:  # pickle raises whatever the broken bytes lead it to
        raise InputError(f"{path} is not a PyTorch state file, or a damaged one ({type(exc).__name__}: {exc})") from exc


def _read_zip(data: bytes, storages: dict[str, _Storage]) -> Any:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        index = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if index is None:
            raise InputError("there is no data.pkl in it; is it a PyTorch state file?")
        folder = index.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise InputError("its numbers are big-endian, which is not supported")
        state = _Unpickler(io.BytesIO(archive.read(index)), storages).load()
        for key, storage in storages.items():
            storage.fill(archive.read(f"{folder}data/{key}"))
    return state


def _read_stream(data: bytes, storages: dict[str, _Storage]) -> Any:
    """Magic number, protocol, facts of the machine, the dictionary, the keys, and then for each key its size and numbers."""
    file = io.BytesIO(data)
    magic, protocol, facts = (_Unpickler(file, storages).load() for _ in range(3))
    if magic != STREAM_MAGIC or protocol != STREAM_PROTOCOL or not facts.get("little_endian"):
        raise InputError("it does not begin as a PyTorch state file does")
    state = _Unpickler(file, storages).load()
    for key in _Unpickler(file, storages).load():
        storage = storages[str(key)]
        count = int.from_bytes(file.read(8), "little")
        if count != storage.size:
            raise InputError(f"wanted {storage.size} numbers, found {count}; the file is damaged, fetch it again")
        storage.fill(file.read(count * storage.dtype.itemsize))
    return state


def _tensors(state: Any) -> dict[str, Array]:
    """Return the entries that are tensors; a training checkpoint has the dictionary under "state_dict"."""
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise InputError(f"wanted a dictionary of tensors, found {type(state).__name__}")
    return {str(name): value.array() for name, value in state.items() if isinstance(value, _Tensor)}
