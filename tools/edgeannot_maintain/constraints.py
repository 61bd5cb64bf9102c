"""Writes a file of exact versions and hashes for a fleet: `python -m edgeannot_maintain.constraints`, beside the wheel that it names.

`pip install --require-hashes --find-links . -r FILE` then installs the same bytes on each machine of that processor and Python, or nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeannot_maintain.deb import ROOT, RUNTIME, pip_target

__all__ = ["constraints", "main", "pinned"]


def constraints(wheel: Path, arch: str, python: str) -> str:
    """Resolve what a wheel needs for a processor and a Python (3.11), as pip would now, and return the file's text."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--dry-run", "--ignore-installed", "--report", "-"]
    with tempfile.TemporaryDirectory() as nowhere:
        words = [*pip, "--target", nowhere, *pip_target(arch, python), str(wheel), RUNTIME]
        report = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return f"# {wheel.name} for Python {python} on {arch}: pip install --require-hashes --find-links . -r THIS_FILE\n" + pinned(report)


def pinned(report: Mapping[str, Any]) -> str:
    """Return a line for each package of a report of pip (pip.pypa.io, "Installation Report"): name, version and the wheel's hash."""
    lines = []
    for entry in report["install"]:
        facts, hashes = entry["metadata"], entry["download_info"]["archive_info"]["hashes"]
        lines.append(f"{facts['name'].lower()}=={facts['version']} --hash=sha256:{hashes['sha256']}\n")
    return "".join(sorted(lines))


def main() -> None:
    """Read the command line, build the wheel and write the file beside it."""
    parser = argparse.ArgumentParser(prog="edgeannot_maintain.constraints", description=__doc__)
    parser.add_argument("--arch", choices=["amd64", "arm64"], default="amd64")
    parser.add_argument("--python", default="3.11", help="Python of the machines")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as built:
        subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", built, str(ROOT)], check=True)
        (new,) = Path(built).glob("*.whl")
        asked.out.mkdir(parents=True, exist_ok=True)
        wheel = asked.out / new.name
        wheel.write_bytes(new.read_bytes())
    file = asked.out / f"constraints-{asked.python}-{asked.arch}.txt"
    file.write_text(constraints(wheel, asked.arch, asked.python), encoding="utf-8")
    sys.stdout.write(f"{wheel}\n{file}\n")


if __name__ == "__main__":
    main()
