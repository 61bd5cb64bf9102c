"""The file of versions and hashes for a fleet: pip takes what it names and nothing else. `make service-test` has the wheels in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeannot_maintain.constraints import constraints, pinned
from tests.surroundings import asked

WHEELS = asked("WHEELS") or ""


def entry(name, digest):
    return {"metadata": {"name": name, "version": "1.0"}, "download_info": {"archive_info": {"hashes": {"sha256": digest}}}}


@pytest.mark.parametrize(
    ("entries", "lines"),
    [([], ""), ([entry("Zoo", "aa"), entry("ark", "bb")], "ark==1.0 --hash=sha256:bb\nzoo==1.0 --hash=sha256:aa\n")],
)
def test_each_package_has_a_line_with_its_hash(entries, lines):
    assert pinned({"install": entries}) == lines


@pytest.mark.service
@pytest.mark.skipif(not WHEELS, reason="there is no folder of wheels: `make service-test` fills it")
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the wheels are for Python 3.11")
def test_pip_takes_the_file_and_refuses_other_bytes(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", WHEELS)
    (wheel,) = Path(WHEELS).glob("edgeannot-*.whl")
    file = tmp_path / "constraints.txt"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--dry-run", "--ignore-installed", "--require-hashes", "-r", str(file)]

    file.write_text(constraints(wheel, "amd64", "3.11"))
    subprocess.run(pip, check=True)
    assert sum("==" in line for line in file.read_text().splitlines()) > 10

    file.write_text("".join(line[:-9] + "00000000\n" if line.startswith("numpy==") else line for line in file.read_text().splitlines(True)))
    told = subprocess.run(pip, capture_output=True, text=True, check=False)
    assert told.returncode != 0
    assert "DO NOT MATCH THE HASHES" in told.stderr
