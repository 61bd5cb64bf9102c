"""From a camera's frame to the message at a subscriber: 1080p at 15 frames a second, one thread of the model, a real broker.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.cameras.latency --minutes 10       # needs Debian's ffmpeg and mosquitto
    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.cameras.latency --minutes 2 --slow

ffmpeg sends a video of the test data, scaled to 1080p and looped, as it would come from a camera: H.264, MPEG-TS over TCP, in real time.
The daemon reads it in a child process. Latency is from `captured_at`, the moment at which the decoder has handed the frame over, to the
arrival at the subscriber, by the clock of the machine; the model's own time is `timing_ms.inference` of the same messages. With --slow
the model needs longer than a frame period. `timing_ms.classify`, where a second stage is asked for with --classify, is part of it.
Ends with 1 where the 95th percentile of the latency is over that of the inference by more than 15 ms, or with --slow that of the age
over a frame period and an inference.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cameras.decoding import DATA, FPS, encoded
from benchmarks.store.broker import mosquitto
from benchmarks.watched import Run, Subscriber

SETTINGS = """
data_dir = "{folder}/data"
model = "{model}"
profile = "mid"
threads = 1
[sources.yard]
kind = "camera"
url = "tcp://127.0.0.1:{camera}"
max_fps = 100
[sinks.mqtt]
url = "mqtt://127.0.0.1:{broker}"
[sinks.images]
enabled = false
[sinks.labels]
enabled = false
"""


class Listener(Subscriber):
    """A subscriber that keeps each result with the moment of its arrival."""

    def __init__(self, port: int) -> None:
        self.results: list[tuple[float, dict[str, Any]]] = []
        super().__init__(port, lambda message: self.results.append((time.time(), json.loads(message.payload))))


def camera(video: Path, port: int) -> subprocess.Popen[bytes]:
    """Send the video again and again to whoever connects."""
    looped = ["-re", "-stream_loop", "-1", "-i", str(video), "-c", "copy", "-f", "mpegts"]
    return subprocess.Popen(["ffmpeg", "-v", "quiet", *looped, f"tcp://127.0.0.1:{port}?listen=1"], stdin=subprocess.DEVNULL)


def free_port() -> int:
    """Return a port that nobody has."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def figures(results: list[tuple[float, dict[str, Any]]]) -> dict[str, np.ndarray]:
    """Return for each message the milliseconds of each stage, the age and the latency."""
    captured = [datetime.fromisoformat(payload["captured_at"]).timestamp() for _, payload in results]
    latency = [(came - taken) * 1e3 for (came, _), taken in zip(results, captured, strict=True)]
    stages = {name for _, payload in results for name in payload["timing_ms"]}
    return {
        "latency": np.array(latency),
        **{name: np.array([payload["timing_ms"].get(name, 0.0) for _, payload in results]) for name in sorted(stages)},
    }


def main() -> int:
    """Run it and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--model", help="default: nanodet-g@320; with --slow yolov3-tiny")
    parser.add_argument("--video", default="bottle-detection")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--classify", metavar="LABEL=MODEL", help="also a second stage for a label")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), free_port()
        source = ["-stream_loop", "-1", "-i", str(DATA / "videos" / f"{asked.video}.mp4")]
        video = encoded(folder, "main", source, "1920:1080", "4M")
        (folder / "broker").mkdir()
        with mosquitto(folder / "broker") as broker:
            listener, sender = Listener(broker.port), camera(video, port)
            try:
                model = asked.model or ("yolov3-tiny" if asked.slow else "nanodet-g@320")
                text = SETTINGS.format(folder=folder, model=model, camera=port, broker=broker.port)
                if asked.classify:
                    label, _, classifier = asked.classify.partition("=")
                    text += f'[sources.yard.tracking]\nenabled = true\n[classify.{label}]\nmodel = "{classifier}"\n'
                (folder / "settings.toml").write_text(text)
                run = Run("--config", str(folder / "settings.toml"))
                until = time.monotonic() + 60 * asked.minutes
                while time.monotonic() < until and run.process.poll() is None:
                    time.sleep(0.5)
                run.stop()
            finally:
                sender.kill()
                sender.wait()
                listener.close()
        return told(listener.results, asked.slow, model)


def told(results: list[tuple[float, dict[str, Any]]], slow: bool, model: str) -> int:
    """Print what came; 1 where a bound is missed."""
    found = figures(results[FPS:])  # the first second loads what is loaded late
    print(f"{model}: {len(results)} messages, load {os.getloadavg()[0]:.1f}")
    for name, values in found.items():
        p50, p95, p99 = np.percentile(values, [50, 95, 99])
        print(f"  {name:12} p50 {p50:6.1f}  p95 {p95:6.1f}  p99 {p99:6.1f}  most {values.max():6.1f} ms")
    period_ms = 1000 / FPS
    p95 = {name: float(np.percentile(values, 95)) for name, values in found.items()}
    if slow:
        print(f"  age p95 {p95['age']:.1f} ms, bound {period_ms + p95['inference']:.1f} ms (a frame period and an inference's p95)")
        return int(p95["age"] > period_ms + p95["inference"])
    print(f"  latency p95 over inference p95: {p95['latency'] - p95['inference']:.1f} ms, bound 15 ms")
    return int(p95["latency"] - p95["inference"] > 15.0)


if __name__ == "__main__":
    sys.exit(main())
