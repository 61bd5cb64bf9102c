"""Builds a Debian package: `python -m edgeannot_maintain.deb`. It holds all that it needs but Python, so it installs without a network.

Everything of Python lies in /opt/edgeannot/lib, from wheels for the target's Python and processor; the package depends on that Python.
Its scripts call `edgeannot service install` and `uninstall`, so that the package and a checkout set up the same service.
The configuration is no conffile, as dpkg would ask about it at each upgrade that changes its comments: `service install` writes it where
there is none.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from edgeannot import __version__

__all__ = ["PLATFORMS", "RUNTIME", "build", "main", "pip_target"]

ROOT = Path(__file__).resolve().parents[2]
LIB = "opt/edgeannot/lib"
PLATFORMS = {
    # Debian's name -> the tags of wheels, newest glibc first; Debian 12 has 2.36, Debian 13 has 2.41
    "amd64": [f"manylinux_2_{minor}_x86_64" for minor in (36, 34, 28, 27, 17)] + ["manylinux2014_x86_64"],
    "arm64": [f"manylinux_2_{minor}_aarch64" for minor in (36, 34, 28, 27, 17)] + ["manylinux2014_aarch64"],
    "armhf": [f"manylinux_2_{minor}_armv7l" for minor in (36, 34, 31, 17)] + ["manylinux2014_armv7l"],
}
# The package index has markers for the machine that pip runs on: the runtime of both processors is named here.
RUNTIME = "ai-edge-litert>=2.1"
# 32-bit Arm has the older runtime, and no wheels of numpy and OpenCV: those are Debian's. The others need nothing but each other.
_32_BIT = [
    "paho-mqtt>=2.1,<3",
    "pydantic>=2.9,<3",
    "pydantic-settings>=2.6,<3",
    "typer>=0.19",
    "inotify-simple>=2.0",
    "imagesize>=2.0",
    "tomli-w>=1.1",
]
_32_BIT_ALONE = "tflite-runtime==2.14.0"

SCRIPT = """\
#!/usr/bin/python3 -I
import sys
sys.path.insert(0, "/opt/edgeannot/lib")
from edgeannot.cli.start import main
main()
"""
CONTROL = """\
Package: edgeannot
Version: {version}
Architecture: {arch}
Maintainer: edgeannot
Section: graphics
Priority: optional
Depends: python3 (>= {python}~), python3 (<< {next}~), passwd{more}
Recommends: systemd
Suggests: mosquitto
Description: annotates pictures on small boards and publishes over MQTT
 Detects objects in the pictures of folders and cameras with quantized networks,
 and publishes labels and boxes. `edgeannot doctor` says what is wrong.
"""
POSTINST = """\
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    python3 -m compileall -q /opt/edgeannot/lib >/dev/null || echo "edgeannot: not compiled; it starts more slowly" >&2
    if [ -d /run/systemd/system ]; then
        edgeannot service install || echo "edgeannot: not started; \\`edgeannot doctor\\` says why" >&2
    else
        edgeannot service install --no-start || echo "edgeannot: \\`edgeannot config check\\` says what is wrong" >&2
        # For an image that is booted later.
        systemctl enable edgeannot.service || echo "edgeannot: not enabled; after the boot: systemctl enable edgeannot" >&2
    fi
fi
"""
PRERM = """\
#!/bin/sh
set -e
if [ "$1" = remove ]; then
    edgeannot service uninstall >/dev/null || echo "edgeannot: the unit is left; remove /etc/systemd/system/edgeannot.service" >&2
elif [ -d /run/systemd/system ]; then
    systemctl stop edgeannot.service || echo "edgeannot: the old version is still running; systemctl restart edgeannot" >&2
fi
if [ -d /opt/edgeannot/lib ]; then find /opt/edgeannot/lib -name __pycache__ -type d -prune -exec rm -rf {} +; fi
"""
POSTRM = """\
#!/bin/sh
set -e
if [ "$1" = purge ]; then
    rm -rf /var/lib/edgeannot /var/lib/private/edgeannot /etc/edgeannot
    if getent passwd edgeannot >/dev/null; then
        userdel edgeannot || echo "edgeannot: the user edgeannot is left; userdel edgeannot removes it" >&2
    fi
fi
"""


def build(out: Path, *, arch: str, python: str, version: str) -> Path:
    """Build the package of a version for a processor and a Python (3.11), and return its file."""
    major, minor = map(int, python.split("."))
    with tempfile.TemporaryDirectory() as work:
        tree = Path(work, "tree")
        _install(tree / LIB, arch, python)
        _write(tree / "opt/edgeannot/bin/edgeannot", SCRIPT, 0o755)
        (tree / "usr/bin").mkdir(parents=True)
        (tree / "usr/bin/edgeannot").symlink_to("/opt/edgeannot/bin/edgeannot")
        doc = tree / "usr/share/doc/edgeannot"
        doc.mkdir(parents=True)
        shutil.copy(ROOT / "LICENSE", doc / "copyright")
        more = ", python3-numpy, python3-opencv" if arch == "armhf" else ""
        version = f"{version}+py{python}"  # a later Debian has a later Python, so its package is the newer one
        control = CONTROL.format(version=version, arch=arch, python=python, next=f"{major}.{minor + 1}", more=more)
        _write(tree / "DEBIAN/control", control, 0o644)
        for name, text in (("postinst", POSTINST), ("prerm", PRERM), ("postrm", POSTRM)):
            _write(tree / "DEBIAN" / name, text, 0o755)
        out.mkdir(parents=True, exist_ok=True)
        file = out / f"edgeannot_{version}_{arch}.deb"
        subprocess.run(["dpkg-deb", "--build", "--root-owner-group", "-Zzstd", str(tree), str(file)], check=True)
        return file


def _install(folder: Path, arch: str, python: str) -> None:
    """Install this checkout and the wheels of what it needs into a folder, for that processor and Python."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder)]
    with tempfile.TemporaryDirectory() as wheels:
        subprocess.run([*pip[:3], "wheel", "-q", "--no-deps", "-w", wheels, str(ROOT)], check=True)
        (wheel,) = Path(wheels).glob("*.whl")
        target = pip_target(arch, python)
        if arch == "armhf":
            subprocess.run([*pip, *target, *_32_BIT], check=True)
            subprocess.run([*pip, *target, "--no-deps", str(wheel), _32_BIT_ALONE], check=True)
        else:
            subprocess.run([*pip, *target, str(wheel), RUNTIME], check=True)


def pip_target(arch: str, python: str) -> list[str]:
    """Return the options with which pip takes wheels for a processor (as Debian names it) and a Python (3.11), not for this machine."""
    platforms = [word for name in PLATFORMS[arch] for word in ("--platform", name)]
    abi = ["--abi", f"cp{python.replace('.', '')}", "--abi", "abi3", "--abi", "none"]
    return [*platforms, "--implementation", "cp", "--python-version", python, *abi, "--only-binary=:all:"]


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def main() -> None:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(prog="edgeannot_maintain.deb", description=__doc__)
    parser.add_argument("--arch", choices=sorted(PLATFORMS), default="amd64")
    parser.add_argument("--python", default="3.11", help="Python of the target: 3.11 for Debian 12, 3.13 for Debian 13")
    parser.add_argument("--version", default=__version__)
    parser.add_argument("--out", type=Path, default=Path("dist"))
    asked = parser.parse_args()
    sys.stdout.write(f"{build(asked.out, arch=asked.arch, python=asked.python, version=asked.version)}\n")


if __name__ == "__main__":
    main()
