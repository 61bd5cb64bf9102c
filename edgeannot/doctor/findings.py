"""What a check gets and gives: the surroundings it looks at, and findings with what to do."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeannot.base.systemd import Unit, is_read_only

if TYPE_CHECKING:
    from edgeannot.settings import Settings

__all__ = ["ASK_ROOT", "Check", "Examined", "Finding", "Who", "fine", "nearest", "problem", "warning"]

Level = Literal["ok", "warning", "problem"]

ASK_ROOT = "cannot be checked without root: `sudo edgeannot doctor`"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, what was found, what to do."""

    code: str
    """A stable word for programs and bundles, such as broker-dns; it never holds anything of the user's."""
    level: Level
    checked: str
    found: str
    advice: str = ""


def fine(code: str, checked: str, found: str) -> Finding:
    """Return a finding with which there is nothing to do."""
    return Finding(code, "ok", checked, found)


def warning(code: str, checked: str, found: str, advice: str) -> Finding:
    """Return a finding with which edgeannot works, but not as well as it could."""
    return Finding(code, "warning", checked, found, advice)


def problem(code: str, checked: str, found: str, advice: str) -> Finding:
    """Return a finding with which something does not work."""
    return Finding(code, "problem", checked, found, advice)


@dataclass(frozen=True, slots=True)
class Who:
    """The user that annotates: of the service, or the one that asks."""

    name: str
    uid: int | None = None
    """None: this process's own user."""
    gid: int = 0
    groups: tuple[int, ...] = ()

    def may(self, path: Path, *rights: Literal["r", "w", "x"]) -> bool:
        """Tell whether the user has all these rights to a file or folder, by its modes and lists."""
        if self.uid is None:
            return all(os.access(path, {"r": os.R_OK, "w": os.W_OK, "x": os.X_OK}[right]) for right in rights)
        test = shutil.which("test") or "/usr/bin/test"
        return all(
            subprocess.run([test, f"-{right}", str(path)], **self.identity(), cwd="/", timeout=5, check=False).returncode == 0
            for right in rights
        )

    def identity(self) -> dict[str, Any]:
        """Return as whom `subprocess.run` is to start a program; empty for this process's own user."""
        return {} if self.uid is None else {"user": self.uid, "group": self.gid, "extra_groups": self.groups}


@dataclass(frozen=True)
class Examined:
    """What checks look at. The fields after `settings` are this machine's, and others in tests."""

    settings: Settings | None
    """None where they cannot be read, which a check says."""
    config_file: Path | None = None
    who: Who = field(default_factory=lambda: Who("this user"))
    installed: bool = False
    """Whether the service of the system is."""
    unit: Unit = field(default_factory=Unit)
    """The service that has these settings, installed or not."""
    root: Path = Path("/")
    """Where /proc and /sys are looked for."""
    now: Callable[[], float] = time.time
    version_of: Callable[[str], str] | None = None
    """Version of an installed package, "" where there is none; None: as Python tells."""
    free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free
    read_only: Callable[[Path], bool] = is_read_only
    """Whether a folder is mounted so."""

    def only_root_can_tell(self, path: Path | None) -> bool:
        """Tell whether a file that the settings name is the service's alone, so that it is neither there nor missing for this user."""
        if path is None or not self.installed or self.who.uid is not None:
            return False
        try:
            there = stat.S_ISREG(path.stat().st_mode)
        except PermissionError:
            return True
        except OSError:
            return len(path.parts) == 1  # a credential
        return there and not self.who.may(path, "r")


@dataclass(frozen=True, slots=True)
class Check:
    """One check by name, with its time."""

    name: str
    run: Callable[[Examined], Iterator[Finding]]
    within_s: float


def nearest(path: Path) -> Path:
    """Return the path, or the nearest folder above it that is there."""
    return next(place for place in (path, *path.absolute().parents) if os.path.lexists(place) or place == place.parent)
