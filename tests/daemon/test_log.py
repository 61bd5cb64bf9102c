"""Log lines: one line a message, with the priority that the journal reads."""

import io
import logging

import pytest

from edgeannot.daemon.report import set_up_logging


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
