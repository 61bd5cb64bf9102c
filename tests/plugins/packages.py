"""Packages that add kinds, written and installed for a test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.patience import DEADLINE_S

PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "1.0"

[tool.hatch.build.targets.wheel]
packages = ["{module}"]
"""

HEAD_PARTS = """\
    @property
    def score_outputs(self):
        return (self.output,)

    @property
    def suppress(self):
        return False

    def check(self, outputs, input_wh):
        return None
"""
"""What every head of a test has."""


def write_package(folder: Path, name: str, code: dict[str, str], kinds: dict[str, dict[str, str]]) -> Path:
    """A package as its author has it. code: of its modules. kinds: group (heads, sources, sinks) -> name -> MODULE:OBJECT."""
    module = name.replace("-", "_")
    package = folder / name / module
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    for file, text in code.items():
        (package / f"{file}.py").write_text(text)
    text = PYPROJECT.format(name=name, module=module)
    for group, targets in kinds.items():
        text += f'\n[project.entry-points."edgeannot.{group}"]\n' + "".join(f'{k} = "{module}.{v}"\n' for k, v in targets.items())
    (package.parent / "pyproject.toml").write_text(text)
    return package.parent


def install(package: Path, site: Path) -> None:
    """Install it as a user does, into a folder of its own, without a network."""
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target", str(site)]
    command = [sys.executable, "-m", "pip", *words, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
