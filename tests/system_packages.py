"""Debian packages that the tests use: `python3 -m tests.system_packages` installs what is missing, as root on Debian and its kin.

Needs the standard library only, as it runs before there is an environment. Elsewhere it says in one line what is missing, and ends with
0 even so: the tests that want it are skipped, which `make test` says at its end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["NEEDED", "Needed", "main"]

LIBRARIES = ("/usr/lib", "/usr/lib/*", "/usr/lib64", "/usr/local/lib")
PROGRAMS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Needed:
    """One package, and how to see that what it brings is here, whoever installed it."""

    package: str
    program: str = ""
    """On the path, or in a folder for root's programs."""
    file: str = ""
    """A pattern below a folder of libraries."""

    def is_here(self) -> bool:
        """Whether nothing need be installed."""
        if self.program:
            return shutil.which(self.program, path=PROGRAMS) is not None
        return any(next(Path("/").glob(f"{folder}/{self.file}".lstrip("/")), None) for folder in LIBRARIES)


NEEDED = (
    Needed("mosquitto", program="mosquitto"),
    Needed("mosquitto-clients", program="mosquitto_pub"),  # the commands of the pages
    Needed("openssl", program="openssl"),  # certificates of the tests' own
    Needed("iproute2", program="ip"),  # network namespaces
    Needed("systemd", program="systemd-analyze"),  # what systemd says of the unit
    Needed("libfaketime", file="faketime/libfaketimeMT.so.1"),  # a clock that jumps
    # A camera that speaks RTSP: GStreamer's server, and the plugins that make its picture, encode it and send it.
    Needed("python3-gi", file="python3/dist-packages/gi/__init__.py"),
    Needed("gir1.2-gst-rtsp-server-1.0", file="girepository-1.0/GstRtspServer-1.0.typelib"),
    Needed("gstreamer1.0-plugins-base", file="gstreamer-1.0/libgstvideotestsrc.so"),
    Needed("gstreamer1.0-plugins-good", file="gstreamer-1.0/libgstrtp.so"),
    Needed("gstreamer1.0-plugins-ugly", file="gstreamer-1.0/libgstx264.so"),
)


def main(needed: Sequence[Needed] = NEEDED) -> int:
    """Install what is not here, in one go; gives the exit code, 0 whatever comes of it."""
    packages = [wanted.package for wanted in needed if not wanted.is_here()]
    if not packages:
        return 0
    reason = install(packages)
    missing = [wanted.package for wanted in needed if not wanted.is_here()]
    if missing:
        why = reason or "its packages hold them elsewhere"
        sys.stderr.write(f"Missing, and tests that need them are skipped: {' '.join(missing)} ({why}).\n")
    return 0


def install(packages: Sequence[str]) -> str:
    """Why they could not be installed; empty when they were."""
    apt_get = shutil.which("apt-get", path=PROGRAMS)
    if apt_get is None:
        return "these are Debian's names; there is no apt-get here"
    if os.geteuid() != 0:
        return f"only root can install them: apt-get install {' '.join(packages)}"
    sys.stderr.write(f"Installing {' '.join(packages)}\n")
    apt = [apt_get, "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    for step in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        done = subprocess.run([*apt, *step], env=environment, capture_output=True, text=True, errors="replace", check=False)
    said = [line for line in done.stderr.splitlines() if line.startswith("E: ")]
    return "" if done.returncode == 0 else f"apt-get: {said[0][3:] if said else f'exit code {done.returncode}'}"


if __name__ == "__main__":
    sys.exit(main())
