"""Log lines: one line a message, with the priority that the journal reads."""

import io
import json
import logging
import socket

import pytest

from edgeannot.daemon.monitoring.logs import set_up_logging


@pytest.fixture
def log_to():
    """Set logging up on a stream of the test's own."""

    def begin(level, *, journal):
        stream = io.StringIO()
        set_up_logging(level, journal=journal, stream=stream)
        return stream

    return begin


def test_below_the_level_nothing_is_said(log_to):
    stream = log_to("warning", journal=False)
    logging.getLogger("edgeannot.x").info("quiet")

    assert stream.getvalue() == ""


def test_the_journal_gets_priorities_instead_of_times(log_to):
    stream = log_to("info", journal=True)
    logging.getLogger("edgeannot.x").warning("away")

    assert stream.getvalue() == "<4>edgeannot.x: away\n"


@pytest.mark.parametrize("journal", [False, True])
def test_a_file_name_can_neither_make_lines_nor_steer_the_terminal(log_to, journal):
    stream = log_to("info", journal=journal)
    logging.getLogger("edgeannot.x").warning("%s is gone", "a\n<0>b\x1b[31m\udcff.jpg")

    assert stream.getvalue().count("\n") == 1
    assert stream.getvalue().endswith("a\ufffd<0>b\ufffd[31m\ufffd.jpg is gone\n")


def test_a_traceback_keeps_its_lines(log_to):
    stream = log_to("info", journal=False)
    try:
        1 / 0  # noqa: B018
    except ZeroDivisionError:
        logging.getLogger("edgeannot.x").exception("broken")

    assert stream.getvalue().splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert len(stream.getvalue().splitlines()) > 2


@pytest.mark.parametrize("journal", [False, True])
def test_an_error_in_a_traceback_can_neither_steer_the_terminal_nor_forge_a_priority(log_to, journal):
    stream = log_to("info", journal=journal)
    try:
        raise ValueError("a\n<0>b\x1b[31m\udcff")  # noqa: TRY301
    except ValueError:
        logging.getLogger("edgeannot.x").exception("broken")

    assert stream.getvalue().replace("\n", "").isprintable()
    assert not [line for line in stream.getvalue().splitlines()[1:] if line.startswith("<")]


def test_as_json_a_line_is_an_object_with_its_fields():
    stream = io.StringIO()
    set_up_logging("info", journal=False, as_json=True, stream=stream)
    logging.getLogger("edgeannot.x").warning("%s is gone", "a\n.jpg", extra={"fields": {"pictures": 3}})

    line = json.loads(stream.getvalue())
    assert stream.getvalue().count("\n") == 1
    assert line.pop("time").endswith("Z")
    assert line == {"level": "warning", "logger": "edgeannot.x", "message": "a\ufffd.jpg is gone", "pictures": 3}


def test_the_journal_gets_levels_and_fields_by_its_own_protocol(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        set_up_logging("info", journal=True, stream=io.StringIO(), journal_socket=tmp_path / "journal")
        logging.getLogger("edgeannot.x").error("disk full", extra={"fields": {"pictures": 3}})

        lines = journal.recv(65536).decode().splitlines()
    assert {"MESSAGE=edgeannot.x: disk full", "PRIORITY=3", "LOGGER=edgeannot.x", "EDGEANNOT_PICTURES=3"} <= set(lines)


def test_without_a_journal_the_line_goes_to_the_stream(tmp_path):
    stream = io.StringIO()
    set_up_logging("info", journal=True, stream=stream, journal_socket=tmp_path / "none")
    logging.getLogger("edgeannot.x").error("disk full")

    assert stream.getvalue() == "<3>edgeannot.x: disk full\n"
