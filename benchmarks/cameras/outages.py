"""Outages of a real RTSP server, killed and frozen in turn: how soon each is noticed and over, and whether memory and open files stay.

`python -m benchmarks.cameras.outages --cycles 50` prints a line for each cycle and a summary. Needs GStreamer's RTSP server, as tests do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time
from pathlib import Path

from edgeannot.sources import CameraOptions, Context, Tick, open_source
from tests.sources.rtsp import RtspServer

PATIENCE_S = 120.0


def children() -> list[str]:
    """Return the process ids of this process's children that hold cameras open."""
    found = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return [pid for pid in found if b"capture_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def held(pid: str) -> tuple[int, float]:
    """Return the open files of a process, and its resident memory in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return len(list(Path(f"/proc/{pid}/fd").iterdir())), pages * 4096 / 2**20


def main() -> int:
    """Run the cycles; 1 where files or memory grew, or frames did not come back in time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--read-timeout-s", type=float, default=2.0)
    asked = parser.parse_args()
    server, stop = RtspServer(), threading.Event()
    options = CameraOptions(url=server.url, open_timeout_s=5, read_timeout_s=asked.read_timeout_s)
    source = open_source("net", options, Context(max_fps=100))
    items = source.items(stop)

    def until(frame: bool) -> tuple[float, str]:
        """Return the seconds until there is a frame, or trouble, and that."""
        began = time.monotonic()
        while time.monotonic() - began < PATIENCE_S:
            item = next(items)
            if frame and not isinstance(item, Tick):
                return time.monotonic() - began, ""
            if not frame and isinstance(item, Tick) and item.trouble:
                return time.monotonic() - began, item.trouble
        raise TimeoutError

    noticed, back, files, memory = [], [], [], []
    until(frame=True)
    try:
        for cycle in range(asked.cycles):
            kills = cycle % 2 == 0
            server.kill() if kills else server.freeze()
            noticed_s, trouble = until(frame=False)
            server.start() if kills else server.thaw()
            back_s, _ = until(frame=True)
            for _ in range(10):
                until(frame=True)
            own, child = held("self"), [held(pid) for pid in children()]
            noticed.append(noticed_s)
            back.append(back_s)
            files.append(own[0] + sum(count for count, _ in child))
            memory.append(own[1] + sum(mb for _, mb in child))
            what = "killed" if kills else "frozen"
            print(
                f"{cycle + 1:3} {what}: noticed after {noticed_s:.1f} s, back {back_s:.1f} s after the server, {len(child)} child, "
                f"{files[-1]} files, {memory[-1]:.0f} MB ({trouble.rpartition('/test ')[2]})",
                flush=True,
            )
    finally:
        stop.set()
        for _ in items:
            pass
        server.kill()
    quarter = max(1, len(files) // 4)
    first, last = statistics.median(memory[:quarter]), statistics.median(memory[-quarter:])
    print(f"noticed: median {statistics.median(noticed):.1f} s, longest {max(noticed):.1f} s")
    print(f"back: median {statistics.median(back):.1f} s, longest {max(back):.1f} s")
    print(f"open files {min(files)} to {max(files)}; memory of the first quarter {first:.0f} MB, of the last {last:.0f} MB")
    return int(max(files[-quarter:]) > max(files[:quarter]) or last > 1.1 * first or max(back) > 10.0)


if __name__ == "__main__":
    sys.exit(main())
