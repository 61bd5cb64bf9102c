"""The real daemon as a user starts it: a process of its own, with real models and a real broker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from tests.brokers import wait_until
from tests.patience import DEADLINE_S

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = ROOT / "edgeannot" / "samples"
COMMAND = [sys.executable, "-c", "from edgeannot.cli.start import main; main()"]


def edgeannot(*args: object, timeout_s: float = DEADLINE_S, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *map(str, args)], capture_output=True, text=True, timeout=timeout_s, env={**os.environ, **environment}, check=False
    )


def copy_samples(folder: Path, copies: int = 1) -> list[str]:
    """Sample photos under names of their own, so that each is a picture by itself."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for i in range(copies):
        for photo in sorted(SAMPLES.glob("*.jpg")):
            names.append(f"{i:03}-{photo.name}")
            shutil.copyfile(photo, folder / f".{names[-1]}")
            (folder / f".{names[-1]}").rename(folder / names[-1])
    return names


class Daemon:
    """A daemon that runs until it is told to stop, or killed. `log` is what it wrote to stderr."""

    def __init__(
        self, folder: Path, *args: object, prefix: Iterable[str] = (), command: Iterable[str] = COMMAND, **environment: str
    ) -> None:
        """prefix: a command that runs the rest, such as `ip netns exec NAME`, and is replaced by it."""
        folder.mkdir(parents=True, exist_ok=True)
        self.data_dir = folder / "data"
        self._log_path = folder / "daemon.log"
        with self._log_path.open("ab") as log, (folder / "daemon.out").open("ab") as out:
            self.process = subprocess.Popen(
                [*prefix, *command, "run", "--data-dir", str(self.data_dir), *map(str, args)],
                stdout=out,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    def wait_log(self, text: str) -> None:
        def there() -> bool:
            assert self.process.poll() is None, f"the daemon ended with {self.process.returncode}: {self.log}"
            return text in self.log

        wait_until(there, f"{text!r} in the log: {self.log}", DEADLINE_S)

    def watch_to_the_end(self) -> int:
        """Wait until it ends by itself; the most memory it held, in kB, by the kernel's own high-water mark.

        The rusage of a child would count what this process held when it forked.
        """
        peak, pause = 0, threading.Event()
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"the daemon does not end: {self.log}"
            try:
                found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
            except OSError:  # it ended just now
                continue
            peak = max(peak, int(found[1]) if found else 0)
            pause.wait(0.01)
        return peak

    def stop(self) -> int:
        """Ask it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(DEADLINE_S)

    def kill(self) -> None:
        """As the out-of-memory killer or a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(DEADLINE_S)
