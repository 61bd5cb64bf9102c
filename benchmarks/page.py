"""What the live page costs: time of inference and processor, pictures a second and memory, with the page off, on and looked at.

`python -m benchmarks.page [--rounds 12] [--pictures 1000]` runs the daemon over a folder of copies of a sample photo, as fast as it goes:
twice without the page (what differs between these two is noise), with the page and no viewer, and with ten viewers and one who reads
1 KB a second. Each round has the four in an order of its own, drawn with a fixed seed. Printed are medians, and of each round's ratio to
"off" the median, the least and the most. Where there are two cores or more, the daemon has all but one, and viewers and clock that one:
on a board, viewers are other machines. Wants a quiet machine: a round takes about a minute there.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "edgeannot" / "samples" / "scene.jpg"
VIEWERS = 10
CORES = os.sched_getaffinity(0)
VIEWERS_CORES = {min(CORES)}
NAMES = {
    "pictures": "edgeannot_pictures_total",
    "inference": 'edgeannot_stage_seconds_sum{stage="inference"}',
    "cpu": "process_cpu_seconds_total",
    "rss": "process_resident_memory_bytes",
}
SETTINGS = """
model = "{model}"
[health]
enabled = true
port = {health}
[page]
enabled = {page}
port = {port}
[sources.folder]
kind = "directory"
path = "{folder}"
[sinks.mqtt]
enabled = false
"""
WAYS = ("off", "off again", "on", "watched")
COLUMNS = {"inference_ms": "inference (ms)", "cpu_ms": "processor time a picture (ms)", "fps": "pictures a second", "rss_mb": "memory (MB)"}


@dataclass(frozen=True)
class Figures:
    """Of one run, between the first tenth of the pictures, or the last viewer's first event, and the last tenth."""

    inference_ms: float
    """Mean time of the network."""
    cpu_ms: float
    """Processor time of the daemon a picture."""
    fps: float
    rss_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--model", default="ssdlite-mobilenet-v2-coco@300")
    given = parser.parse_args()
    found: dict[str, list[Figures]] = {way: [] for way in WAYS}
    os.sched_setaffinity(0, VIEWERS_CORES)
    order = random.Random(1)
    for each in range(given.rounds):
        for way in order.sample(WAYS, len(WAYS)):
            found[way].append(measured(way, given.pictures, given.model))
            print(f"round {each + 1}, {way}: {found[way][-1]}", flush=True)
    print(f"\n| page | {' | '.join(COLUMNS.values())} |\n|{'---|' * (1 + len(COLUMNS))}")
    for way in WAYS:
        columns = []
        for name in COLUMNS:
            mine, off = ([getattr(figures, name) for figures in found[each]] for each in (way, "off"))
            ratios = sorted(one / other for one, other in zip(mine, off, strict=True))
            beside = "" if way == "off" else f" ({statistics.median(ratios):.3f}, {ratios[0]:.3f} to {ratios[-1]:.3f} of off)"
            columns.append(f"{statistics.median(mine):.2f}{beside}")
        print(f"| {way} | {' | '.join(columns)} |")


def measured(way: str, pictures: int, model: str) -> Figures:
    """Run the daemon over the folder once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(pictures):
            (folder / "in" / f"{number:04}.jpg").write_bytes(SAMPLE.read_bytes() + number.to_bytes(4, "big"))  # each a picture of its own
        health, port = free_port(), free_port()
        text = SETTINGS.format(model=model, health=health, port=port, page=str(way in {"on", "watched"}).lower(), folder=folder / "in")
        (folder / "edgeannot.toml").write_text(text)
        command = [sys.executable, "-m", "edgeannot", "run", "--config", str(folder / "edgeannot.toml"), "--data-dir", str(folder / "data")]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=to_its_cores)  # noqa: PLW1509 - before any thread
        try:
            with watching(port) if way == "watched" else contextlib.nullcontext(()) as looks:
                begun = reached(daemon, health, pictures // 10, looks)
                ended = reached(daemon, health, pictures - pictures // 10)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
            shutil.rmtree(folder / "in")
    of_run = {name: ended[name] - begun[name] for name in ended}
    done = of_run["pictures"]
    return Figures(1000 * of_run["inference"] / done, 1000 * of_run["cpu"] / done, done / of_run["at"], ended["rss"] / 2**20)


def to_its_cores() -> None:
    """Give a new daemon all cores but that of the viewers, if there are others."""
    os.sched_setaffinity(0, CORES - VIEWERS_CORES or CORES)


def reached(daemon: subprocess.Popen[bytes], health: int, pictures: int, looks: Sequence[threading.Event] = ()) -> dict[str, float]:
    """Wait until so many pictures are done and all look, and return what /metrics says then."""
    while daemon.poll() is None:
        time.sleep(0.2)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", health, timeout=5)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            found = {key: re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE) for key, name in NAMES.items()}
            values = {key: float(match[1]) if match else 0.0 for key, match in found.items()}
            if values["pictures"] >= pictures and all(each.is_set() for each in looks):
                return {**values, "at": time.monotonic()}
    raise RuntimeError(f"the daemon ended with {daemon.returncode}")


@contextlib.contextmanager
def watching(port: int) -> Iterator[Sequence[threading.Event]]:
    """Have viewers, and one who is slow, look as soon as the page is there; who is dropped comes again. Yields who looks already."""
    ended, looks = threading.Event(), [threading.Event() for _ in range(VIEWERS + 1)]
    threads = [threading.Thread(target=view, args=(port, ended, number == VIEWERS, look), daemon=True) for number, look in enumerate(looks)]
    for thread in threads:
        thread.start()
    try:
        yield looks
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def view(port: int, ended: threading.Event, slow: bool, look: threading.Event) -> None:
    """Read the stream of the page, and throw it away."""
    for _ in itertools.takewhile(lambda _: not ended.is_set(), itertools.count()):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as viewer:
            if slow:
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            viewer.sendall(f"GET /events HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            viewer.settimeout(2)
            while not ended.is_set() and viewer.recv(1024 if slow else 1 << 20):
                look.set()
                if slow:
                    ended.wait(1)
        ended.wait(0.2)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
