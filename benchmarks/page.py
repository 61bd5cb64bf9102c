"""What the live page costs: pictures a second, processor time a picture and memory of the daemon, with the page off, on, and looked at.

`python -m benchmarks.page [--rounds 5] [--pictures 200]` runs the daemon over a folder of copies of a sample photo: without the page,
with the page and no viewer, and with ten viewers and one who reads 1 KB a second. The three are interleaved, in turn the first to run;
medians and their ratios to "off" are printed. The viewers run on this machine, too: their own work is small, but not none.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).resolve().parent.parent / "edgeannot" / "samples" / "scene.jpg"
VIEWERS = 10
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
WAYS = ("off", "on", "watched")


@dataclass(frozen=True)
class Figures:
    """Of one run, between the first tenth of the pictures and the last."""

    fps: float
    cpu_ms: float
    """Processor time of the daemon a picture."""
    rss_mb: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--model", default="ssdlite-mobilenet-v2-coco@300")
    given = parser.parse_args()
    found: dict[str, list[Figures]] = {way: [] for way in WAYS}
    for each in range(given.rounds):
        for way in (*WAYS[each % 3 :], *WAYS[: each % 3]):
            found[way].append(measured(way, given.pictures, given.model))
            last = found[way][-1]
            print(f"round {each + 1}, {way}: {last.fps:.2f} a second, {last.cpu_ms:.1f} ms of processor, {last.rss_mb:.0f} MB", flush=True)
    print("\n| page | pictures a second | processor time a picture (ms) | memory (MB) |\n|---|---|---|---|")
    for way in WAYS:
        columns = []
        for name in ("fps", "cpu_ms", "rss_mb"):
            mine, off = ([getattr(figures, name) for figures in found[each]] for each in (way, "off"))
            ratio = statistics.median(one / other for one, other in zip(mine, off, strict=True))
            columns.append(f"{statistics.median(mine):.2f} ({ratio:.3f} of off)")
        print(f"| {way} | {' | '.join(columns)} |")


def measured(way: str, pictures: int, model: str) -> Figures:
    """Run the daemon over the folder once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        for number in range(pictures):
            (folder / "in" / f"{number:04}.jpg").write_bytes(SAMPLE.read_bytes() + number.to_bytes(4, "big"))  # each a picture of its own
        health, port = free_port(), free_port()
        text = SETTINGS.format(model=model, health=health, port=port, page=str(way != "off").lower(), folder=folder / "in")
        (folder / "edgeannot.toml").write_text(text)
        command = [sys.executable, "-m", "edgeannot", "run", "--config", str(folder / "edgeannot.toml"), "--data-dir", str(folder / "data")]
        with (folder / "log").open("wb") as log:
            daemon = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            with watching(port) if way == "watched" else contextlib.nullcontext():
                return between(daemon, health, pictures // 10, pictures - pictures // 10)
        finally:
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)
            shutil.rmtree(folder / "in")


def between(daemon: subprocess.Popen[bytes], health: int, first: int, last: int) -> Figures:
    """Return the figures between two numbers of pictures."""
    begun = reached(daemon, health, first)
    ended = reached(daemon, health, last)
    done = ended["pictures"] - begun["pictures"]
    return Figures(done / (ended["at"] - begun["at"]), 1000 * (ended["cpu"] - begun["cpu"]) / done, ended["rss"] / 2**20)


def reached(daemon: subprocess.Popen[bytes], health: int, pictures: int) -> dict[str, float]:
    """Wait until so many pictures are done, and return what /metrics says then."""
    while daemon.poll() is None:
        time.sleep(0.2)
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", health, timeout=5)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            names = {"pictures": "edgeannot_pictures_total", "cpu": "process_cpu_seconds_total", "rss": "process_resident_memory_bytes"}
            values = {key: float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE)[1]) for key, name in names.items()}  # type: ignore[index]
            if values["pictures"] >= pictures:
                return {**values, "at": time.monotonic()}
    raise RuntimeError(f"the daemon ended with {daemon.returncode}")


@contextlib.contextmanager
def watching(port: int) -> Iterator[None]:
    """Have viewers, and one who is slow, look as soon as the page is there; who is dropped comes again."""
    ended = threading.Event()
    threads = [threading.Thread(target=view, args=(port, ended, number == VIEWERS), daemon=True) for number in range(VIEWERS + 1)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def view(port: int, ended: threading.Event, slow: bool) -> None:
    """Read the stream of the page, and throw it away."""
    for _ in itertools.takewhile(lambda _: not ended.is_set(), itertools.count()):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 5) as viewer:
            if slow:
                viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            viewer.sendall(f"GET /events HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            viewer.settimeout(2)
            while not ended.is_set() and viewer.recv(1024 if slow else 1 << 20):
                if slow:
                    ended.wait(1)
        ended.wait(0.2)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


if __name__ == "__main__":
    main()
