"""Whether sources share one model fairly: four streams, one of 30 frames a second, two of 15, and one that stalls.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.cameras.shares        # needs Debian's ffmpeg and mosquitto

When each source has given results the fourth is stopped (SIGSTOP) in mid-stream; a few seconds later the results of each live one are
counted for a while. The fair shares of what was served are max-min ones: nobody is due more than it sends, and what one leaves over goes to
the others in equal parts. So a model that keeps up has to serve every frame; name slower ones with --model. Ends with 1 where a source has
another share than the fair one by more than a tenth.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2

from benchmarks.cameras.decoding import DATA, FPS, encoded
from benchmarks.cameras.latency import Listener, camera, free_port
from benchmarks.store.broker import DEADLINE_S, mosquitto
from benchmarks.watched import COMMAND, Run

NAMES = ("quick", "one", "other", "stalled")


def main() -> int:
    """Run it and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="yolov3-tiny", help="a bundled model, or a .tflite file that `models add` takes as it is")
    asked = parser.parse_args()
    quick = DATA / "videos" / "bottle-detection.mp4"
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        folder = Path(name)
        slow = encoded(folder, "slow", ["-stream_loop", "-1", "-i", str(quick)], "640:360", "500k")
        ports = {source: free_port() for source in NAMES}
        senders = {source: camera(quick if source == "quick" else slow, port) for source, port in ports.items()}
        listener = Listener(broker.port)
        model = asked.model
        if model.endswith(".tflite"):
            model = "added"
            add = ["models", "add", asked.model, "--name", model, "--yes", "--data-dir", f"{folder}/data"]
            subprocess.run([*COMMAND[:-1], *add], check=True, stdout=subprocess.DEVNULL)
        sources = "".join(
            f'[sources.{source}]\nkind = "camera"\nurl = "tcp://127.0.0.1:{port}"\nmax_fps = 100\nread_timeout_s = 3\n'
            for source, port in ports.items()
        )
        (folder / "settings.toml").write_text(
            f'data_dir = "{folder}/data"\nmodel = "{model}"\nprofile = "mid"\nthreads = 1\n{sources}'
            f'[sinks.mqtt]\nurl = "mqtt://127.0.0.1:{broker.port}"\n'
        )
        run = Run("--config", str(folder / "settings.toml"))
        try:
            until(lambda: len(counts(listener, 0)) == len(NAMES), "results of all four")
            senders["stalled"].send_signal(signal.SIGSTOP)
            time.sleep(6)
            before = len(listener.results)
            time.sleep(asked.seconds)
            found = counts(listener, before)
        finally:
            run.stop()
            for sender in senders.values():
                sender.kill()
                sender.wait()
            listener.close()
    total, rate = sum(found.values()), cv2.VideoCapture(str(quick)).get(cv2.CAP_PROP_FPS)
    due = fair_shares(total, {"quick": rate * asked.seconds, "one": FPS * asked.seconds, "other": FPS * asked.seconds})
    name, load = Path(asked.model).stem, os.getloadavg()[0]
    print(f"{name}: {total / asked.seconds:.1f} results a second, of {rate + 2 * FPS:.1f} frames, load {load:.1f}")
    for source, wanted in due.items():
        print(f"  {source:6} {found[source] / asked.seconds:5.1f} a second, {found[source] / wanted:.3f} of its fair share")
    return int(any(abs(found[source] / wanted - 1) > 0.1 for source, wanted in due.items()))


def fair_shares(total: float, sent: Mapping[str, float]) -> dict[str, float]:
    """Return the max-min fair share of each source in what was served; sent: its frames.

    >>> fair_shares(40, {"quick": 30, "slow": 10, "medium": 20})
    {'slow': 10, 'medium': 15.0, 'quick': 15.0}
    """
    due: dict[str, float] = {}
    for source, frames in sorted(sent.items(), key=lambda each: each[1]):
        due[source] = min(frames, (total - sum(due.values())) / (len(sent) - len(due)))
    return due


def counts(listener: Listener, begin: int) -> Counter[str]:
    """Return the results by source."""
    return Counter(payload["source"] for _, payload in listener.results[begin:])


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
