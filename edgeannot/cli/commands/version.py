"""`edgeannot version`: the program and what it stands on, without loading any of it."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator

from edgeannot import __version__
from edgeannot.base.runtimes import RUNTIMES, installed_runtimes
from edgeannot.probe.board import runtime_version

__all__ = ["versions"]

_PACKAGES = ("numpy", "opencv-python-headless", "simplejpeg", "paho-mqtt", "pydantic", "pi-heif", "prometheus-client")


def versions() -> Iterator[tuple[str, str]]:
    """Yield name and version: edgeannot, each runtime, Python, the packages that are there, and the system."""
    from importlib import metadata

    yield "edgeannot", __version__
    here = installed_runtimes()
    for runtime in RUNTIMES:
        yield runtime, (runtime_version(runtime) or "unknown") if runtime in here else "not installed"
    yield "Python", f"{platform.python_version()} ({sys.executable})"
    for name in _PACKAGES:
        try:
            yield name, metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver()) or 'libc unknown'}"
