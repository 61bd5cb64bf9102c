"""PyTorch state files are read without PyTorch, and without running what a hostile one asks for."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.convert.torch_route import STREAM_MAGIC, STREAM_PROTOCOL, read_state
from tests.tools.convert.pickle_maker import Call, Global, pickled, tensor

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)
VECTOR = np.array([7, -8], np.int64)

STATE = {"matrix": tensor("0", "FloatStorage", 6, (2, 3), (3, 1)), "vector": tensor("1", "LongStorage", 2, (2,), (1,)), "epoch": 3}
NUMBERS = {"0": MATRIX.tobytes(), "1": VECTOR.tobytes()}


def zip_file(path: Path, state: object, numbers: dict[str, bytes] = NUMBERS) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled(state))
        archive.writestr("model/byteorder", "little")
        for key, data in numbers.items():
            archive.writestr(f"model/data/{key}", data)
    return path


def stream_file(path: Path, state: object) -> Path:
    head = [pickled(part) for part in (STREAM_MAGIC, STREAM_PROTOCOL, {"little_endian": True}, state, ["0", "1"])]
    tail = [struct.pack("<q", 6) + NUMBERS["0"], struct.pack("<q", 2) + NUMBERS["1"]]
    path.write_bytes(b"".join(head + tail))
    return path


def test_a_state_without_tensors_is_empty(tmp_path):
    assert read_state(zip_file(tmp_path / "s.pth", {}, {})) == {}


@pytest.mark.parametrize("write", [zip_file, stream_file])
def test_tensors_are_read_and_other_entries_left_out(write, tmp_path):
    found = read_state(write(tmp_path / "s.pth", STATE))
    assert list(found) == ["matrix", "vector"]
    assert np.array_equal(found["matrix"], MATRIX)
    assert np.array_equal(found["vector"], VECTOR)
    assert found["vector"].dtype == np.int64


def test_a_checkpoint_has_its_state_inside(tmp_path):
    assert list(read_state(zip_file(tmp_path / "s.pth", {"state_dict": STATE, "epoch": 3}))) == ["matrix", "vector"]


def test_a_transposed_view_is_read_as_it_looks(tmp_path):
    found = read_state(zip_file(tmp_path / "s.pth", {"t": tensor("0", "FloatStorage", 6, (3, 2), (1, 3))}))
    assert np.array_equal(found["t"], MATRIX.T)


@pytest.mark.parametrize("function", ["os.system", "builtins.eval", "torch.load", "collections.Counter"])
def test_a_call_that_no_state_needs_is_refused_and_not_made(function, tmp_path):
    module, name = function.rsplit(".", 1)
    path = zip_file(tmp_path / "s.pth", {"x": Call(Global(module, name), f"touch {tmp_path}/made")})
    with pytest.raises(InputError, match=f"wants to use {module}.{name}"):
        read_state(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), [((2, 4), (3, 1), 0), ((2, 3), (3, 1), 1), ((2,), (-1,), 1), ((1000000, 1000000), (0, 1), 0)]
)
def test_a_view_beyond_its_numbers_is_refused(shape, strides, offset, tmp_path):
    path = zip_file(tmp_path / "s.pth", {"t": tensor("0", "FloatStorage", 6, shape, strides, offset)})
    with pytest.raises(InputError, match="reaches beyond"):
        read_state(path)


def test_truncated_numbers_are_refused(tmp_path):
    with pytest.raises(InputError, match="truncated"):
        read_state(zip_file(tmp_path / "s.pth", STATE, {"0": MATRIX.tobytes()[:-4], "1": VECTOR.tobytes()}))


@pytest.mark.parametrize("data", [b"", b"\x80\x02N.", b"not a pickle"])
def test_another_file_is_refused(data, tmp_path):
    (tmp_path / "s.pth").write_bytes(data)
    with pytest.raises(InputError, match=r"s\.pth"):
        read_state(tmp_path / "s.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"s\.pth cannot be read"):
        read_state(tmp_path / "s.pth")
