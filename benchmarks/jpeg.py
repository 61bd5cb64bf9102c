"""JPEG decoders compared: processor time in full and at 1/2, 1/4 and 1/8, memory, and whether damage is noticed.

    .venv/bin/python -m benchmarks.jpeg [--rounds 15] [--turbojpeg LIBRARY]

Medians over rounds in which all decoders take their turn on the same file, so that a machine whose speed drifts slows all
of them; processor time, as all of them use one thread, so that neighbours count little.
Pillow gives RGB, so its figures have the turn to BGR in them. PyTurboJPEG takes part if it is installed; LIBRARY is its libturbojpeg.
"""

from __future__ import annotations

import argparse
import io
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from edgeannot.base.places import SAMPLES

SIZES = {"0.9 MP": (1080, 810), "12 MP": (4000, 3000)}
FACTORS = (1, 2, 4, 8)
_CV = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
Decoder = Callable[[bytes, tuple[int, int], int], Any]


def with_opencv(data: bytes, wh: tuple[int, int], factor: int) -> Any:
    """Return BGR pixels by OpenCV."""
    del wh
    return cv2.imdecode(np.frombuffer(data, np.uint8), _CV[factor] | cv2.IMREAD_IGNORE_ORIENTATION)


def with_simplejpeg(data: bytes, wh: tuple[int, int], factor: int) -> Any:
    """Return BGR pixels by simplejpeg. Raises ValueError on a warning."""
    return simplejpeg.decode_jpeg(data, "BGR", min_width=-(-wh[0] // factor), min_height=-(-wh[1] // factor), min_factor=factor)


def with_pillow(data: bytes, wh: tuple[int, int], factor: int) -> Any:
    """Return BGR pixels by Pillow, whose "draft" is scaled decoding."""
    with Image.open(io.BytesIO(data)) as picture:
        if factor > 1:
            picture.draft("RGB", (wh[0] // factor, wh[1] // factor))
        return np.ascontiguousarray(np.asarray(picture.convert("RGB"))[:, :, ::-1])


def decoders(library: str | None) -> dict[str, Decoder]:
    """Return the decoders that are here, by name."""
    found: dict[str, Decoder] = {"OpenCV": with_opencv, "simplejpeg": with_simplejpeg, "Pillow": with_pillow}
    try:
        from turbojpeg import TurboJPEG  # noqa: PLC0415 - may be missing

        turbo = TurboJPEG(library)
    except (ImportError, RuntimeError, OSError) as exc:
        print(f"without PyTurboJPEG: {exc}")
    else:
        found["PyTurboJPEG"] = lambda data, _, factor: turbo.decode(data, scaling_factor=(1, factor))
    return found


def photo(wh: tuple[int, int]) -> bytes:
    """Return the sample scene at this size as a JPEG of quality 90."""
    image = cv2.resize(cv2.imread(str(SAMPLES / "scene.jpg")), wh, interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


def medians(made: dict[str, Decoder], data: bytes, wh: tuple[int, int], factor: int, rounds: int) -> dict[str, float]:
    """Return each decoder's median in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(rounds):
        for name, decoder in made.items():
            began = time.process_time()
            decoder(data, wh, factor)
            times[name].append((time.process_time() - began) * 1e3)
    return {name: statistics.median(found) for name, found in times.items()}


def peak_mb(name: str, library: str | None) -> int:
    """Return how much a process grows at its peak while it decodes 12 MP once, in MB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.jpeg", "--peak", name, *(["--turbojpeg", library] if library else [])],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout.split()[-1])


def one_peak(decoder: Decoder) -> None:
    """Print the growth of this process."""
    wh = SIZES["12 MP"]
    data = photo(wh)
    decoder(photo((64, 64)), (64, 64), 1)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    decoder(data, wh, 1)
    print((_status("VmHWM") - before) // 1024)


def _status(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def damages(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Name damage, and give a file with it."""
    middle = len(data) // 2
    yield "cut off at half", data[:middle]
    yield "cut off at half, end marker added", data[:middle] + b"\xff\xd9"
    yield "4 KB of zeros", data[:middle] + bytes(4096) + data[middle + 4096 :]
    yield "4 KB lost", data[:middle] + data[middle + 4096 :]


def notices(decoder: Decoder, data: bytes, wh: tuple[int, int]) -> str:
    """Return what a caller learns of the damage."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return "no picture" if decoder(data, wh, 1) is None else "nothing"
    except Exception as exc:  # noqa: BLE001 - whatever it raises is how it tells
        return f"{type(exc).__name__}: {str(exc)[:60]}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--turbojpeg")
    parser.add_argument("--peak")
    asked = parser.parse_args()
    made = decoders(asked.turbojpeg)
    if asked.peak:
        one_peak(made[asked.peak])
        return
    print("ms", *made, sep="\t")
    for label, wh in SIZES.items():
        data = photo(wh)
        for factor in FACTORS:
            found = medians(made, data, wh, factor, asked.rounds)
            print(f"{label} 1/{factor}", *(f"{ms:.1f}" for ms in found.values()), sep="\t")
    print("MB at the peak, 12 MP", *(peak_mb(name, asked.turbojpeg) for name in made), sep="\t")
    wh = SIZES["0.9 MP"]
    for damage, data in damages(photo(wh)):
        print(damage, *(f"{name}: {notices(decoder, data, wh)}" for name, decoder in made.items()), sep="\n    ")


if __name__ == "__main__":
    main()
