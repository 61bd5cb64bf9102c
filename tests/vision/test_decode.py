"""Picture files in, upright BGR pictures or a reason out. Files are made here, so that each has exactly one peculiarity."""

from __future__ import annotations

import itertools
import os
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import FrameError
from edgeannot.vision.decode import PictureLimits, configure_opencv, decode, read_picture

RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)


@pytest.fixture
def corners():
    """40 x 24 BGR: red and green above, blue and white below, so that each orientation looks different."""
    image = np.empty((24, 40, 3), np.uint8)
    image[:12, :20], image[:12, 20:], image[12:, :20], image[12:, 20:] = RED, GREEN, BLUE, WHITE
    return image


def encode(image, extension, *params):
    fine, data = cv2.imencode(extension, image, list(params))
    assert fine
    return data.tobytes()


def exif(orientation, order=">"):
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return (b"MM" if order == ">" else b"II") + struct.pack(order + "HIH", 42, 8, 1) + entry + bytes(4)


def png_chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(rows, color, depth=8, extra=b"", size=None):
    """A PNG from raw rows of bytes; `extra` chunks come before the pixels."""
    width, height = size or (len(rows[0]), len(rows))
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + bytes(row) for row in rows))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def oriented(kind, image, orientation, order):
    """The picture file with this Exif orientation."""
    block = exif(orientation, order)
    if kind == "jpeg":
        data = encode(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 95)
        segment = b"Exif\0\0" + block
        return data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
    if kind == "png":
        data = encode(image, ".png")
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    if kind == "tiff":
        return tiff(image, orientation)
    simple = encode(image, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)[12:]
    size = struct.pack("<I", image.shape[1] - 1)[:3] + struct.pack("<I", image.shape[0] - 1)[:3]
    flags = b"VP8X" + struct.pack("<I", 10) + bytes([0x08, 0, 0, 0]) + size
    body = b"WEBP" + flags + simple + b"EXIF" + struct.pack("<I", len(block)) + block + b"\0" * (len(block) & 1)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def tiff(image, orientation=1, **other):
    """An uncompressed RGB TIFF of one strip; `other` tags as tNNN=value."""
    pixels = np.ascontiguousarray(image[:, :, ::-1]).tobytes()
    height, width = image.shape[:2]
    tags = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 273: 8, 274: orientation, 277: 3, 278: height, 279: len(pixels)}
    tags |= {int(name[1:]): value for name, value in other.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (256, 257, 273, 278, 279) else 3, 1, v) for tag, v in sorted(tags.items()))
    return b"II" + struct.pack("<HI", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def turn(image, orientation):
    """The stored picture that this orientation turns into `image` (Exif 2.32, tag 274)."""
    flips = {2: 1, 3: -1, 4: 0}
    if orientation in flips:
        return cv2.flip(image, flips[orientation])
    stored = image.transpose(1, 0, 2)  # 5
    then = {5: None, 6: 0, 7: -1, 8: 1}.get(orientation)
    if orientation == 1:
        return image
    return stored if then is None else cv2.flip(stored, then)


def reason(data, limits=None):
    with pytest.raises(FrameError) as caught:
        decode(data, limits)
    assert "\n" not in str(caught.value)
    return caught.value.reason


def test_an_empty_file_is_said_to_be_empty():
    assert reason(b"") == "empty"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_each_orientation_of_each_format_comes_out_upright(kind, orientation, corners):
    """OpenCV differs by version and format here: 4.10 passes over the orientation of WebP, and TIFF is turned whatever one asks."""
    picture = decode(oriented(kind, turn(corners, orientation), orientation, "<" if orientation % 2 else ">"))

    assert (picture.width, picture.height, picture.kind) == (40, 24, kind)
    assert picture.image.shape == (24, 40, 3)
    for y, x in itertools.product((5, 18), (7, 32)):
        assert np.abs(picture.image[y, x].astype(int) - corners[y, x]).max() < 12


def test_an_orientation_that_does_not_exist_changes_nothing(corners):
    assert decode(oriented("png", corners, 9, ">")).image.shape == (24, 40, 3)
    assert decode(oriented("webp", corners, 0, "<")).image.shape == (24, 40, 3)


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tif"])
def test_the_kind_is_read_from_the_content(extension, corners, tmp_path):
    path = tmp_path / "a picture.txt"
    path.write_bytes(encode(corners, extension))

    picture = read_picture(path)

    assert picture.kind in {".jpg": "jpeg", ".tif": "tiff"}.get(extension, extension[1:])
    assert picture.image.dtype == np.uint8
    assert (picture.image[3, 3].astype(int) - RED).max() < 12


def test_gray_palette_and_sixteen_bit_pictures_become_bgr():
    gray = png([[0, 128, 255]], color=0)
    palette = png([[0, 1, 0]], color=3, extra=png_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])))
    deep = png([struct.pack(">HHH", 0, 0x8000, 0xFFFF)], color=0, depth=16, size=(3, 1))
    deep_rgb = png([struct.pack(">HHH", 0xFFFF, 0x8000, 0)], color=2, depth=16, size=(1, 1))

    assert decode(gray).image[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert decode(palette).image[0].tolist() == [list(RED), list(BLUE), list(RED)]
    assert decode(deep).image[0].tolist() == [[0] * 3, [128] * 3, [255] * 3]
    assert decode(deep_rgb).image[0].tolist() == [[0, 128, 255]]


def test_a_sixteen_bit_tiff_uses_its_full_range():
    values = np.array([[0, 0x4000, 0xFFFF]], np.uint16)

    assert decode(encode(values, ".tif")).image[0, :, 0].tolist() == [0, 64, 255]


@pytest.mark.parametrize("depth", [8, 16])
def test_a_transparent_picture_is_laid_on_white(depth):
    pixels = np.array([[(0, 0, 255, 255), (0, 0, 255, 0), (0, 0, 0, 128)]])
    data = encode(pixels.astype(np.uint8) if depth == 8 else (pixels * 257).astype(np.uint16), ".png")

    assert decode(data).image[0].tolist() == [list(RED), list(WHITE), [127, 127, 127]]


def test_a_palette_with_one_transparent_colour_is_laid_on_white():
    data = png([[0, 1]], color=3, extra=png_chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])) + png_chunk(b"tRNS", b"\0"))

    assert decode(data).image[0].tolist() == [list(WHITE), list(BLUE)]


@pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
def test_a_cut_off_file_is_refused_in_every_format(extension, share):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(noise, extension)

    with pytest.raises(FrameError) as caught:
        decode(data[: int(len(data) * share)], whole=True)
    assert caught.value.reason in {"truncated", "damaged"}


def test_a_cut_off_jpeg_or_png_is_called_truncated(corners):
    thumbnail = encode(corners[:8, :8], ".jpg")  # its end marker must not be taken for the picture's
    data = encode(corners, ".jpg")
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]

    assert decode(with_thumbnail, whole=True).width == 40
    with pytest.raises(FrameError, match="no end marker") as caught:
        decode(with_thumbnail[:-2], whole=True)
    assert caught.value.reason == "truncated"
    assert reason(encode(corners, ".png")[:-4]) == "truncated"


def test_bytes_after_the_end_do_no_harm(corners):
    assert decode(encode(corners, ".jpg") + bytes(4096)).width == 40
    assert decode(encode(corners, ".png") + b"more").width == 40


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"GIF89a" + bytes(20), "damaged"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "damaged"),
        (b"\0\0\0\x18ftypavif" + bytes(20), "damaged"),
        (b"\0\0\0\x18ftypisom" + bytes(20), "unsupported"),
        (b"\0\0\1\0\1\0" + bytes(20), "unsupported"),
        (b" <svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"%PDF-1.7", "unsupported"),
        (b"RIFF\x04\0\0\0WAVE", "unsupported"),
        (b"just words", "not-a-picture"),
        (b"x", "not-a-picture"),
        (bytes(5000), "truncated"),  # a copy that reserved its space and was never filled
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff\xd9", "truncated"),
        (b"BM", "damaged"),
        (b"II*\0", "damaged"),
        (b"RIFF\x04\0\0\0WEBP", "damaged"),
    ],
)
def test_what_is_no_readable_picture_is_refused_with_its_reason(data, word):
    assert reason(data) == word


def test_a_tiff_with_numbers_that_are_no_bytes_is_refused(corners):
    assert reason(encode(np.ones((4, 4), np.float32), ".tif")) == "unsupported"
    assert reason(tiff(corners, t262=8)) == "unsupported"  # CIE L*a*b*: OpenCV would show it in false colours


def test_a_bomb_is_refused_before_it_is_decoded():
    """20,000 x 20,000 pixels from 50 kB would take 1.2 GB."""
    bomb = png([bytes(10)], color=0, depth=1, size=(20_000, 20_000))

    assert reason(bomb) == "too-large"


def test_memory_is_bounded_beside_the_number_of_pixels(corners):
    data = encode(corners, ".jpg")
    progressive = encode(corners, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111)
    limits = PictureLimits(max_decode_bytes=40 * 24 * 6)

    assert decode(data, limits).width == 40
    assert reason(progressive, limits) == "too-large"  # its coefficients need six bytes a pixel more
    whole = encode(corners, ".jpg", cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111)
    scan = whole.index(b"\xff\xda")
    one_by_one = whole[:scan] + b"\xff\xda\0\x08\1\1\0\0\x3f\0" + whole[scan + 14 :]
    assert decode(whole, limits).width == 40
    assert reason(one_by_one, limits) == "too-large"  # so do those of a baseline JPEG with a scan for each colour
    assert reason(data, PictureLimits(max_pixels=40 * 24 - 1)) == "too-large"


def test_a_tiff_with_monstrous_tiles_is_refused(corners):
    assert reason(tiff(corners, t322=16384, t323=16384)) == "damaged"


@pytest.mark.parametrize("tag", ["t322", "t323"])
def test_a_tiff_that_names_one_side_of_its_monstrous_tiles_is_refused(corners, tag):
    with pytest.raises(FrameError, match="far larger") as caught:
        decode(tiff(corners, **{tag: 1_000_000}))
    assert caught.value.reason == "damaged"


def test_a_tiff_that_counts_more_numbers_than_memory_holds_is_read_in_little(corners):
    """Each of 3,000 tags claims the same two million numbers: 200 GB as Python has them, from 8 MB."""
    tags = b"".join(struct.pack("<HHII", tag, 4, 2_000_000, 10) for tag in range(1000, 4000))
    data = b"II*\0" + struct.pack("<IH", 8, 3000) + tags + bytes(8_100_000)
    tracemalloc.start()

    assert reason(data) == "damaged"
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert reason(tiff(corners, t273=0, t279=2**31)) == "truncated"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\0\0\0\x0cjP  \r\n" + bytes(100), "a JPEG 2000"),
        (b"v/1\1" + bytes(100), "no known picture"),  # an OpenEXR
        (b"\n<!doctype html><html>404", "an SVG, XML or HTML file"),
        (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x09\0\x09\1\1\x11\0\xff\xda\0\x08\1\1\0\0\0\0abc\xff\xd9", "of a kind that is not read"),
        (png([[0]], color=0).replace(b"IHDR", b"CgBI", 1), "names no size"),
        (b"MM\0*\0", "the TIFF header is damaged or cut off$"),
    ],
)
def test_the_reason_is_true(data, words):
    with pytest.raises(FrameError, match=words):
        decode(data)


def test_a_png_writes_no_line_of_its_own_to_the_log(capfd):
    """libpng prints the name of a colour profile that it does not like as it is."""
    profile = zlib.compress(bytes(1000))

    assert reason(png([[0]], color=0, extra=png_chunk(b"iCCP", b"\x1b[2J\n<3>forged\0\0" + profile))) == "damaged"
    assert decode(png([[0]], color=0, extra=png_chunk(b"iCCP", b"Display P3\0\0" + profile))).kind == "png"
    assert "forged" not in capfd.readouterr().err


def test_a_tiff_of_which_only_a_preview_or_nothing_could_be_read_is_refused(corners):
    raw = tiff(corners, t254=1)

    assert reason(raw) == "unsupported"  # NEF, DNG, ARW: the first picture is a thumbnail of 160 x 120
    assert reason(raw[:8] + b"CR\2\0" + raw[12:]) == "unsupported"
    assert reason(tiff(corners, t259=50000)) == "unsupported"  # Zstandard


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path):
    path = tmp_path / "huge.bmp"
    with path.open("wb") as file:
        file.truncate(200 * 2**20)

    with pytest.raises(FrameError, match=r"huge\.bmp: the file has 200 MB, allowed are 128 MB") as caught:
        read_picture(path)
    assert caught.value.reason == "too-large"


def test_a_named_pipe_does_not_hang_the_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")

    with pytest.raises(FrameError):
        read_picture(tmp_path / "pipe.jpg")


def test_a_folder_called_like_a_picture_is_refused_and_leaves_no_file_open(tmp_path):
    (tmp_path / "folder.jpg").mkdir()
    before = sorted(Path("/proc/self/fd").iterdir())

    with pytest.raises(FrameError) as caught:
        read_picture(tmp_path / "folder.jpg")

    assert caught.value.reason == "empty"
    assert sorted(Path("/proc/self/fd").iterdir()) == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FrameError, match=r"gone\.jpg: cannot be read \(No such file") as caught:
        read_picture(tmp_path / "gone.jpg")
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize(
    ("min_side", "shape"), [(None, (600, 800)), (400, (600, 800)), (300, (300, 400)), (100, (150, 200)), (1, (75, 100))]
)
def test_a_jpeg_is_reduced_no_further_than_asked(min_side, shape):
    data = encode(np.full((600, 800, 3), 77, np.uint8), ".jpg")

    picture = decode(data, min_side=min_side)

    assert picture.image.shape[:2] == shape
    assert (picture.width, picture.height) == (800, 600)
    assert np.abs(picture.image.astype(int) - 77).max() <= 2


def test_a_reduced_jpeg_is_turned_too(corners):
    large = cv2.resize(turn(corners, 6), None, fx=9, fy=9, interpolation=cv2.INTER_NEAREST)

    picture = decode(oriented("jpeg", large, 6, ">"), min_side=50)

    assert (picture.width, picture.height) == (360, 216)
    assert picture.image.shape == (54, 90, 3)
    assert (picture.image[10, 10].astype(int) - RED).max() < 12


def test_a_damaged_exif_block_leaves_the_picture_readable(corners):
    data = encode(corners, ".png")
    broken = data[:33] + png_chunk(b"eXIf", exif(6)[:14]) + data[33:]

    assert decode(broken).image.shape == (24, 40, 3)


def test_random_damage_gives_a_picture_or_a_reason(corners):
    """A decoder must not take the program down; a thousand damaged files of each run, the seed fixed."""
    random = np.random.default_rng(7)
    files = [oriented(kind, corners, 6, ">") for kind in ("jpeg", "png", "webp", "tiff")] + [encode(corners, ".bmp")]
    outcomes = set()
    for number in range(1000):
        data = bytearray(files[number % len(files)])
        for place in random.integers(0, len(data), random.integers(1, 9)):
            data[place] = random.integers(0, 256)
        try:
            image = decode(bytes(data), PictureLimits(max_pixels=1_000_000)).image
            outcomes.add("decoded")
            assert image.ndim == 3
            assert image.dtype == np.uint8
        except FrameError as exc:
            outcomes.add(exc.reason)

    assert {"decoded", "damaged", "truncated"} <= outcomes


def test_odd_files_of_the_world_are_decoded_or_refused_within_bounded_memory(data_dir):
    """In a process of its own, whose peak memory is measured."""
    program = r"""
import pathlib, re, sys
from edgeannot.base.errors import FrameError
from edgeannot.vision.decode import configure_opencv, read_picture
configure_opencv()
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    try:
        picture = read_picture(path)
        print("decoded", path.name, picture.image.shape, sep="|")
    except FrameError as exc:
        print(exc.reason, path.name, exc, sep="|")
status = pathlib.Path("/proc/self/status").read_text()
print("peak", int(re.search(r"VmHWM:\s+(\d+)", status)[1]) // 1024, sep="|")  # ru_maxrss counts what the parent held when it forked
"""
    done = subprocess.run([sys.executable, "-c", program, str(data_dir / "ugly")], capture_output=True, text=True, check=True)

    *rows, peak = [line.split("|") for line in done.stdout.splitlines()]
    assert len(rows) == len(list((data_dir / "ugly").iterdir()))
    assert {row[0] for row in rows} <= {"decoded", "empty", "not-a-picture", "unsupported", "truncated", "damaged", "too-large"}
    assert {row[1]: row[0] for row in rows if row[1].startswith("own_")} == {
        "own_bitflips.jpg": "decoded", "own_bomb_20000x20000.png": "too-large", "own_png_named.jpg": "decoded",
        "own_sliver_3000x2.png": "decoded", "own_text_named.jpg": "not-a-picture", "own_trailing_garbage.jpg": "decoded",
        "own_truncated_10pct.jpg": "truncated", "own_truncated_half.jpg": "truncated", "own_zero_byte.jpg": "empty",
    }  # fmt: skip
    assert int(peak[1]) < 400


def test_configuring_opencv_sets_its_threads():
    configure_opencv()

    assert cv2.getNumThreads() == 1


def free(megabytes):
    return PictureLimits(free_bytes=lambda: megabytes << 20)


def test_a_picture_that_fits_into_the_free_memory_is_decoded_whole():
    data = encode(np.zeros((2000, 3000, 3), np.uint8), ".jpg")

    assert decode(data, PictureLimits()).image.shape == (2000, 3000, 3), "where nobody knows how much is free"
    assert decode(data, free(100), smaller=True).image.shape == (2000, 3000, 3)


def test_a_jpeg_that_does_not_fit_is_decoded_smaller_where_it_may_be():
    data = encode(np.zeros((2000, 3001, 3), np.uint8), ".jpg")

    with pytest.raises(FrameError, match=r"of 3001x2000 pixels would take 34 MB of memory; 30 MB are free, of which") as caught:
        decode(data, free(30))
    assert caught.value.reason == "memory"
    picture = decode(data, free(30), smaller=True)
    assert (picture.image.shape, picture.width, picture.height) == ((1000, 1501, 3), 3001, 2000)
    assert decode(data, free(4), smaller=True).image.shape == (500, 751, 3)


@pytest.mark.parametrize("extension", [".png", ".webp", ".bmp"])
def test_what_can_only_be_decoded_whole_is_refused_where_it_does_not_fit(extension):
    data = encode(np.zeros((2000, 3000, 3), np.uint8), extension)

    with pytest.raises(FrameError, match="34 MB of memory; 30 MB are free") as caught:
        decode(data, free(30), smaller=True)
    assert caught.value.reason == "memory"


def test_a_jpeg_that_does_not_fit_at_an_eighth_either_is_refused_with_both_figures():
    data = encode(np.zeros((2000, 3000, 3), np.uint8), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)  # its coefficients stay whole

    with pytest.raises(FrameError, match=r"would take \d+ MB of memory, and \d+ MB at 1/8 of its size; 10 MB are free") as caught:
        decode(data, free(10), smaller=True)
    assert caught.value.reason == "memory"


def test_for_a_small_picture_nobody_asks_how_much_is_free(corners):
    def asked():
        raise AssertionError

    assert decode(encode(corners, ".jpg"), PictureLimits(free_bytes=asked)).width == 40


@pytest.mark.parametrize(("error", "reason"), [(MemoryError(), "memory"), (SystemError("odd"), "error"), (IndexError("odd"), "error")])
def test_whatever_a_decoder_raises_costs_that_picture_alone(monkeypatch, corners, error, reason):
    data = encode(corners, ".png")

    def broken(*_):
        raise error

    monkeypatch.setattr(cv2, "imdecode", broken)
    with pytest.raises(FrameError) as caught:
        decode(data)
    assert caught.value.reason == reason
