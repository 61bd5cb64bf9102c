"""Pictures and clips of events: their names, what is kept over a restart, and the bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import cv2
import numpy as np
import pytest

from edgeannot.sinks.events import EventsOptions, EventsSink, avi
from edgeannot.vision.draw import jpeg
from edgeannot.vision.news import Event, News, Picture

BEGAN_S = 1782864000.0  # 2026-07-01T00:00:00Z


def event(kind="appeared", track=7, gray=0, at_s=BEGAN_S + 1, **more):
    picture = Picture(np.full((30, 40, 3), gray, np.uint8), 1.0)
    return Event(kind, track, 0, "dog", 0.9, np.zeros(4, np.float32), (1, 1), at_s, BEGAN_S, picture=picture, **more)


@pytest.fixture
def sink(context):
    return lambda **options: EventsSink(EventsOptions(min_free_mb=0, **options), context)


def files(context):
    return sorted(path.relative_to(context.out_dir / "events").as_posix() for path in (context.out_dir / "events").rglob("*.*"))


def gray(context, name="yard/2026-07-01/7.jpg"):
    return int(cv2.imread(str(context.out_dir / "events" / name))[0, 0, 0])


def test_news_without_events_write_nothing(sink, context):
    assert sink().tell(News("yard", (), None)) == ()
    assert files(context) == []


def test_the_picture_of_an_object_has_its_number_and_is_replaced_when_it_has_left(sink, context):
    events = sink()
    for kind, value in (("appeared", 50), ("left", 200)):
        events.tell(News("yard", (event(kind, gray=value),), None))

    assert files(context) == ["yard/2026-07-01/7.jpg"]
    assert abs(gray(context) - 200) < 3


def test_an_object_of_an_earlier_run_keeps_the_picture_that_it_has(sink, context):
    sink().tell(News("yard", (event(gray=50),), None))
    sink().tell(News("yard", (event("left", gray=200, resumed=True),), None))

    assert abs(gray(context) - 50) < 3


def test_the_oldest_files_go_when_there_are_too_many_also_those_of_an_earlier_run(sink, context):
    sink().tell(News("yard", tuple(event(track=track) for track in (1, 2)), None))
    sink(max_files=3).tell(News("yard", tuple(event(track=track) for track in (3, 4)), None))

    assert len(files(context)) == 3
    assert "yard/2026-07-01/4.jpg" in files(context)


def test_on_a_full_disk_nothing_is_written_and_nothing_else_is_lost(sink, context, monkeypatch):
    events = sink()
    monkeypatch.setattr("edgeannot.sinks.files.OutputFolder.has_room", lambda self, size: False)

    assert events.tell(News("yard", (event(),), None)) == ()
    assert files(context) == []
    assert events.folders()[0].unwritten == 1


def test_a_clip_has_the_pictures_round_the_moment(sink, context, annotate):
    events = sink(clip_s=1.0)
    begin = annotate(source="yard")
    for number in range(30):
        frame = replace(begin.frame, captured_at=begin.frame.captured_at + timedelta(seconds=number / 5))
        if number == 10:
            events.tell(News("yard", (event(at_s=frame.moment_s),), None))
        events.write(replace(begin, frame=frame))

    video = cv2.VideoCapture(str(context.out_dir / "events/yard/2026-07-01/7.avi"))
    shapes = [image.shape for fine, image in iter(video.read, (False, None)) if fine]
    assert shapes == [(100, 200, 3)] * 11
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(5.0, abs=0.01)
    assert len(events._rings["yard"].frames) <= 17, "the ring is bounded"


def test_a_clip_that_waits_for_pictures_is_written_at_the_end(sink, context, annotate):
    events = sink(clip_s=5.0)
    made = annotate(source="yard")
    events.tell(News("yard", (event(at_s=made.frame.moment_s),), None))
    events.write(made)
    events.close()

    assert "yard/2026-07-01/7.avi" in files(context)


def test_a_video_gives_back_its_pictures(tmp_path):
    images = [np.full((48, 64, 3), value, np.uint8) for value in (10, 100, 200)]
    (tmp_path / "x.avi").write_bytes(avi([jpeg(image) for image in images], (64, 48), 12.5))

    video = cv2.VideoCapture(str(tmp_path / "x.avi"))
    shown = [image for fine, image in iter(video.read, (False, None)) if fine]
    assert [round(float(image.mean()) / 10) for image in shown] == [1, 10, 20]
