"""The free photos that bundled models are calibrated with, and that ship as samples; all come inside registry packages."""

from __future__ import annotations

import bz2
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from edgeannot.base.errors import InputError
from edgeannot.vision.data import UInt8Array
from edgeannot_maintain.sources import Package, Part, read_part
from edgeannot_tools.graph.graph import write_file
from edgeannot_tools.quantize.calibration_set import scene

__all__ = ["PHOTOS", "SCENE_NAME", "Photo", "read_photo", "write_samples"]

# One named wheel each, so that every machine fetches the same file; only the pictures in it are used.
WHEEL = ("--only-binary", ":all:", "--platform", "manylinux_2_17_x86_64", "--platform", "manylinux_2_28_x86_64", "--python-version", "311")
SCIKIT_IMAGE_WHEEL = "scikit_image-0.26.0-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl"
SCIKIT_IMAGE = Package("pip", "scikit-image", "0.26.0", SCIKIT_IMAGE_WHEEL, WHEEL)
SCIPY_WHEEL = "scipy-1.9.3-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl"
SCIPY = Package("pip", "scipy", "1.9.3", SCIPY_WHEEL, WHEEL)
SAMPLE_QUALITY = 90
"""Of the JPEG files, in percent."""
SCENE_NAME, SCENE_WH = "scene.jpg", (1000, 800)
RACCOON_HW = (768, 1024)
"""scipy stores this picture as bare RGB bytes."""


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo, where it is from and on what terms."""

    name: str
    part: Part
    subject: str
    credit: str
    license: str
    sample: bool = True
    """Whether it ships as a sample; all serve for calibration."""


PHOTOS = (
    Photo(
        "astronaut",
        Part(SCIKIT_IMAGE, "skimage/data/astronaut.png", "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5"),
        "the astronaut Eileen Collins",
        "NASA",
        "public domain",
    ),
    Photo(
        "cat",
        Part(SCIKIT_IMAGE, "skimage/data/chelsea.png", "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb"),
        "Chelsea the cat",
        "Stefan van der Walt",
        "CC0 1.0",
    ),
    Photo(
        "coffee",
        Part(SCIKIT_IMAGE, "skimage/data/coffee.png", "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7"),
        "a cup of coffee with a spoon on a table",
        "Rachel Michetti, courtesy of Pikolo Espresso Bar",
        "CC0 1.0",
    ),
    Photo(
        "cameraman",
        Part(SCIKIT_IMAGE, "skimage/data/camera.png", "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a"),
        "a man with a camera on a tripod, in grey",
        "Lav Varshney",
        "CC0 1.0",
    ),
    Photo(
        "raccoon",
        Part(SCIPY, "scipy/misc/face.dat", "9d8b0b4d081313e2b485748c770472e5a95ed1738146883d84c7030493e82886"),
        "a raccoon among leaves",
        "public-domain-image.com",
        "public domain",
        sample=False,
    ),
    Photo(
        "rocket",
        Part(SCIKIT_IMAGE, "skimage/data/rocket.jpg", "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c"),
        "the launch of a Falcon 9 rocket",
        "SpaceX",
        "public domain",
        sample=False,
    ),
)


def read_photo(photo: Photo, cache: Path) -> UInt8Array:
    """The photo as (H, W, 3) BGR."""
    data = read_part(photo.part, cache)
    if photo.part.member.endswith(".dat"):
        rgb = np.frombuffer(bz2.decompress(data), np.uint8).reshape(*RACCOON_HW, 3)
        return np.ascontiguousarray(rgb[:, :, ::-1])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{photo.part} cannot be decoded as a picture")
    return np.asarray(image, np.uint8)


def write_samples(images: Sequence[UInt8Array], folder: Path) -> None:
    """Writes the photos that ship as samples, a scene made of them, and `LICENSES.md` with where each is from."""
    chosen = [(photo, image) for photo, image in zip(PHOTOS, images, strict=True) if photo.sample]
    rows = []
    for photo, image in chosen:
        _write_jpeg(folder / f"{photo.name}.jpg", image)
        rows.append(f"| {photo.name}.jpg | {photo.subject} | {photo.credit} | {photo.license} | {photo.part} |\n")
    _write_jpeg(folder / SCENE_NAME, scene([image for _, image in chosen], SCENE_WH))
    rows.append(f"| {SCENE_NAME} | the four side by side | as above | as above | the files above |\n")
    head = "# Sample photos\n\nAll are free to use, change and pass on; they were stored as JPEG, otherwise unchanged.\n\n"
    table = "| file | shows | by | terms | taken from |\n| --- | --- | --- | --- | --- |\n"
    write_file(folder / "LICENSES.md", (head + table + "".join(rows)).encode())


def _write_jpeg(path: Path, image: UInt8Array) -> None:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, SAMPLE_QUALITY])
    write_file(path, data.tobytes())
