"""Lines for a person: any name, any terminal, and a stream that nobody reads any more."""

import io
from pathlib import Path

import pytest

from edgeannot.data import Failure
from edgeannot.report import Reporter


def failure(name):
    return Failure("door", name, "truncated", f"{name}: it ends too early", Path("/x") / name)


def test_nothing_done_is_a_line_too():
    stream = io.StringIO()
    Reporter(stream).end()

    assert stream.getvalue().startswith("0 pictures annotated, 0 set aside")


def test_a_file_name_can_neither_make_lines_nor_steer_the_terminal():
    stream = io.StringIO()
    Reporter(stream).failure(failure("a\nb\x1b[31m\u202e.jpg"))

    assert stream.getvalue() == "a\ufffdb\ufffd[31m\ufffd.jpg  truncated: it ends too early\n"


def test_a_terminal_of_few_letters_gets_what_it_can_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", newline="\n")
    Reporter(stream).failure(failure("caf\u00e9.jpg"))

    assert raw.getvalue() == b"caf\\xe9.jpg  truncated: it ends too early\n"


@pytest.mark.parametrize("error", [BrokenPipeError(32, "Broken pipe"), OSError(28, "No space left on device"), ValueError("closed")])
def test_a_stream_that_takes_no_more_is_left_alone(error):
    class Gone(io.StringIO):
        writes = 0

        def write(self, text):
            self.writes += 1
            raise error

    stream = Gone()
    reporter = Reporter(stream)
    reporter.failure(failure("a"))
    reporter.failure(failure("b"))
    reporter.end()

    assert stream.writes == 1
    assert reporter.failed == 2
