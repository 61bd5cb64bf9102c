"""Processor time of decoding alone: every frame, key frames only, and a smaller stream.

    EDGEANNOT_TEST_DATA=DATA .venv/bin/python -m benchmarks.cameras.decoding       # needs Debian's ffmpeg, with x264

The streams are a minute of 1080p at 15 frames a second as many IP cameras give it: H.264 High profile, 4 Mbit/s, a key frame every 2 s, no
B-frames. The pictures are a video of the test data, scaled and looped; the smaller stream is the same in 640x360 with 0.5 Mbit/s.
White noise, of which all of a frame has to be coded anew, is there for the worst case. Each is decoded as a camera's process does it, by
one that does nothing else; processor time is that of the process, of its end minus that of its opening.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeannot.sources.capture import Target, open_capture

DATA = Path(os.environ.get("EDGEANNOT_TEST_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))
FPS, GOP, SECONDS = 15, 30, 60
NOISE = "nullsrc=size=1920x1080:rate=15,format=yuv420p,noise=alls=100:allf=t"


def encoded(folder: Path, name: str, source: list[str], size: str, bit_rate: str) -> Path:
    """Write a minute of a source as H.264 and return the file."""
    out = folder / f"{name}.mp4"
    x264 = ["-c:v", "libx264", "-profile:v", "high", "-preset", "veryfast", "-bf", "0", "-g", str(GOP), "-sc_threshold", "0"]
    rate = ["-b:v", bit_rate, "-maxrate", bit_rate, "-bufsize", bit_rate]
    scaled = ["-vf", f"fps={FPS},scale={size}:flags=bicubic,format=yuv420p", "-t", str(SECONDS), "-an"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *source, *scaled, *x264, *rate, str(out)], check=True)
    return out


def decoded(stream: Path, frames: str) -> None:
    """Decode it and print the frames, their size and the processor seconds: the work of a process of its own."""
    capture = open_capture(Target("file", str(stream), frames="key" if frames == "key" else "all"))
    began, count, size = _used_s(), 0, ""
    while capture.grab():
        if not getattr(capture, "has_frame", True):
            continue
        there, image = capture.retrieve()
        if there and image is not None:
            count, size = count + 1, f"{image.shape[1]}x{image.shape[0]}"
    print(count, size, _used_s() - began)


def _used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Print a line for each case; 1 where key frames take more than a quarter of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decode", nargs=2, metavar=("STREAM", "all|key"), help="decode this one: for the processes")
    parser.add_argument("--rounds", type=int, default=3, help="of which the least is shown")
    asked = parser.parse_args()
    if asked.decode:
        decoded(Path(asked.decode[0]), asked.decode[1])
        return 0
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        videos = [(path.stem, ["-stream_loop", "-1", "-i", str(path)]) for path in sorted((DATA / "videos").glob("*.mp4"))]
        for name, source in [*videos, ("white noise", ["-f", "lavfi", "-i", NOISE])]:
            main_stream = encoded(Path(folder), "main", source, "1920:1080", "4M")
            sub_stream = encoded(Path(folder), "sub", source, "640:360", "500k")
            rate = main_stream.stat().st_size * 8 / SECONDS / 1e6
            full = cost(main_stream, "all", asked.rounds)
            key, sub = cost(main_stream, "key", asked.rounds), cost(sub_stream, "all", asked.rounds)
            print(
                f"{name} ({rate:.1f} Mbit/s): full {full[1]:.2f} s a minute ({full[0]}), key frames {key[1]:.2f} s ({key[0]}) = "
                f"{key[1] / full[1]:.1%}, sub-stream {sub[1]:.2f} s ({sub[0]}) = {sub[1] / full[1]:.1%}",
                flush=True,
            )
            if name != "white noise":
                worst = max(worst, key[1] / full[1])
    return int(worst > 0.25)


def cost(stream: Path, frames: str, rounds: int) -> tuple[str, float]:
    """Return what came out, and the least processor seconds of the rounds."""
    command = [sys.executable, "-m", "benchmarks.cameras.decoding", "--decode", str(stream), frames]
    found = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(rounds)]
    return f"{found[0][0]} frames of {found[0][1]}", min(float(seconds) for *_, seconds in found)


if __name__ == "__main__":
    sys.exit(main())
