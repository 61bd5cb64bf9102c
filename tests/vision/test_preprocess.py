"""Preprocessing: exact numbers in the tensor, the right place on it, nothing written to the picture."""

import numpy as np
import pytest

from edgeannot.base.errors import CardError
from edgeannot.vision.data import TensorSpec
from edgeannot.vision.preprocess import ToTensor, byte_table


def spec(dtype="uint8", scale=1 / 255, zero_point=0, shape=(1, 8, 8, 3)):
    return TensorSpec("images", 0, shape, np.dtype(dtype), scale, zero_point)


def picture(height, width):
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_raw_bytes_go_straight_in_when_scale_and_zero_point_allow():
    image = picture(8, 8)

    tensor, _ = ToTensor(spec(), (8, 8), color="BGR")(image)

    assert tensor.dtype == np.uint8
    assert (tensor[0] == image).all()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "mean", "std"),
    [
        ("uint8", 1 / 255, 0, (0,), (255,)),
        ("uint8", 1 / 128, 128, (127.5,), (127.5,)),
        ("int8", 1 / 255, -128, (0,), (255,)),
        ("int8", 0.0186, -14, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4)),
        ("int16", 1 / 32768, 0, (0,), (255,)),
    ],
)
def test_every_byte_is_quantized_to_the_nearest_step_and_saturates(dtype, scale, zero_point, mean, std):
    table = byte_table(mean, std, spec(dtype, scale, zero_point))

    limits = np.iinfo(dtype)
    real = (np.arange(256)[:, None] - np.array(mean)) / np.array(std)
    inside = np.clip(real, (limits.min - zero_point) * scale, (limits.max - zero_point) * scale)
    assert table.dtype == np.dtype(dtype)
    assert np.abs((table.astype(np.float64) - zero_point) * scale - inside).max() <= scale * 0.5 * 1.001


def test_a_float_input_gets_real_numbers():
    table = byte_table((127.5,), (127.5,), spec("float32", 0.0))

    assert table[[0, 255], 0].tolist() == [-1.0, 1.0]


def test_a_byte_input_without_a_scale_gets_the_bytes_themselves():
    assert (byte_table((0,), (1,), spec("uint8", 0.0))[:, 0] == np.arange(256)).all()


def test_an_integer_input_without_a_scale_is_refused():
    with pytest.raises(CardError, match="without a scale"):
        byte_table((0,), (255,), spec("int8", 0.0))


@pytest.mark.parametrize("resize", ["stretch", "letterbox", "letterbox-top-left"])
@pytest.mark.parametrize("size_wh", [(640, 480), (480, 640), (3, 500), (8, 8), (9, 8)])
def test_boxes_map_back_exactly_on_any_shape(resize, size_wh):
    tensor, fit = ToTensor(spec(shape=(1, 32, 48, 3)), (48, 32), resize)(picture(size_wh[1], size_wh[0]))

    boxes = np.array([[0, 0, *size_wh], [1, 2, 2.5, 7]], np.float32)
    assert tensor.shape == (1, 32, 48, 3)
    assert np.allclose(fit.to_frame(fit.to_model(boxes)), boxes, atol=1e-3)
    assert fit.to_model(boxes)[0].min() >= 0
    assert (fit.to_model(boxes)[0] <= [48, 32, 48, 32]).all()


@pytest.mark.parametrize("size_wh", [(640, 480), (480, 640), (3, 500), (8, 8), (9, 8), (5000, 1)])
def test_a_crop_is_the_middle_of_the_picture_and_boxes_map_back(size_wh):
    image = picture(size_wh[1], size_wh[0])
    tensor, fit = ToTensor(spec(shape=(1, 32, 48, 3)), (48, 32), "crop")(image)
    left, top = fit.cut_xy
    middle = np.ascontiguousarray(image[top : size_wh[1] - top, left : size_wh[0] - left])

    corners = np.array([[left, top, size_wh[0] - left, size_wh[1] - top]], np.float32)
    assert (tensor == ToTensor(spec(shape=(1, 32, 48, 3)), (48, 32), "stretch")(middle)[0]).all()
    assert np.allclose(fit.to_model(corners), [[0, 0, 48, 32]], atol=1e-3)
    assert np.allclose(fit.to_frame(np.array([[0, 0, 48, 32]], np.float32)), corners, atol=1e-3)


def test_a_letterbox_fills_the_rest_with_its_byte():
    tensor, fit = ToTensor(spec(), (8, 8), "letterbox", pad=114)(np.zeros((4, 8, 3), np.uint8))

    assert fit.pad_xy == (0, 2)
    assert (tensor[0, :2] == 114).all()
    assert (tensor[0, 2:6] == 0).all()
    assert (tensor[0, 6:] == 114).all()


def test_channels_first_and_gray_have_the_shape_the_tensor_wants():
    image = picture(8, 8)
    first, _ = ToTensor(spec(shape=(1, 3, 8, 8)), (8, 8), color="BGR", layout="NCHW")(image)
    gray, _ = ToTensor(spec(shape=(1, 8, 8, 1)), (8, 8), color="GRAY")(np.full((8, 8, 3), 77, np.uint8))

    assert (first[0] == image.transpose(2, 0, 1)).all()
    assert gray.shape == (1, 8, 8, 1)
    assert (gray == 77).all()


def test_the_picture_is_not_written_to():
    image = picture(90, 70)
    before = image.copy()
    ToTensor(spec("int8", 1 / 255, -128), (8, 8), "letterbox")(image)

    assert (image == before).all()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "mean", "std"),
    [
        ("uint8", 1 / 255, 0, (0,), (255,)),
        ("int8", 1 / 255, -128, (0,), (255,)),
        ("uint8", 1 / 128, 128, (128,), (128,)),
        ("int8", 0.02, 3, (0,), (255,)),
        ("float32", 0.0, 0, (0,), (255,)),
        ("float32", 0.0, 0, (127.5,), (127.5,)),
        ("float32", 0.0, 0, (123.68,), (58.4,)),
        ("float32", 0.0, 0, (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    ],
)
def test_whatever_is_quickest_gives_the_numbers_of_the_table(dtype, scale, zero_point, mean, std):
    target = spec(dtype, scale, zero_point, (1, 16, 16, 3))
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)

    tensor, _ = ToTensor(target, (16, 16), mean=mean, std=std)(image)

    wanted = np.broadcast_to(byte_table(mean, std, target), (256, 3)).reshape(1, 16, 16, 3)
    assert tensor.dtype == wanted.dtype
    assert tensor.tobytes() == wanted.tobytes()
