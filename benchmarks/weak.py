"""Weak boards by simulation: the daemon under control-group limits of processor and memory (root).

    .venv/bin/python -m benchmarks.weak [--pictures 60] [--cores 0.5 0.25 0.1] [--memory 512 256 192]

Profile low, the model that it takes by itself, pictures of 1 MP, a broker with a subscriber, annotated pictures and label files. The rate
is of pictures after the first; p50 and p95 are the daemon's own time from decoding to boxes. A daemon that is killed is started again, as
a service manager would, five times at most. Ends with 1 where one is killed or a picture is lost. The files that it maps are driven out of
the page cache before each run, so that the group pays for them, but for those that other processes use (group MB has what it paid for). It
shows how shares and memory bear on this processor; a board's own processor is slower.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.quota import CpuGroup, MemoryGroup, NoQuotaError
from benchmarks.watched import Counter, counting_broker, make_pictures, run_daemon

_MOST_STARTS = 5


def mapped_files(pid: int) -> set[str]:
    """Return the files that a process has mapped."""
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except OSError:  # it has ended
        return set()
    return {path for line in lines if (path := line[line.find("/") :]).startswith("/") and os.path.isfile(path)}  # noqa: PTH113 - odd names


def drive_out(paths: set[str]) -> None:
    """Have the kernel forget the pages of files that nobody else has mapped."""
    for path in paths:
        fd = os.open(path, os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(fd)


def _inside(memory: MemoryGroup, cpu: CpuGroup, command: Sequence[str]) -> list[str]:
    return memory.inside(cpu.inside(command))


def measured(counter: Counter, share: float, limit_mb: int, pictures: Path, data_dir: Path) -> dict[str, Any]:
    """Return what came of the pictures under both limits."""
    log = data_dir.with_suffix(".log")
    with CpuGroup("weak") as cpu, MemoryGroup(limit_mb * 2**20, "weak") as memory:
        cpu.limit(share)
        starts, anonymous, files, came = 0, 0, 0, []
        while True:
            limited = partial(_inside, memory, cpu)
            run = run_daemon(counter, pictures, data_dir, "--once", inside=limited, log=log, also="[sinks.jsonl]\nenabled = true\n")
            starts += 1
            while run.process.poll() is None:
                run.look()
                if counter.count and (not came or came[-1][1] != counter.count):
                    came.append((time.perf_counter(), counter.count))
                time.sleep(0.02)
            anonymous, files = max(anonymous, run.anonymous_bytes), max(files, run.file_bytes)
            if run.process.returncode == 0 or starts == _MOST_STARTS:
                break
        kills, peak = memory.kills(), memory.peak_bytes()
    results = [json.loads(line) for path in (data_dir / "out").glob("*.jsonl") for line in path.read_text().splitlines()]
    annotated = len({result["id"] for result in results})
    total_ms = [result["timing_ms"]["total"] for result in results] or [float("nan")]
    seconds = came[-1][0] - came[0][0] if len(came) > 1 else float("nan")
    return {
        "core": share,
        "memory_mb": limit_mb,
        "pictures_per_s": round((came[-1][1] - came[0][1]) / seconds, 2) if came else None,
        "p50_ms": round(float(np.percentile(total_ms, 50)), 1),
        "p95_ms": round(float(np.percentile(total_ms, 95)), 1),
        "anonymous_mb": round(anonymous / 1e6),
        "files_mb": round(files / 1e6),
        "group_mb": round(peak / 1e6),
        "killed": kills,
        "lost": len(list(pictures.iterdir())) - annotated,
        "exit_code": run.process.returncode,
        "said": log.read_text(errors="replace").strip().splitlines()[-1:] if run.process.returncode else [],
    }


def main() -> None:
    """Measure, print the table, and fail where a daemon was killed or a picture lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=60)
    parser.add_argument("--cores", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument("--memory", type=int, nargs="+", default=[512, 256, 192], metavar="MB")
    args = parser.parse_args()
    bad = []
    with tempfile.TemporaryDirectory() as name, counting_broker(Path(name) / "broker") as counter:
        make_pictures(Path(name) / "in", args.pictures)
        first = run_daemon(counter, Path(name) / "in", Path(name) / "first", "--once")  # it also writes the bytecode
        mapped: set[str] = set()
        while first.process.poll() is None:
            mapped |= mapped_files(first.process.pid)
            time.sleep(0.1)
        print("| core | MB | pictures/s | p50 ms | p95 ms | anonymous MB | files MB | group MB | killed | lost |\n" + "|---" * 10 + "|")
        for number, (share, limit_mb) in enumerate((share, limit) for share in args.cores for limit in args.memory):
            drive_out({path for path in mapped if not path.startswith(name)})
            try:
                found = measured(counter, share, limit_mb, Path(name) / "in", Path(name) / f"data{number}")
            except NoQuotaError as exc:
                print(f"skipped: {exc}")
                return
            keys = ("core", "memory_mb", "pictures_per_s", "p50_ms", "p95_ms", "anonymous_mb", "files_mb", "group_mb", "killed", "lost")
            print("| " + " | ".join(str(found[key]) for key in keys) + " |", flush=True)
            if found["killed"] or found["lost"] or found["exit_code"]:
                bad.append(found)
    print(f"load {os.getloadavg()[0]:.1f}")
    if bad:
        sys.exit("missed: " + "; ".join(json.dumps(found) for found in bad))


if __name__ == "__main__":
    main()
