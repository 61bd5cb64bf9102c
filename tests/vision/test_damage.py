"""Damaged pictures: what is refused, what is read and marked, and how two other decoders judge the same files.

The damaged files are made of the samples, by a seed. The referees are Pillow, which is strict about data that ends early, and OpenCV;
neither tells of libjpeg's warnings.
"""

from __future__ import annotations

import io
import logging
import re
import sys
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from edgeannot.base.errors import FrameError
from edgeannot.base.places import SAMPLES
from edgeannot.vision import jpeg
from edgeannot.vision.decode import READABLE, decode

END = b"\xff\xd9"


def encoded(name, suffix=".jpg", *params, gray=False):
    photo = cv2.imread(str(SAMPLES / name), cv2.IMREAD_GRAYSCALE if gray else cv2.IMREAD_COLOR)
    fine, data = cv2.imencode(suffix, photo, list(params))
    assert fine
    return data.tobytes()


@pytest.fixture(scope="module")
def scene():
    return encoded("scene.jpg")


@pytest.fixture(scope="module")
def progressive():
    return encoded("scene.jpg", ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)


@pytest.fixture(scope="module")
def with_restarts():
    return encoded("scene.jpg", ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 63)


@pytest.fixture(params=["simplejpeg", "OpenCV"])
def decoder(request, monkeypatch):
    """Run the test with the decoder that tells of damage, and as where it cannot be installed."""
    jpeg._simplejpeg.cache_clear()
    if request.param == "OpenCV":
        monkeypatch.setitem(sys.modules, "simplejpeg", None)
    else:
        pytest.importorskip("simplejpeg")
    yield request.param
    jpeg._simplejpeg.cache_clear()


def zeroed(data, share, count):
    at = int(len(data) * share)
    return data[:at] + bytes(count) + data[at + count :]


def verdict(data):
    """sound, marked, or the reason for which it is set aside."""
    try:
        picture = decode(data)
    except FrameError as exc:
        return exc.reason
    assert picture.image.shape == (picture.height, picture.width, 3)
    return "marked" if picture.damage else "sound"


def share(data):
    """How much can be read at most, as the sentence has it."""
    try:
        sentence = decode(data).damage
    except FrameError as exc:
        sentence = str(exc)
    return int(re.search(r"at most (\d+)% of it", sentence)[1])


def test_a_sound_picture_has_no_damage(decoder, scene, progressive, with_restarts):
    for data in (scene, progressive, with_restarts, encoded("scene.jpg", gray=True)):
        assert verdict(data) == "sound"
        assert decode(data, whole=True).damage == ""


def test_both_decoders_give_the_same_pixels(scene, progressive, monkeypatch):
    """At each size: models see the same picture with and without simplejpeg."""
    pytest.importorskip("simplejpeg")
    for data in (scene, progressive, encoded("cat.jpg", gray=True), cmyk()):
        for factor in (1, 2, 4, 8):
            height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
            first = jpeg.decode_jpeg(data, (width, height), factor, ends=True, several=True)
            with monkeypatch.context() as hidden:
                hidden.setattr(jpeg, "_simplejpeg", lambda: None)
                second = jpeg.decode_jpeg(data, (width, height), factor, ends=True, several=True)
            assert first.image.shape == (-(-height // factor), -(-width // factor), 3)
            assert np.array_equal(first.image, second.image)


def cmyk():
    file = io.BytesIO()
    Image.open(SAMPLES / "cat.jpg").convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def test_without_the_decoder_that_tells_of_damage_that_is_said_once(scene, monkeypatch, caplog):
    jpeg._simplejpeg.cache_clear()
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    with caplog.at_level(logging.INFO):
        decode(scene)
        decode(scene)
    jpeg._simplejpeg.cache_clear()

    assert caplog.text.count("simplejpeg is not installed") == 1


def test_a_picture_that_lacks_only_its_end_marker_is_whole(decoder, scene, with_restarts):
    for data in (scene, with_restarts):
        assert verdict(data[:-2]) == "sound"
        assert verdict(data[:-1]) == "sound"
        assert np.array_equal(decode(data[:-2]).image, decode(data).image)


def test_zeros_that_fill_up_the_last_block_of_a_file_are_no_damage(decoder, scene):
    assert verdict(scene[:-2] + bytes(300) + END) == "sound"


def test_a_cut_off_picture_is_read_where_half_of_its_rows_are_there(decoder, scene):
    assert verdict(scene[: len(scene) * 3 // 10]) == "truncated"
    assert verdict(scene[: len(scene) * 7 // 10]) == "marked"
    assert share(scene[: len(scene) * 3 // 10]) < 100 * READABLE < share(scene[: len(scene) * 7 // 10]) < 90


def test_a_picture_of_several_scans_is_read_once_all_of_its_brightness_was_there(decoder, progressive):
    assert verdict(progressive[: len(progressive) * 2 // 10]) == "truncated"
    assert verdict(progressive[: len(progressive) * 8 // 10]) == "marked"


def test_a_picture_that_ends_between_two_scans_is_no_whole_one(decoder, progressive):
    """Each scan is sound, so that the decoder has nothing to warn of: only the end marker is missing, and the details are."""
    scans = jpeg._Structure.of(progressive).scans
    verdicts = [verdict(progressive[: scan.end]) for scan in scans[:-1]]

    assert verdicts[0] == "truncated"
    assert verdicts[-1] == "marked"
    assert set(verdicts) == {"truncated", "marked"}


def test_a_picture_of_several_scans_that_lacks_only_its_end_marker_is_whole(progressive):
    pytest.importorskip("simplejpeg")

    assert verdict(progressive[:-2]) == "sound"


def test_a_first_scan_that_lacks_most_places_is_no_whole_picture(progressive):
    """All coefficients were there, but of a few places: the header says more rows than the data has."""
    pytest.importorskip("simplejpeg")
    height = progressive.index(b"\xff\xc2") + 5
    taller = progressive[:height] + (4000).to_bytes(2, "big") + progressive[height + 2 :]

    assert verdict(taller) == "damaged"
    assert share(taller) < 100 * READABLE


def test_a_picture_of_thousands_of_scans_is_refused_before_it_takes_minutes(decoder, progressive):
    """Each scan may be a few bytes long, and takes as long as the whole picture is large."""
    last = progressive.rindex(b"\xff\xda")

    assert verdict(progressive[:-2] + progressive[last:-2] * 600 + END) == "damaged"


@pytest.mark.parametrize("form", ["scene", "progressive", "with_restarts"])
def test_a_picture_that_is_mostly_zeros_is_set_aside(decoder, form, request):
    """As a copy leaves it that reserved its space, with the end written first."""
    data = request.getfixturevalue(form)

    assert verdict(data[: len(data) // 7] + bytes(len(data) - len(data) // 7 - 2) + END) == "damaged"


def test_rows_below_a_lost_block_count_as_lost_unless_restart_markers_bring_the_decoder_back(decoder, scene, with_restarts):
    assert verdict(zeroed(scene, 0.2, 4096)) == "damaged"
    assert verdict(zeroed(scene, 0.7, 4096)) == "marked"
    assert verdict(zeroed(with_restarts, 0.2, 4096)) == "marked"


def test_a_flat_picture_with_zeros_as_its_shortest_codes_has_no_lost_block(decoder):
    """Huffman tables made for a black picture give whole runs of zeros."""
    file = io.BytesIO()
    Image.new("RGB", (2000, 1500)).save(file, "JPEG", optimize=True)
    assert bytes(64) in file.getvalue()

    assert verdict(file.getvalue()) == "sound"


def test_a_picture_that_is_cut_off_before_its_data_is_refused(decoder, scene):
    assert verdict(scene[:100]) == "truncated"
    assert verdict(bytes(600) + scene[600:]) == "not-a-picture"


@pytest.mark.parametrize("share_lost", [0.15, 0.6])
def test_a_picture_that_may_still_grow_is_refused_with_any_damage(decoder, scene, share_lost):
    for data in (scene[: int(len(scene) * (1 - share_lost))], zeroed(scene, 0.7, 4096), scene[:-2]):
        with pytest.raises(FrameError):
            decode(data, whole=True)


# What differs from the referees, with its reason. Theirs: "read" where both read the file, else "refused".
DIFFERENCES = {
    ("no end marker", "refused", "sound"): "all of the picture is there; Pillow waits for the marker",
    ("cut off", "refused", "marked"): "more than half can be read",
    ("zeros", "read", "marked"): "libjpeg warns, which both referees keep to themselves",
    ("zeros", "read", "damaged"): "the same, and less than half can be read",
    ("bytes", "read", "marked"): "libjpeg warns, which both referees keep to themselves",
}


def referees(data):
    try:
        with Image.open(io.BytesIO(data)) as picture:
            picture.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return "refused"
    try:
        found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return "refused"
    return "refused" if found is None else "read"


def agree(theirs, ours):
    return (ours == "sound") if theirs == "read" else ours not in {"sound", "marked"}


def damaged_files(suffix):
    """Name a kind of damage and give a file with it, some hundred for each suffix."""
    rng = np.random.default_rng(5)
    params = {".jpg": [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 40]]}.get(suffix, [[]])
    for name in ("cat.jpg", "coffee.jpg", "scene.jpg"):
        for more in params:
            data = encoded(name, suffix, *more)
            begins = data.rindex(b"\xff\xda") + 14 if suffix == ".jpg" else len(data) // 20
            for percent in (10, 25, 40, 50, 60, 75, 90, 99):
                yield "cut off", data[: len(data) * percent // 100]
            if suffix == ".jpg":
                yield "no end marker", data[:-2]
            for at in (0.25, 0.5, 0.75):
                yield "zeros", zeroed(data, at, 512)
                yield "zeros", zeroed(data, at, 4096)
            for _ in range(6):
                changed = bytearray(data)
                for place in rng.integers(begins, len(data) - 2, rng.integers(1, 4)):
                    changed[place] ^= int(rng.integers(1, 256))
                yield "bytes", bytes(changed)
            yield "header", bytes(16) + data[16:]
            yield "header", data[:20]


@pytest.mark.filterwarnings("ignore::Warning")
def test_odd_files_of_the_world_are_judged_as_two_other_decoders_judge_them_but_for_six(data_dir):
    """All of these have damage that both referees read past, or of which they give up more than is lost."""
    pytest.importorskip("simplejpeg")
    differences = {}
    files = [path for path in (data_dir / "ugly").iterdir() if path.read_bytes()[:2] == b"\xff\xd8"]
    for path in files:
        theirs, ours = referees(path.read_bytes()), verdict(path.read_bytes())
        if not agree(theirs, ours):
            differences[path.name.removesuffix(".jpg")] = (theirs, ours)

    assert len(files) > 30
    assert differences == {
        "jpgdec_1cbb1bb37d62c44f67374cd451643dc4": ("read", "marked"),
        "jpgdec_dc-predictor-overflow": ("read", "damaged"),  # a fifth of its rows
        "jpgdec_extraneous-bytes-after-sos": ("read", "marked"),
        "own_bitflips": ("read", "marked"),
        "pil_hopper_bad_exif": ("read", "marked"),
        "jpgdec_c3018ebe53d0046eecb58858ca869a99": ("refused", "marked"),
    }


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
@pytest.mark.filterwarnings("ignore::Warning")  # Pillow's about odd headers
def test_damage_is_judged_as_two_other_decoders_judge_it_but_for_what_is_listed(suffix):
    pytest.importorskip("simplejpeg")
    seen = Counter()
    for damage, data in damaged_files(suffix):
        theirs, ours = referees(data), verdict(data)
        assert agree(theirs, ours) or (damage, theirs, ours) in DIFFERENCES, (damage, theirs, ours)
        seen[damage, theirs, ours] += 1

    print(*sorted(seen.items()), sep="\n")
    assert sum(seen.values()) >= 50
    if suffix == ".jpg":
        assert not any(count for (damage, _, ours), count in seen.items() if damage == "header" and ours in {"sound", "marked"})
        assert sum(count for (damage, theirs, _), count in seen.items() if damage == "cut off" and theirs == "read") == 0
    else:
        assert all((theirs == "read") == (ours == "sound") for _, theirs, ours in seen), "PNG and WebP are read whole or not at all"
