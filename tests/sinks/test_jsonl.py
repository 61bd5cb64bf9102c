"""JSON lines: whole lines, bounded files."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.sinks.jsonl import JsonlOptions, JsonlSink


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_nothing_written_is_an_empty_file(context):
    JsonlSink(JsonlOptions(), context).close()

    assert (context.out_dir / "annotations.jsonl").read_bytes() == b""


def test_each_result_is_a_line_and_a_restart_goes_on(annotate, context):
    for name in ("a.jpg", "b.jpg"):
        sink = JsonlSink(JsonlOptions(fsync_s=0), context)
        sink.write(annotate(("cat", 15, 0.9, (0, 0, 10, 10)), name=name))
        sink.close()

    lines = read(context.out_dir / "annotations.jsonl")
    assert [line["image"]["width"] for line in lines] == [200, 200]
    assert len({line["id"] for line in lines}) == 2


def test_half_a_line_that_a_power_cut_left_is_removed(annotate, context):
    path = context.out_dir / "annotations.jsonl"
    path.parent.mkdir()
    path.write_bytes(b'{"whole": 1}\n{"half": "' + b"x" * 100_000)

    sink = JsonlSink(JsonlOptions(), context)
    sink.write(annotate())
    sink.close()

    assert [line.get("whole") for line in read(path)] == [1, None]


def test_a_file_that_is_full_is_renamed_and_only_some_are_kept(annotate, context):
    path = context.out_dir / "annotations.jsonl"
    path.parent.mkdir()
    sink = JsonlSink(JsonlOptions(max_mb=1, keep=2), context)
    rows = [("cat", 15, 0.9, (0, 0, 10, 10))] * 2000
    for number in range(8):
        sink.write(annotate(*rows, seq=number))
    sink.close()

    newest = [read(path.with_name(name))[-1]["seq"] for name in ("annotations.jsonl", "annotations.jsonl.1", "annotations.jsonl.2")]
    assert newest == sorted(newest, reverse=True)
    assert newest[0] == 7
    assert not path.with_name("annotations.jsonl.3").exists()
    assert all(path.with_name(name).stat().st_size <= 2**20 for name in ("annotations.jsonl", "annotations.jsonl.1"))


def test_a_full_disk_costs_the_line_and_is_said_once(annotate, context, caplog):
    sink = JsonlSink(JsonlOptions(min_free_mb=10**9), context)

    sink.write(annotate())
    sink.write(annotate())
    sink.close()

    assert (context.out_dir / "annotations.jsonl").read_bytes() == b""
    assert len(caplog.records) == 1


@pytest.mark.parametrize("how", ["removed", "renamed", "its folder removed"])
def test_a_file_that_somebody_took_away_is_begun_anew(annotate, context, how):
    path = context.out_dir / "annotations.jsonl"
    sink = JsonlSink(JsonlOptions(), context)
    sink.write(annotate(seq=1))
    if how == "removed":
        path.unlink()
    elif how == "renamed":
        path.rename(path.with_name("taken.jsonl"))
    else:
        shutil.rmtree(context.out_dir)
    sink.write(annotate(seq=2))
    sink.close()

    assert [line["seq"] for line in read(path)] == [2]


def test_a_file_that_cannot_be_begun_anew_now_is_begun_later(annotate, context, caplog):
    path = context.out_dir / "annotations.jsonl"
    sink = JsonlSink(JsonlOptions(), context)
    path.unlink()
    path.mkdir()
    sink.write(annotate(seq=1))
    sink.write(annotate(seq=2))
    path.rmdir()
    sink.write(annotate(seq=3))
    sink.close()

    assert [line["seq"] for line in read(path)] == [3]
    assert len(caplog.records) == 2


def test_lines_are_not_appended_to_what_a_link_points_to(context, tmp_path):
    (tmp_path / "victim").write_bytes(b"not yours")
    context.out_dir.mkdir()
    (context.out_dir / "annotations.jsonl").symlink_to(tmp_path / "victim")

    with pytest.raises(ConfigError, match="is a link"):
        JsonlSink(JsonlOptions(), context)
    assert (tmp_path / "victim").read_bytes() == b"not yours"


@pytest.mark.timeout(150)
def test_a_pipe_under_the_name_of_the_file_is_refused_and_not_waited_for(context):
    context.out_dir.mkdir()
    os.mkfifo(context.out_dir / "annotations.jsonl")

    with pytest.raises(ConfigError, match="no regular file"):
        JsonlSink(JsonlOptions(), context)


def test_a_link_that_takes_the_place_of_the_file_meanwhile_is_not_followed(annotate, context, tmp_path, caplog):
    (tmp_path / "victim").write_bytes(b"not yours")
    sink = JsonlSink(JsonlOptions(), context)
    (context.out_dir / "annotations.jsonl").unlink()
    (context.out_dir / "annotations.jsonl").symlink_to(tmp_path / "victim")

    sink.write(annotate())
    sink.close()

    assert (tmp_path / "victim").read_bytes() == b"not yours"
    assert "is a link" in caplog.text
