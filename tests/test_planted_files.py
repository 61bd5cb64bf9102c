"""What somebody else has put into a folder that we write into: a link under a name of ours, a pipe, a folder that is a link.

The victim is a file that the writer may write to, and the one who planted the link may not. Each writer of the program is a row.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from edgeannot.base import atomicfile
from edgeannot.base.atomicfile import write_json
from edgeannot.base.errors import EdgeannotError
from edgeannot.library import modelstore
from edgeannot.sinks.files import OutputFolder
from edgeannot.sources.quarantine import DataQuarantine, move_aside, quarantine
from edgeannot.storage.database import lock_file, open_database
from edgeannot.storage.disk_files import Reserve
from edgeannot_tools.output import write_together, write_whole

KEPT = b"not yours"


def to_output(folder: Path) -> None:
    OutputFolder(folder).write(PurePosixPath("a.txt"), b"x")


def to_quarantine(folder: Path) -> None:
    given = folder.parent / "given.txt"
    given.write_bytes(b"x")
    quarantine(given, Path("a.txt"), folder, reason="r", message="m")


def to_data_quarantine(folder: Path) -> None:
    DataQuarantine(folder, 1 << 20).keep(b"x", Path("a.txt"), reason="r", message="m", origin="o")


def to_done(folder: Path) -> None:
    given = folder.parent / "given.txt"
    given.write_bytes(b"x")
    move_aside(given, Path("a.txt"), folder)


WRITERS: dict[str, Callable[[Path], object]] = {
    "results": to_output,
    "quarantine of files": to_quarantine,
    "quarantine of messages": to_data_quarantine,
    "pictures that are done": to_done,
    "state": lambda folder: write_json(folder / "a.txt", {"schema": 1}),
    "added models": lambda folder: modelstore._write(folder / "a.txt", b"x"),
    "tools": lambda folder: write_whole(folder / "a.txt", b"x"),
    "converted models": lambda folder: write_together({folder / "a.txt": b"x"}),
    "graphs": lambda folder: atomicfile.write(folder / "a.txt", b"x"),
    "reserve": lambda folder: Reserve(folder / "a.txt", 4096).take(),
    "lock": lambda folder: os.close(lock_file(folder / "a.txt")),
    "database": lambda folder: open_database(folder / "a.txt", id).close(),
}


FORETOLD = ("{name}", ".{digest}.tmp", ".{name}.{pid}", ".{name}.{pid}.part", ".{name}.part", ".{name}.tmp", "{name}.reason.txt")
"""The names that a writer could be expected to take on its way."""


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("form", FORETOLD)
def test_a_planted_link_never_has_its_target_written_to(tmp_path: Path, writer: str, form: str):
    planted = form.format(name="a.txt", digest=hashlib.sha256(b"a.txt").hexdigest()[:16], pid=os.getpid())
    victim, folder = tmp_path / "victim", tmp_path / "shared"
    victim.write_bytes(KEPT)
    victim.chmod(0o640)
    folder.mkdir()
    (folder / planted).symlink_to(victim)

    try:
        WRITERS[writer](folder)
    except (OSError, EdgeannotError) as exc:
        assert "link" in str(exc)  # noqa: PT017 - a refusal is as good, where it says why

    assert victim.read_bytes() == KEPT
    assert stat.S_IMODE(victim.stat().st_mode) == 0o640


@pytest.mark.parametrize("name", ["state.lock", "state.sqlite", "state.sqlite-wal", "state.sqlite-shm", "reserve", "measured.json"])
def test_state_is_for_its_owner_only(tmp_path: Path, name: str):
    for old in ("state.lock", "state.sqlite"):  # of a version that was less careful
        (tmp_path / old).touch(0o644)
    os.close(lock_file(tmp_path / "state.lock"))
    database = open_database(tmp_path / "state.sqlite", id)
    Reserve(tmp_path / "reserve", 4096).take()
    write_json(tmp_path / "measured.json", {"schema": 1})

    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    database.close()


@pytest.mark.parametrize("writer", ["results", "quarantine of messages", "pictures that are done"])
def test_a_folder_of_ours_that_is_a_link_is_not_entered(tmp_path: Path, writer: str):
    shared, elsewhere = tmp_path / "shared", tmp_path / "elsewhere"
    shared.mkdir()
    elsewhere.mkdir()
    (shared / "cam").symlink_to(elsewhere)

    _into_subfolder(writer, shared)

    assert list(elsewhere.iterdir()) == []


def _into_subfolder(writer: str, folder: Path) -> None:
    if writer == "results":
        OutputFolder(folder).write(PurePosixPath("cam/a.txt"), b"x")
    elif writer == "quarantine of messages":
        DataQuarantine(folder, 1 << 20).keep(b"x", Path("cam/a.txt"), reason="r", message="m", origin="o")
    else:
        given = folder.parent / "given.txt"
        given.write_bytes(b"x")
        with pytest.raises(OSError, match="is a link"):
            move_aside(given, Path("cam/a.txt"), folder)
        assert given.exists()
