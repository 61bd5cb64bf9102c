"""A Debian booted in a container by systemd-nspawn, and what the tests of the service do in it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import wait_until
from tests.patience import DEADLINE_S
from tests.surroundings import asked

__all__ = ["ROOT", "UNIT", "Container", "booted", "needs_container", "needs_python_311"]

ROOT = Path(__file__).resolve().parents[2]
BASE = asked("SERVICE_ROOT") or ""
UNIT = "edgeannot.service"

needs_container = pytest.mark.skipif(
    not BASE or not Path(BASE).is_dir(), reason="there is no root file system: `make service-test` makes it"
)
needs_python_311 = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="the packages of this environment are lent to Debian's Python 3.11"
)


class Container:
    """A booted Debian without a network, and what is done in it."""

    def __init__(self, folder: Path, *, lent: bool = True, base: str = BASE) -> None:
        """lent: this checkout and the packages of this environment are there, as /opt/edgeannot. base: its root file system."""
        self.root = folder / "root"
        subprocess.run(["cp", "-a", base, str(self.root)], check=True)
        (self.root / "mnt/pictures").mkdir()
        self.write("etc/hosts", "127.0.0.1 localhost\n")  # as every installed Debian has
        words = [
            "-q",
            "-b",
            "-D",
            str(self.root),
            "--register=no",
            "--keep-unit",
            "--private-network",
            "--kill-signal=SIGRTMIN+3",
            "--console=pipe",
            "--setenv=SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1",  # else that of Debian 13 does not boot on control groups of version 1
        ]
        if lent:
            site = next(Path(sys.prefix).glob("lib/python3*/site-packages"))
            self.write("usr/lib/python3/dist-packages/edgeannot.pth", "/opt/src\n/opt/src/tools\n/opt/site\n")
            self.write("opt/edgeannot/bin/edgeannot", "#!/usr/bin/python3\nfrom edgeannot.cli.start import main\nmain()\n", 0o755)
            words += [f"--bind-ro={ROOT}:/opt/src", f"--bind-ro={site}:/opt/site"]
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["systemd-nspawn", *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.leader = 0
        wait_until(self._booted, f"the container to boot; its log: {folder}/log")

    def _booted(self) -> bool:
        assert self.process.poll() is None, "systemd-nspawn ended"
        if not self.leader:
            found = subprocess.run(["pgrep", "-P", str(self.process.pid), "-x", "systemd"], capture_output=True, text=True, check=False)
            self.leader = int(found.stdout.split()[0]) if found.stdout.split() else 0
            return False
        return self.run("systemctl", "is-system-running", check=False).stdout.strip() in {"running", "degraded"}

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = ["nsenter", "-t", str(self.leader), "-a", *words]
        env = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, env=env)
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def edgeannot(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run("/opt/edgeannot/bin/edgeannot", *words, check=check)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        place = self.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
        place.chmod(mode)

    def shown(self, key: str, unit: str = UNIT) -> str:
        return self.run("systemctl", "show", "--value", "-p", key, unit).stdout.strip()

    def journal(self, unit: str = UNIT) -> str:
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", unit).stdout

    def wait(self, key: str, value: str, unit: str = UNIT) -> None:
        wait_until(lambda: self.shown(key, unit) == value, f"{unit}: {key}={value}", pace_s=0.3)

    def end(self) -> None:
        """Halt its systemd; one that does not halt is killed. To end nspawn alone would leave all that is in the container running."""
        for number, patience_s in ((signal.SIGRTMIN + 3, 60.0), (signal.SIGKILL, DEADLINE_S)):
            if self.process.poll() is None:
                with suppress(subprocess.TimeoutExpired, ProcessLookupError):
                    os.kill(self.leader or self.process.pid, number)
                    self.process.wait(patience_s)

    def drop(self, picture: str) -> None:
        """Move a photo into the watched folder, whole."""
        hidden = self.root / f"mnt/pictures/.{picture}"
        shutil.copy(ROOT / "edgeannot/samples/astronaut.jpg", hidden)
        hidden.chmod(0o644)
        hidden.rename(self.root / f"mnt/pictures/{picture}")

    def heard(self, picture: str, *login: str) -> dict[str, Any]:
        """Return the message after a picture was dropped into the folder. The retained status shows that the subscription is made."""
        words = ["mosquitto_sub", "-h", "127.0.0.1", *login, "-t", "edgeannot/+/+/detections", "-t", "edgeannot/+/status"]
        command = ["nsenter", "-t", str(self.leader), "-a", *words, "-W", str(round(DEADLINE_S))]
        dropped = False
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as listener:
            assert listener.stdout is not None
            for line in listener.stdout:
                message: dict[str, Any] = json.loads(line)
                if "detections" in message and message["image"]["path"] == picture:
                    listener.terminate()
                    return message
                if not dropped:
                    dropped = True
                    self.drop(picture)
        raise AssertionError(f"no message of {picture}: {self.journal()}")


@contextmanager
def booted(*, lent: bool = True, base: str = BASE) -> Iterator[Container]:
    """Boot a container, and end it."""
    with tempfile.TemporaryDirectory(
        prefix="edgeannot-box-", ignore_cleanup_errors=True
    ) as folder:  # not one of pytest's, which keeps the last three
        made = Container(Path(folder), lent=lent, base=base)
        try:
            yield made
        finally:
            made.end()
