"""The recorded boards: what was found of each in public sources, as the kernel would show it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent / "boards"


def names() -> list[str]:
    """The boards, by folder."""
    return sorted(folder.name for folder in FOLDER.iterdir())


def source(name: str) -> dict[str, Any]:
    """A board's title, the grade of its class, and where each fact is from."""
    return tomllib.loads((FOLDER / name / "source.toml").read_text(encoding="utf-8"))


def files(name: str) -> list[str]:
    """The board's files, by their path under /."""
    root = FOLDER / name
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and path.name != "source.toml")
