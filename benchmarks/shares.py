"""Whether sources share one model fairly: four streams, one of 30 frames a second, two of 15, and one that stalls.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.shares        # needs Debian's ffmpeg and mosquitto

The model is to be too slow for all of them: name one with --model. When each source has given results the fourth is stopped (SIGSTOP) in
mid-stream; a few seconds later the results of each live one are counted for a while. Ends with 1 where one has another share than a third
by more than a tenth.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.decoding import DATA, encoded
from benchmarks.latency import Listener, camera, free_port
from benchmarks.store.broker import DEADLINE_S, mosquitto
from benchmarks.watched import Run

NAMES = ("quick", "one", "other", "stalled")


def main() -> int:
    """Run it and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default="yolov3-tiny@416")
    asked = parser.parse_args()
    quick = DATA / "videos" / "bottle-detection.mp4"
    with tempfile.TemporaryDirectory() as name, mosquitto(Path(name)) as broker:
        folder = Path(name)
        slow = encoded(folder, "slow", ["-stream_loop", "-1", "-i", str(quick)], "640:360", "500k")
        ports = {source: free_port() for source in NAMES}
        senders = {source: camera(quick if source == "quick" else slow, port) for source, port in ports.items()}
        listener = Listener(broker.port)
        sources = "".join(
            f'[sources.{source}]\nkind = "camera"\nurl = "tcp://127.0.0.1:{port}"\nmax_fps = 100\nread_timeout_s = 3\n'
            for source, port in ports.items()
        )
        (folder / "settings.toml").write_text(
            f'data_dir = "{folder}/data"\nmodel = "{asked.model}"\nprofile = "mid"\nthreads = 1\n{sources}'
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
    total = sum(found.values())
    shares = {source: found[source] / total for source in NAMES[:3]}
    print(f"{total} results in {asked.seconds:.0f} s, load {os.getloadavg()[0]:.1f}: {dict(found)}")
    print("shares of the live ones over a third: " + ", ".join(f"{source} {3 * share:.3f}" for source, share in shares.items()))
    return int(any(abs(3 * share - 1) > 0.1 for share in shares.values()))


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
