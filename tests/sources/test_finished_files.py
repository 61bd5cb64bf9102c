"""What becomes of the files of a watched folder, and what of that cannot work, found at the start."""

from __future__ import annotations

import logging

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.base.file_signature import FileSignature
from edgeannot.sources.quarantine import FinishedFiles

pytestmark = pytest.mark.usefixtures("bound_by_permissions")


@pytest.fixture
def inbox(tmp_path, monkeypatch):
    """A folder that may be read but not written to, watched by a service."""
    monkeypatch.setenv("INVOCATION_ID", "0" * 32)
    folder = tmp_path / "inbox"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x")
    folder.chmod(0o500)
    yield folder
    if folder.is_dir():
        folder.chmod(0o700)


def test_a_folder_that_is_not_there_yet_is_not_judged(tmp_path):
    FinishedFiles("sources.inbox", tmp_path / "none", "delete", None, None).check()


def test_what_may_be_written_to_is_fine(tmp_path, caplog):
    FinishedFiles("sources.inbox", tmp_path, "move", tmp_path / "done", tmp_path / "quarantine").check()

    assert caplog.text == ""


@pytest.mark.parametrize("after", ["delete", "move"])
def test_pictures_that_could_not_leave_the_folder_are_no_surprise_later(inbox, tmp_path, after):
    target = tmp_path / "done" if after == "move" else None
    with pytest.raises(ConfigError) as caught:
        FinishedFiles("sources.inbox", inbox, after, target, None).check()

    said = str(caught.value)
    assert said.startswith(f'sources.inbox: after = "{after}", but the folder {inbox} cannot be written to, so ')
    assert f"u:edgeannot:rwx {inbox}`" in said


def test_nor_are_those_that_could_not_get_to_where_they_are_to_go(inbox, tmp_path):
    (tmp_path / "source").mkdir()
    with pytest.raises(ConfigError, match=f"u:edgeannot:rwx {inbox}`"):
        FinishedFiles("sources.inbox", tmp_path / "source", "move", inbox, None).check()


def test_a_medium_that_is_not_there_yet_is_only_warned_of(inbox, tmp_path, caplog):
    (tmp_path / "source").mkdir()
    FinishedFiles("sources.inbox", tmp_path / "source", "move", inbox / "medium", None).check()

    assert f"make {inbox / 'medium'}, let the service's user write there" in caplog.text


def test_that_damaged_pictures_stay_is_warned_of_and_no_reason_to_stop(inbox, tmp_path, caplog):
    FinishedFiles("sources.inbox", inbox, "keep", None, tmp_path / "quarantine").check()

    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "a damaged picture is copied to quarantine and stays there, too" in record.getMessage()
    assert f"u:edgeannot:rwx {inbox}`" in record.getMessage()
    assert record.getMessage().endswith('or set quarantine = "leave"')


def test_where_all_is_kept_and_left_nothing_has_to_be_written(inbox, caplog):
    FinishedFiles("sources.inbox", inbox, "keep", None, None).check()

    assert caplog.text == ""


def test_rights_that_are_lost_later_are_said_once_with_what_to_do(inbox, caplog):
    path = inbox / "a.jpg"
    signature = FileSignature.of(path.stat())
    afterwards = FinishedFiles("sources.inbox", inbox, "delete", None, None)
    for _ in range(3):
        afterwards.clear_away(path, signature)

    assert caplog.text.count("u:edgeannot:rwx") == 1
    assert path.exists()
    inbox.chmod(0o700)
    afterwards.clear_away(path, signature)

    assert not path.exists()
