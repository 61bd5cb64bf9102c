"""edgeannot beside other programs that do its work: same network, pictures, machine and one thread, a picture each in turn.

    .venv/bin/python -m benchmarks.compare [--prepare] [--rows NAME ...] [--peers NAME ...] [--rounds 3] [--page]

--prepare makes an environment for each peer in .cache/peers; one that does not install is reported. Each peer is a process
(`benchmarks/peers`) that is told the path of a JPEG and answers with the time from there to boxes; the peers take turns picture by picture,
so that a machine whose speed drifts slows all. Printed are medians as a Markdown table; .cache/compare.json has all figures, --page puts
table and plot into docs/performance.md. Networks that are not bundled come from the folder that EDGEANNOT_TEST_DATA names.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.bundled import tiny_files
from benchmarks.engines import recipes
from benchmarks.peers.environments import CACHE, OWN, RECIPES, TOOLS, installed_mb, interpreter, prepare
from benchmarks.store.broker import mosquitto
from edgeannot.base.places import bundled_folder

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("EDGEANNOT_TEST_DATA", ROOT.parent / "shared" / "data"))
PAGE, PLOT = ROOT / "docs" / "performance.md", "performance.png"
PICTURE_WH = (1080, 810)
YOLOX = recipes.NETWORKS["YOLOX-nano 416"]


@dataclass(frozen=True)
class Row:
    """One network, and what each peer is called with."""

    model: str
    """The card's name, or that of a file in the data folder."""
    labels: str = ""
    tutorial: str = ""
    """The kind of its decoding loop."""
    others: tuple[str, ...] = ()


ROWS = {
    "yolov8n 640": Row("yolov8n_640_int8w_f32io", "labels_coco80.txt", "yolov8", ("ultralytics",)),
    "yolov8n 224 int8": Row("yolov8n_224_int8io", "labels_coco80.txt", "yolov8", ("ultralytics",)),
    "SSD-MobileNetV1 300 uint8": Row("ssd_mnv1_coco_quant_pp", "labels_coco90_zero_based.txt", "ssd", ("mediapipe",)),
    "yolov3-tiny 416 int8": Row("yolov3-tiny", "", "yolov3-tiny", ("opencv-dnn",)),
    "yolov3-tiny 224 int8": Row("yolov3-tiny@224", "", "", ("opencv-dnn",)),
    "YOLOX-nano 416": Row(YOLOX.name, others=("onnxruntime", "ncnn")),
    "SSDLite-MobileNetV2 int8": Row("ssdlite-mobilenet-v2-coco"),
    "NanoDet-g 416 int8": Row("nanodet-g"),
}


@dataclass
class Peer:
    """A peer's process, and what it has answered."""

    name: str
    command: list[str]
    ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)
    boxes: int = 0
    start_s: float = 0.0
    rss_mb: float = 0.0
    versions: dict[str, Any] = field(default_factory=dict)
    failed: str = ""

    def start(self, first: Path) -> None:
        """Start it and have it answer once."""
        before = time.perf_counter()
        threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            self.command,
            env=os.environ | threads | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=CACHE,
        )
        self.versions = self._read()
        self.ask(first, count=False)
        self.start_s = time.perf_counter() - before

    def ask(self, path: Path, *, count: bool = True) -> None:
        """Have it annotate one picture."""
        if self.failed:
            return
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{path}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it said is read next
        answer = self._read()
        if count and answer:
            self.ms.append(answer["ms"])
            self.cpu_ms.append(answer["cpu_ms"])
            self.boxes += answer["boxes"]

    def end(self) -> None:
        """Note its peak memory, and end it."""
        if not self.failed:
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self._process.pid}/status").read_text())
            self.rss_mb = int(found[1]) * 1024 / 1e6 if found else 0.0
        self._process.communicate()

    def _read(self) -> dict[str, Any]:
        """Return the next line that is JSON; a library may print others."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                found: dict[str, Any] = json.loads(line)
                return found
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        self.failed = self.failed or (said[-1] if said else "it ended without a word")
        return {}

    def figures(self, floor: float, bare: float) -> dict[str, Any]:
        """Return what is reported of it. floor and bare: medians of the processor time, ms."""
        if self.failed or not self.ms:
            return {"peer": self.name, "failed": self.failed}
        cpu = statistics.median(self.cpu_ms)
        return {
            "peer": self.name,
            "ms": round(statistics.median(self.ms), 2),
            "cpu_ms": round(cpu, 2),
            "over_bare": round(cpu / bare, 2) if bare else None,
            "over_floor_ms": round(cpu - floor, 2),
            "peak_mb": round(self.rss_mb),
            "start_s": round(self.start_s, 2),
            "install_mb": installed_mb(self.name),
            "boxes": self.boxes,
            "versions": self.versions,
        }


def card_of(row: Row, folder: Path) -> tuple[Path, Path]:
    """Return the model's file and the folder of its card, added there where it is not bundled. folder: for added models."""
    bundled = bundled_folder() / f"{row.model.partition('@')[0]}.tflite"
    file = bundled if bundled.exists() else DATA / "models" / f"{row.model}.tflite"
    models = folder / "models"
    if row.model == YOLOX.name:
        return recipes.tflite_float(YOLOX), recipes.FOLDER
    if not bundled.exists() and not (models / f"{row.model}.toml").exists():
        add = [sys.executable, "-m", "edgeannot", "models", "add", str(file), "--labels", str(DATA / "models" / row.labels)]
        subprocess.run([*add, "-y", "--data-dir", str(folder)], check=True, stdout=subprocess.DEVNULL)
    return file, models


def peers_of(row: Row, folder: Path, port: int) -> list[Peer]:
    """Return the peers of one network. folder: for added models."""
    file, models = card_of(row, folder)
    arguments = {name: ["own", name, row.model, str(models)] for name in OWN}
    if row.tutorial:
        arguments["tutorial"] = ["tutorial", str(file), row.tutorial, str(port)]
    for name in row.others:
        if name == "opencv-dnn":
            arguments[name] = ["opencv_dnn", *map(str, tiny_files(CACHE)), row.model.partition("@")[2] or "416"]
        elif name == "ultralytics":
            arguments[name] = ["ultralytics_predict", str(file)]
        elif name == "mediapipe":
            arguments[name] = ["mediapipe_detector", str(with_metadata(file, DATA / "models" / row.labels))]
        else:
            files = {"onnxruntime": recipes.onnx_file, "ncnn": recipes.ncnn_float}
            arguments[name] = ["yolox", name, str(files[name](YOLOX)), str(YOLOX.size)]
    return [Peer(name, [str(interpreter(name)), "-m", f"benchmarks.peers.{what[0]}", *what[1:]]) for name, what in arguments.items()]


def with_metadata(model: Path, labels: Path) -> Path:
    """Return a copy with the metadata that MediaPipe wants, made by MediaPipe; the model itself where that cannot be done."""
    told = CACHE / f"{model.stem}.metadata.tflite"
    if not told.exists() and interpreter("mediapipe-writer").exists():
        write = [interpreter("mediapipe-writer"), "-m", "benchmarks.peers.mediapipe_metadata", model, labels, told]
        subprocess.run(write, cwd=ROOT, check=False, stderr=subprocess.DEVNULL)
    return told if told.exists() else model


def measure(peers: list[Peer], pictures: list[Path], rounds: int) -> list[dict[str, Any]]:
    """Return the figures of each peer, measured in turn."""
    for peer in peers:
        if not peer.failed and not Path(peer.command[0]).exists():
            peer.failed = "not installed (--prepare)"
        if not peer.failed:
            peer.start(pictures[0])
    alive = [peer for peer in peers if not peer.failed]
    for turn in range(rounds):
        for number, picture in enumerate(pictures):
            first = (turn + number) % len(alive)
            for peer in (*alive[first:], *alive[:first]):
                peer.ask(picture)
    for peer in alive:
        peer.end()
    medians = {peer.name: statistics.median(peer.cpu_ms) for peer in alive if peer.cpu_ms}
    return [peer.figures(medians.get("floor", 0.0), medians.get("bare", 0.0)) for peer in peers]


def make_pictures(folder: Path, count: int) -> list[Path]:
    """Write `count` JPEG files of one size, cut from the sample photos."""
    photos = sorted((ROOT / "edgeannot" / "samples").glob("*.jpg"))
    paths = []
    for i in range(count):
        picture = cv2.resize(np.roll(cv2.imread(str(photos[i % len(photos)])), 40 * i, axis=1), PICTURE_WH)
        paths.append(folder / f"{i}.jpg")
        cv2.imwrite(str(paths[-1]), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| network | program | ms | processor ms | over the bare run | ms over the floor | peak MB | start s | installed MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    keys = ("ms", "cpu_ms", "over_bare", "over_floor_ms", "peak_mb", "start_s", "install_mb")
    for row, results in found.items():
        for each in results:
            shown = (
                [f"not measured: {each['failed']}"] if "failed" in each else [each[key] if each[key] is not None else "" for key in keys]
            )
            lines.append("| " + " | ".join(map(str, [row, each["peer"], *shown])) + " |")
    versions = {each["peer"]: each["versions"] for results in found.values() for each in results if "versions" in each}
    told = "; ".join(f"{peer}: " + ", ".join(f"{name} {number}" for name, number in facts.items()) for peer, facts in versions.items())
    return "\n".join([*lines, "", f"Versions. {told}. {busy()}"])


def busy() -> str:
    """Return a sentence that says how busy the machine was."""
    return f"Load average at the end: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores."


def draw(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw the processor time over the bare run's as bars, a group for each network, edgeannot's own filled."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - only for the page

    shown = {row: [each for each in results if each.get("over_bare") and each["peer"] != "bare"] for row, results in found.items()}
    figure, axes = plt.subplots(figsize=(8, 0.24 * sum(len(each) + 2 for each in shown.values()) + 0.6), layout="constrained")
    ticks, y = [], 0
    for row, results in shown.items():
        axes.text(0, y, row, va="center", weight="bold", backgroundcolor="white")
        for each in results:
            y += 1
            ours = each["peer"] in OWN and each["peer"] != "floor"
            bar = axes.barh(y, each["over_bare"], color="#1f4e79" if ours else "#dddddd", edgecolor="black", linewidth=0.6)
            axes.bar_label(bar, [f"{each['over_bare']:.2f}  ({each['cpu_ms']:.1f} ms)"], padding=3, fontsize=8)
            ticks.append((y, each["peer"]))
        y += 2
    axes.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axes.set_ylim(y - 1, -1)
    axes.margins(x=0.15)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlabel("processor time over one bare run of the network (1)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=100)


def into_page(by: str, text: str) -> None:
    """Write what `by` made between its marks in the page."""
    begin, end = f"<!-- made by {by} -->", f"<!-- end of {by} -->"
    before, _, after = PAGE.read_text().partition(begin)
    PAGE.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after.partition(end)[2]}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--peers", nargs="+", choices=[*OWN, *TOOLS, *RECIPES], default=[])
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    refused = prepare([name for name in (*TOOLS, *RECIPES) if not args.peers or name in args.peers]) if args.prepare else {}
    found = {}
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        pictures = make_pictures(Path(name), args.pictures)
        for row in args.rows:
            try:
                peers = [peer for peer in peers_of(ROWS[row], CACHE / "data", broker.port) if not args.peers or peer.name in args.peers]
            except (RuntimeError, OSError) as exc:  # a tool that makes its files is not there, or failed
                found[row] = [{"peer": "all", "failed": f"no file: {exc}"}]
                continue
            for peer in peers:
                peer.failed = refused.get(peer.name, "")
            found[row] = measure(peers, pictures, args.rounds)
    (CACHE.parent / "compare.json").write_text(json.dumps({"load": os.getloadavg(), "rows": found}, indent=2))
    print(table(found))
    if args.page:
        draw(found, PAGE.with_name(PLOT))
        into_page("benchmarks/compare.py", f"{table(found)}\n\n![Processor time over the bare run]({PLOT})")


if __name__ == "__main__":
    main()
