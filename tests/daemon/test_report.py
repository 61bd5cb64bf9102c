"""Lines for a person: any name, any terminal, and a stream that nobody reads any more."""

import io
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeannot.daemon.monitoring.report import Reporter, summary_of
from edgeannot.vision.data import Annotation, Detections, Failure, Frame, ModelFacts


def failure(name):
    return Failure("door", name, "truncated", f"{name}: it ends too early", Path("/x") / name)


def test_nothing_done_is_a_line_too():
    stream = io.StringIO()
    Reporter(stream).end()

    assert stream.getvalue().startswith("0 pictures annotated, in ")


def test_what_was_not_annotated_is_counted_where_there_was_any():
    terminal = Terminal()
    reporter = Reporter(terminal)
    reporter.progress(3)
    reporter.failure(failure("a.jpg"))
    reporter.progress(2)
    reporter.end()
    shown = terminal.getvalue()

    assert "0 annotated, 3 waiting, 0.0 a second" in shown
    assert "0 annotated, 1 not annotated, 2 waiting" in shown
    assert "0 pictures annotated, 1 not annotated, in " in shown


def test_progress_of_a_run_that_ends_has_a_total():
    terminal = Terminal()
    reporter = Reporter(terminal, once=True)

    reporter.progress(0)
    reporter.progress(3)
    reporter.failure(failure("a.jpg"))
    reporter.progress(0)  # two are on their way through the model

    assert [part.strip() for part in terminal.getvalue().split("\r")][1:3] == ["0/0, 0.0 a second", "0/3, 0.0 a second"]
    assert terminal.getvalue().rstrip().endswith("1/3, 1 not annotated, 0.0 a second")


def test_a_file_name_can_neither_make_lines_nor_steer_the_terminal():
    stream = io.StringIO()
    Reporter(stream).failure(failure("a\nb\x1b[31m\u202e.jpg"))

    assert stream.getvalue() == "a\ufffdb\ufffd[31m\ufffd.jpg  truncated: it ends too early\n"


def test_a_terminal_of_few_letters_gets_what_it_can_show():
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", newline="\n")
    Reporter(stream).failure(failure("caf\u00e9.jpg"))

    assert raw.getvalue() == b"caf\\xe9.jpg  truncated: it ends too early\n"


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "nothing"),
        ([("person", 0.8)], "person 0.80"),
        ([("person", 0.8), ("person", 0.69)], "person 0.80..0.69 x2"),
        ([("person", 0.41), ("dog", 0.71), ("person", 0.93), ("person", 0.5)], "person 0.93..0.41 x3, dog 0.71"),
        ([("person", 0.801), ("person", 0.799)], "person 0.80 x2"),
    ],
)
def test_a_line_says_how_sure_the_least_sure_of_several_is(found, says):
    count = len(found)
    scores = np.array([score for _, score in found], np.float32)
    frame = Frame(np.zeros((8, 8, 3), np.uint8), "s", 0, datetime(2026, 7, 1, tzinfo=UTC), "1")
    detections = Detections(np.zeros((count, 4), np.float32), scores, np.zeros(count, np.int64))

    assert summary_of(Annotation(frame, detections, tuple(label for label, _ in found), ModelFacts("m", "0" * 64, "yolo", "low"))) == says


class Terminal(io.StringIO):
    def isatty(self):
        return True


def video_frame(number, *labels):
    found = Detections(np.zeros((len(labels), 4), np.float32), np.full(len(labels), 0.5, np.float32), np.zeros(len(labels), np.int64))
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    frame = Frame(np.zeros((8, 8, 3), np.uint8), "camera", number, moment, f"{number}", Path("/x/clip.mp4"), name=f"clip/{number:06d}.jpg")
    return Annotation(frame, found, labels, ModelFacts("m", "0" * 64, "yolo", "low"))


@pytest.mark.parametrize(("stream", "numbers"), [(Terminal, [0, 2, 4]), (io.StringIO, [0, 1, 2, 3, 4])])
def test_of_a_video_a_terminal_shows_what_changes_and_a_file_gets_every_frame(stream, numbers):
    made = stream()
    reporter = Reporter(made)
    for number, labels in enumerate([(), (), ("cat",), ("cat",), ("cat", "dog")]):
        reporter.picture(video_frame(number, *labels))

    assert [int(line.split("/")[1][:6]) for line in made.getvalue().splitlines()] == numbers
    assert reporter.annotated == 5


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
