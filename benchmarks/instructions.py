"""Instructions of a picture that are edgeannot's own, counted by callgrind: a figure that load does not change.

    .venv/bin/python -m benchmarks.instructions [--models NAME ...]        # needs Debian's valgrind

Counted: preprocessing, reading the outputs, suppression, annotation, payload; not decoding the picture, nor the network, whose outputs for
this picture are recorded beforehand. One thread, one hash seed, no instructions of newer processors, so that numpy and OpenCV take the same
way everywhere. A call of getpgid(2) before and after the loop has callgrind write its counters, so nothing but the loop counts. Ends with 1
where a model needs more than its bound. The bounds are for x86-64; other machines only print.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.watched import SAMPLES
from edgeannot.base.places import bundled_folder
from edgeannot.payload import Origin, detections_payload, encode
from edgeannot.vision.cards import find_card
from edgeannot.vision.data import Frame, Outputs, RawTensor, TensorSpec
from edgeannot.vision.decode import configure_opencv, read_picture
from edgeannot.vision.pipeline import Pipeline, load_engine

BOUNDS = {
    "nanodet-g": 9.16,
    "nanodet-g@224": 4.47,
    "ssdlite-mobilenet-v2-coco": 7.67,
    "yolov3-tiny@224": 4.02,
    "yolov3-tiny@416": 8.86,
}
"""Millions of instructions a picture: what was measured, with at most 5 % on top."""
WARM, COUNTED = 3, 10


def frame() -> Frame:
    """The street scene, 1152x864 pixels."""
    image = cv2.resize(read_picture(SAMPLES / "scene.jpg").image, (1152, 864), interpolation=cv2.INTER_LINEAR)
    return Frame(image, "inbox", 0, datetime(2026, 1, 1, tzinfo=UTC), "scene", name="scene.jpg")


class Recorded:
    """The outputs of an engine for one picture, in its place."""

    def __init__(self, tensors: TensorSpec, outputs: Outputs) -> None:
        self.input, self.outputs = tensors, tuple(output.spec for output in outputs)
        self._recorded = outputs

    def run(self, tensor: Any) -> Outputs:
        """Return them, whatever comes in."""
        del tensor
        return self._recorded


def record(model: str, path: Path) -> None:
    """Run the network once, and write its outputs."""
    engine = load_engine(find_card(model, [bundled_folder()]))
    kept: list[Outputs] = []
    run = engine.run
    engine.run = lambda tensor: kept.append(run(tensor)) or kept[-1]  # type: ignore[func-returns-value, method-assign] # keeps a copy
    Pipeline(find_card(model, [bundled_folder()]), engine)(frame())
    np.savez(
        path,
        spec=np.array([engine.input, *(each.spec for each in kept[0])], object),
        **{f"o{i}": each.values for i, each in enumerate(kept[0])},
    )


def loop(model: str, path: Path) -> None:
    """What callgrind runs."""
    configure_opencv()
    with np.load(path, allow_pickle=True) as recorded:
        tensors, *specs = recorded["spec"]
        outputs = Outputs([RawTensor(recorded[f"o{i}"], spec) for i, spec in enumerate(specs)])
    pipeline = Pipeline(find_card(model, [bundled_folder()]), Recorded(tensors, outputs))  # type: ignore[arg-type] # all of an engine that is used
    origin, seen = Origin("board", "0" * 12, lambda: True), frame()
    for count in (WARM, COUNTED):
        os.getpgid(0)
        for _ in range(count):
            encode(detections_payload(pipeline(seen), origin))
    os.getpgid(0)


def environment() -> dict[str, str]:
    """Make the way through the libraries the same on each processor."""
    dispatched = " ".join(np._core._multiarray_umath.__cpu_dispatch__)  # type: ignore[attr-defined] # what this numpy chooses from
    return {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OPENBLAS_CORETYPE": "Nehalem",
        "NPY_DISABLE_CPU_FEATURES": dispatched,
        "OPENCV_IPP": "disabled",
        "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,FMA3,AVX_512F,AVX512_SKX,AVX512_ICL",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-AVX_Fast_Unaligned_Load,-AVX2_Usable",
    }


def millions(model: str, folder: Path) -> float:
    """Count, and return millions of instructions a picture."""
    record(model, folder / "outputs.npz")
    command = ["valgrind", "--tool=callgrind", "--dump-before=getpgid", f"--callgrind-out-file={folder}/counted"]
    code = f"from benchmarks.instructions import loop; from pathlib import Path; loop({model!r}, Path({str(folder / 'outputs.npz')!r}))"
    done = subprocess.run([*command, sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    parts = sorted(folder.glob("counted.*"), key=lambda path: int(path.suffix[1:]))
    if done.returncode or len(parts) < 3:
        sys.exit(f"callgrind ended with {done.returncode}: {done.stderr.strip().splitlines()[-1:]}")
    found = re.search(r"^(?:totals|summary): (\d+)", parts[2].read_text(), re.MULTILINE)  # start, warming up, the loop
    for part in parts:
        part.unlink()
    return int(found[1]) / COUNTED / 1e6 if found else float("nan")


def main() -> None:
    """Count, print, and fail above a bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(BOUNDS))
    args = parser.parse_args()
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is missing: apt-get install valgrind")
    held, missed = platform.machine() == "x86_64", []
    print("| model | million instructions a picture | bound |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for model in args.models:
            found, bound = millions(model, Path(name)), BOUNDS.get(model)
            print(f"| {model} | {found:.2f} | {bound or ''} |", flush=True)
            if held and bound is not None and not found <= bound:
                missed.append(f"{model} takes {found:.2f} million instructions a picture, the bound is {bound}")
    print(f"Python {platform.python_version()}, numpy {np.__version__}, OpenCV {cv2.__version__}")
    if missed:
        sys.exit("missed: " + "; ".join(missed))


if __name__ == "__main__":
    main()
