"""Animations, transparency, and the formats of phones: one picture of each, its colours and its way up."""

from __future__ import annotations

import importlib.util
import io
import struct

import cv2
import numpy as np
import pytest
from PIL import Image, features

from edgeannot.base.errors import FrameError
from edgeannot.vision import decode as decoding
from edgeannot.vision.containers import first_frame, iso_kind
from edgeannot.vision.decode import PictureLimits, decode
from edgeannot.vision.picture_header import begins_as_picture, read_header
from tests.heic import TURNED_HEIC

RED, GREEN, BLUE, WHITE = (0, 0, 255), (0, 255, 0), (255, 0, 0), (255, 255, 255)

opencv_reads_gif = pytest.mark.skipif(not decoding._opencv_reads("gif"), reason="this OpenCV was built without GIF")
opencv_reads_avif = pytest.mark.skipif(not decoding._opencv_reads("avif"), reason="this OpenCV was built without AVIF")
pillow_writes_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow was built without AVIF")
has_libheif = pytest.mark.skipif(importlib.util.find_spec("pi_heif") is None, reason="the extra [heic] is not installed")


@pytest.fixture
def corners():
    """80 x 48 RGB: red and green above, blue and white below."""
    image = np.empty((48, 80, 3), np.uint8)
    image[:24, :40], image[:24, 40:], image[24:, :40], image[24:, 40:] = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
    return Image.fromarray(image)


def saved(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animated(image, kind, **options):
    """The picture, then a black one."""
    return saved(image, kind, save_all=True, append_images=[Image.new("RGB", image.size)], duration=100, **options)


def assert_upright(picture, tolerance=12):
    assert (picture.width, picture.height) == (80, 48)
    assert picture.image.shape == (48, 80, 3)
    for (y, x), colour in {(8, 15): RED, (8, 65): GREEN, (40, 15): BLUE, (40, 65): WHITE}.items():
        assert np.abs(picture.image[y, x].astype(int) - colour).max() <= tolerance


def test_nothing_is_a_file_with_a_first_frame():
    assert first_frame(b"") == b""
    assert iso_kind(b"") is None


@opencv_reads_gif
def test_the_first_picture_of_a_gif_is_read(corners):
    for data in (saved(corners, "GIF"), animated(corners, "GIF")):
        picture = decode(data)

        assert picture.kind == "gif"
        assert_upright(picture, tolerance=80)  # a palette of 6 x 6 x 6 colours


@opencv_reads_gif
def test_a_gif_s_transparent_part_is_white():
    image = Image.new("P", (20, 10), 0)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.paste(1, (10, 0, 20, 10))

    picture = decode(saved(image, "GIF", transparency=0))

    assert picture.image[5, 3].tolist() == list(WHITE)
    assert picture.image[5, 15].tolist() == list(RED)


@opencv_reads_gif
def test_a_cut_off_gif_is_refused(corners):
    data = saved(corners.resize((400, 300)), "GIF")

    for share in (0.5, 0.9):
        with pytest.raises(FrameError) as caught:
            decode(data[: int(len(data) * share)])
        assert caught.value.reason == "damaged"


@pytest.mark.parametrize("options", [{}, {"lossless": True}, {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\1\0\0\0\0\0\0"}])
def test_the_first_picture_of_an_animated_webp_is_read_by_any_decoder(corners, options):
    data = animated(corners, "WEBP", **options)

    assert read_header(first_frame(data)).decode_bytes() < read_header(data).decode_bytes(), "as a single picture"
    assert_upright(decode(data), tolerance=40)


def test_an_animated_webp_is_turned_as_its_exif_says(corners):
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"

    picture = decode(animated(corners, "WEBP", exif=exif, lossless=True))

    assert (picture.width, picture.height) == (48, 80)
    assert np.abs(picture.image[10, 40].astype(int) - RED).max() < 12


def test_a_webp_whose_first_frame_is_smaller_than_the_whole_stays_as_it_is():
    """Made by hand: the frame lies at 2, 0."""
    frame = saved(Image.new("RGB", (4, 4), (255, 0, 0)), "WEBP", lossless=True)[12:]
    body = bytes([1, 0, 0, 0, 0, 0, 3, 0, 0, 3, 0, 0, 100, 0, 0, 0]) + frame
    chunks = b"WEBPVP8X" + struct.pack("<I", 10) + bytes([2, 0, 0, 0, 7, 0, 0, 3, 0, 0]) + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    chunks += b"ANMF" + struct.pack("<I", len(body)) + body
    data = b"RIFF" + struct.pack("<I", len(chunks)) + chunks

    assert first_frame(data) == data
    assert read_header(data).stored_wh == (8, 4)


def test_the_picture_of_an_animated_png_is_read(corners):
    assert_upright(decode(animated(corners, "PNG")), tolerance=0)


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True, "exact": True})])
def test_where_nothing_at_all_would_be_seen_the_colours_count(corners, kind, options):
    clear = corners.convert("RGBA")
    clear.putalpha(0)
    assert_upright(decode(saved(clear, kind, **options)), tolerance=0)

    clear.putpixel((0, 0), (0, 0, 0, 1))
    assert decode(saved(clear, kind, **options)).image[40, 15].tolist() == list(WHITE)


def test_sixteen_bits_a_channel_that_are_transparent_everywhere_show_their_colours():
    pixels = np.full((2, 2, 4), (0, 0, 65535, 0), np.uint16)

    assert decode(cv2.imencode(".png", pixels)[1].tobytes()).image[0, 0].tolist() == list(RED)


def test_a_picture_of_the_field_without_any_alpha_shows_its_colours(data_dir):
    if not (data_dir / "field").is_dir():
        pytest.skip("the field files are not here")
    path = data_dir / "field" / "alpha0.png"

    assert np.array_equal(decode(path.read_bytes()).image, cv2.imread(str(path), cv2.IMREAD_COLOR))


@pillow_writes_avif
@opencv_reads_avif
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_avif_is_read_and_turned_as_it_says(corners, orientation):
    turned = {1: [], 2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}[orientation]  # Image.Transpose that undoes it
    stored = corners
    for how in turned:
        stored = stored.transpose(Image.Transpose(how))
    exif = Image.Exif()
    exif[274] = orientation

    picture = decode(saved(stored, "AVIF", exif=exif, quality=95))

    assert picture.kind == "avif"
    assert_upright(picture, tolerance=30)


@pillow_writes_avif
@opencv_reads_avif
def test_an_avif_that_is_cut_off_or_too_large_is_refused(corners):
    data = saved(corners.resize((400, 300)), "AVIF")

    for broken in (data[: len(data) // 2], data[:-40]):
        with pytest.raises(FrameError) as caught:
            decode(broken)
        assert caught.value.reason == "damaged"
    with pytest.raises(FrameError) as caught:
        decode(data, PictureLimits(max_pixels=400 * 300 - 1))
    assert caught.value.reason == "too-large"


@has_libheif
def test_a_heic_is_read_upright():
    picture = decode(TURNED_HEIC)

    assert (picture.kind, picture.width, picture.height) == ("heic", 48, 80)
    assert picture.image.shape == (80, 48, 3)
    for (y, x), colour in {(15, 40): RED, (65, 40): GREEN, (15, 8): BLUE, (65, 8): WHITE}.items():
        assert np.abs(picture.image[y, x].astype(int) - colour).max() < 40


@has_libheif
def test_a_damaged_heic_is_refused():
    for broken in (TURNED_HEIC[:500], TURNED_HEIC[:600] + bytes(300), b"\0\0\0\x18ftypheic" + bytes(20)):
        with pytest.raises(FrameError) as caught:
            decode(broken)
        assert caught.value.reason in {"damaged", "truncated"}


@pytest.mark.parametrize("place", [176, 179])
def test_a_heic_whose_parts_have_no_names_in_text_is_refused_before_its_decoder_dies_of_it(place):
    """Found by the fuzz door: one byte of the type of its Exif item."""
    broken = TURNED_HEIC[:place] + b"\xff" + TURNED_HEIC[place + 1 :]

    with pytest.raises(FrameError, match="no text") as caught:
        decode(broken)
    assert caught.value.reason == "damaged"
    read_header(TURNED_HEIC)


def test_a_heic_without_its_decoder_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(FrameError, match=r"a HEIC, .* pip install 'edgeannot\[heic\]'") as caught:
        decode(TURNED_HEIC)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize("kind", ["gif", "avif"])
def test_what_opencv_was_built_without_is_unsupported(monkeypatch, corners, kind):
    monkeypatch.setattr(decoding, "_opencv_reads", lambda kind: False)
    data = saved(corners, "GIF") if kind == "gif" else TURNED_HEIC.replace(b"ftypheic\0\0\0\0mif1heic", b"ftypavif\0\0\0\0mif1avif", 1)

    with pytest.raises(FrameError, match=f"{kind.upper()}, which OpenCV .* does not read") as caught:
        decode(data)
    assert caught.value.reason == "unsupported"


@pytest.mark.parametrize(
    ("brands", "kind"),
    [
        (b"avif\0\0\0\0mif1avif", "avif"),
        (b"heic\0\0\0\0mif1heic", "heic"),
        (b"mif1\0\0\0\0mif1avif", "avif"),
        (b"mif1\0\0\0\0mif1heic", "heic"),
        (b"isom\0\0\0\0isomavc1", None),
        (b"mp42\0\0\0\0isomheic", None),
    ],
)
def test_the_brands_of_an_iso_media_file_say_what_it_holds(brands, kind):
    data = struct.pack(">I", 8 + len(brands)) + b"ftyp" + brands

    assert iso_kind(data) == kind
    assert begins_as_picture(data[:16]) == (kind is not None)
