"""What is wrong with settings: everything at once, unknown names first, each with its line, and in our words."""

import datetime

import pytest
from pydantic import ValidationError

from edgeannot.base.errors import ConfigError
from edgeannot.settings import find_problems, load_settings
from edgeannot.settings.described import sections
from edgeannot.settings.problems import Where, problems_of
from edgeannot.settings.tree import Settings
from edgeannot.sources import SOURCES


def said(path):
    return [str(problem).replace(str(path), "FILE") for problem in find_problems({}, path)]


def test_nothing_is_wrong_with_nothing(file):
    assert find_problems({}, None) == []
    assert find_problems({}, file("")) == []


def test_all_mistakes_are_named_at_once_unknown_names_first(file):
    path = file(
        'min_score = 3\nthreads = "2"\ndevic = "porch"\n[sources.front]\nkind = "camera"\nurl = "rtsp://c"\nwidth = 4\n'
        '[sources.door]\nkind = "telescope"\n[sinks.image]\nenabled = true\n[sinks.mqtt]\nqos = 7\nkeepalive_s = 1\n'
        '[sinks.labels]\nformats = ["yolo", "svg"]\n'
    )

    assert said(path) == [
        "devic: unknown setting; did you mean device? (FILE, line 3)",
        "sinks.image: unknown setting; did you mean images? (FILE, line 10)",
        "min_score: wanted a number of 1 or less, found 3 (FILE, line 1)",
        "threads: wanted a whole number, found '2' (FILE, line 2)",
        "sources.front: width is for a device, and rtsp://c is a stream (FILE, line 4)",
        f"sources.door: wanted a source out of {SOURCES.wanted}, or one that an installed package adds; found 'telescope' (FILE, line 8)",
        "sinks.mqtt.qos: wanted a number of 2 or less, found 7 (FILE, line 13)",
        "sinks.mqtt.keepalive_s: wanted a number of 2 or more, found 1 (FILE, line 14)",
        'sinks.labels.formats.1: wanted "yolo", "voc" or "coco", found \'svg\' (FILE, line 16)',
    ]


def test_a_name_that_other_programs_use_is_answered_with_ours_and_not_with_what_is_missing(file):
    assert said(file('[sources.front]\nkind = "camera"\ndevice = "/dev/video0"')) == [
        'sources.front.device: unknown setting; did you mean url = "/dev/video0"? (FILE, line 3)'
    ]
    assert said(file('[sources.front]\nkind = "camera"\nthing = "/dev/video0"')) == [
        'sources.front.thing: unknown setting; wanted url, which is missing: url = "/dev/video0" (FILE, line 3)'
    ]


def test_a_setting_in_the_wrong_section_is_sent_to_its_own(file):
    assert said(file("qos = 1")) == ["qos: unknown setting; it belongs into [sinks.mqtt] (FILE, line 1)"]


def test_what_follows_from_a_mistake_is_not_told_as_another(file):
    """With a wrong `after` the folder to move to would seem to be one too many."""
    assert said(file('[sources.a]\nkind = "directory"\npath = "/a"\nafter = "mov"\nafter_folder = "/b"')) == [
        'sources.a.after: wanted "keep", "move" or "delete", found \'mov\' (FILE, line 4)'
    ]


def test_a_run_names_the_first_and_how_many_there_are(file):
    with pytest.raises(ConfigError, match=r"^thread: .*line 2\); and 2 more: `edgeannot config check` names all$"):
        load_settings({}, file("min_score = 3\nthread = 1\niou = 2"), grade=lambda: ("low", ""))


def test_a_mistake_of_the_environment_has_its_variable_and_no_line(file, monkeypatch):
    monkeypatch.setenv("EDGEANNOT_MODLE", "x")
    monkeypatch.setenv("EDGEANNOT_SOURCES", "porch")
    monkeypatch.setenv("EDGEANNOT_SINKS__LABELS__FORMATS", "svg")
    monkeypatch.setenv("EDGEANNOT_MIN_SCORE", "3")

    found = said(file("iou = 2"))

    assert found[0] == "modle: unknown setting (environment variable EDGEANNOT_MODLE)"
    assert "min_score: wanted a number of 1 or less, found '3' (environment)" in found
    assert len(found) == 5


def test_a_secret_in_an_unknown_setting_is_not_repeated(file):
    (one,) = said(file('[sources.c]\nkind = "camera"\naddress = "rtsp://bob:hunter2@cam/x"'))
    assert "hunter2" not in one
    (two,) = said(file('[sinks.mqtt]\nusername = "bob"\npassword = "hunter2"'))
    assert "hunter2" not in two


@pytest.mark.parametrize("level", ["DEBUG", "Info", "warning"])
def test_a_log_level_may_be_written_in_capitals(file, level):
    path = file(f'log_level = "{level}"')

    assert find_problems({}, path) == []
    assert load_settings({}, path, grade=lambda: ("low", "")).settings.log_level == level.lower()


NEED = {"directory": {"path": "/p"}, "camera": {"url": "/dev/video0"}, "files": {"paths": ["/p"]}, "mqtt": {}}
VALUES = ["", "x", -1, 2**70, float("nan"), True, [], [1], {"x": 1}, datetime.date(1979, 5, 27)]


def placed(table, model, name, value):
    """The whole configuration with one setting in it."""
    kind = model.model_fields.get("kind")
    inner = {name: value}
    if kind is not None and table == "sources.NAME":
        inner = {"kind": kind.default, **NEED[kind.default], **inner}
        return {"sources": {"a": inner}}
    if table.startswith("sources.NAME."):  # several kinds have the same
        return {"sources": {"a": {"kind": "camera", **NEED["camera"], table.rpartition(".")[2]: inner}}}
    for part in reversed([part for part in table.split(".") if part]):
        inner = {part: inner}
    return inner


CASES = [(table, model, name) for table, _, model in sections() for name in model.model_fields]


@pytest.mark.parametrize(
    ("table", "model", "name"), CASES, ids=lambda part: part if isinstance(part, str) else getattr(part, "__name__", "")
)
def test_no_word_of_the_library_reaches_the_user(table, model, name):
    for value in VALUES:
        values = placed(table, model, name, value)
        try:
            Settings(**values)
        except ValidationError as exc:
            theirs = [error["msg"] for error in exc.errors() if error["type"] not in {"kind", "value_error", "broker_url"}]
        else:
            continue
        found = [str(problem) for problem in problems_of(values, Where({}))]
        assert found, (value, theirs)
        for problem in found:
            for word in (*theirs, "nput should", "valid", "pydantic", "extra inputs", "Value error", "parse", "another value"):
                assert word not in problem, (value, problem)


def test_every_required_setting_has_an_example():
    for kind in SOURCES.built_in.values():
        for name, field in kind.options.model_fields.items():
            assert not field.is_required() or field.examples, (kind, name)
