"""What is remembered of measurements: valid for their conditions only, and no damage to the file stops anything."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.choice.measurements import Conditions, Measurements, Record
from tests.choice.test_decision import sample

HERE = Conditions("aarch64 4x Cortex-A72", "0-3", None, "ondemand", "litert 2.3.0")
RECORD = Record((sample(320, 40), sample(320, 25, 2)))


def saved(path, conditions=HERE, records=None, at=0.0):
    known = Measurements.load(path, conditions)
    known.records = {"a": RECORD} if records is None else records
    known.save(set(known.records), lambda: at)
    return known


def test_no_file_is_nothing_known(tmp_path):
    assert Measurements.load(tmp_path / "none" / "m.json", HERE).records == {}


def test_what_was_saved_is_known_under_the_same_conditions(tmp_path):
    saved(tmp_path / "made" / "m.json")
    known = Measurements.load(tmp_path / "made" / "m.json", HERE)

    assert known.record("a") == RECORD
    assert known.record("b") == Record()


@pytest.mark.parametrize(
    "change",
    [{"cpu": "aarch64 4x Cortex-A76"}, {"cpus": "0-1"}, {"quota": 0.25}, {"governor": "powersave"}, {"runtime": "litert 2.4.0"}],
    ids=lambda change: next(iter(change)),
)
def test_under_other_conditions_nothing_is_known(tmp_path, change):
    saved(tmp_path / "m.json")

    assert Measurements.load(tmp_path / "m.json", replace(HERE, **change)).records == {}


def test_figures_for_other_limits_are_kept_beside(tmp_path):
    path = tmp_path / "m.json"
    saved(path)
    saved(path, replace(HERE, quota=0.25), {"a": Record((sample(320, 160),))}, at=1)

    assert Measurements.load(path, HERE).record("a") == RECORD
    assert Measurements.load(path, replace(HERE, quota=0.25)).record("a").samples[0].ms == 160


def test_figures_of_another_board_or_runtime_are_dropped(tmp_path):
    path = tmp_path / "m.json"
    saved(path)
    saved(path, replace(HERE, runtime="litert 2.4.0"))

    assert Measurements.load(path, HERE).records == {}


def test_only_the_newest_conditions_are_kept(tmp_path):
    path = tmp_path / "m.json"
    for i in range(10):
        saved(path, replace(HERE, quota=0.1 * (i + 1)), at=i)
    kept = [i for i in range(10) if Measurements.load(path, replace(HERE, quota=0.1 * (i + 1))).records]

    assert kept == [4, 5, 6, 7, 8, 9]


def test_models_that_are_gone_are_forgotten(tmp_path):
    known = saved(tmp_path / "m.json", records={"a": RECORD, "b": RECORD})
    known.save({"b"})

    assert set(Measurements.load(tmp_path / "m.json", HERE).records) == {"b"}


def test_a_failure_is_remembered_where_it_would_be_the_same_again_or_does_harm(tmp_path):
    failures = {
        "illegal": Record(failure="died of an illegal instruction", lasting=True),
        "slow": Record(failure="gave no figures within 40 s"),
        "killed": Record((sample(192, 9),), failure="died of SIGKILL", failed_size=320, killed=True),
        "stopped": Record((sample(192, 9),), failure="was not finished", failed_size=320),
    }
    saved(tmp_path / "m.json", records=failures)
    known = Measurements.load(tmp_path / "m.json", HERE).records

    assert known["illegal"] == failures["illegal"]
    assert "slow" not in known
    assert known["killed"] == failures["killed"], "the next attempt might take something else with it"
    assert known["stopped"] == Record((sample(192, 9),))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b'"x"'])
def test_a_damaged_file_is_set_aside_with_one_line_and_made_anew(tmp_path, caplog, content):
    path = tmp_path / "m.json"
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        known = saved(path)

    assert len(caplog.records) == 1
    assert "kept as m.json.damaged" in caplog.text
    assert (tmp_path / "m.json.damaged").read_bytes() == content
    assert Measurements.load(path, HERE).records == known.records


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b'{"schema": 99}',
        b'{"schema": 1, "conditions": [{}]}',
        b'{"schema": 4}',
        b'{"schema": 4, "conditions": [{}]}',
        b'{"schema": 4, "conditions": 5}',
        b'{"schema": 4, "conditions": [7]}',
    ],
)
def test_json_of_another_form_is_nothing_known(tmp_path, content):
    (tmp_path / "m.json").write_bytes(content)

    assert Measurements.load(tmp_path / "m.json", HERE).records == {}


@pytest.mark.parametrize("key", ["ms", "threads", "wait_share", "dtype", "failure", "measured_at"])
def test_figures_of_another_hand_are_nothing_known(tmp_path, key):
    path = tmp_path / "m.json"
    saved(path)
    whole = json.loads(path.read_text())
    entry = whole["conditions"][0]
    record = entry["models"]["a"]
    place = entry if key in entry else record if key in record else record["samples"][0]
    place[key] = 7
    path.write_text(json.dumps(whole))

    assert Measurements.load(path, HERE).records == {}
    saved(path, replace(HERE, quota=0.5))


def test_figures_of_a_version_with_other_fields_are_nothing_known(tmp_path):
    path = tmp_path / "m.json"
    saved(path)
    whole = read_json(path, 4)
    whole["conditions"][0]["models"]["a"]["samples"][0]["colour"] = "red"
    write_json(path, whole, sealed=True)

    assert Measurements.load(path, HERE).records == {}


def test_what_two_processes_measure_at_once_is_kept_of_both(tmp_path):
    path = tmp_path / "m.json"
    one, two, squeezed = (Measurements.load(path, each) for each in (HERE, HERE, replace(HERE, quota=0.5)))
    one.records, one.micro = {"a": RECORD}, {"threads": 2}
    two.records = {"b": RECORD}
    squeezed.records = {"b": RECORD}
    for each in (one, two, squeezed):
        each.save({"a", "b"})
    known = Measurements.load(path, HERE)

    assert (known.records, known.micro) == ({"a": RECORD, "b": RECORD}, {"threads": 2})
    assert Measurements.load(path, squeezed.conditions).records == {"b": RECORD}


def test_figures_that_the_version_before_took_are_not_known_and_are_written_over(tmp_path, caplog):
    path = tmp_path / "m.json"
    saved(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": 1}))
    assert Measurements.load(path, HERE).records == {}

    saved(path, records={"b": RECORD})
    assert Measurements.load(path, HERE).records == {"b": RECORD}
    assert (caplog.text, [each.name for each in tmp_path.iterdir()]) == ("", ["m.json"])


def test_words_that_are_no_text_are_kept_as_they_are(tmp_path):
    path = tmp_path / "m.json"
    saved(path, replace(HERE, governor="\udce9"))
    saved(path)

    assert Measurements.load(path, replace(HERE, governor="\udce9")).record("a") == RECORD
    assert [each.name for each in tmp_path.iterdir()] == ["m.json"]


def test_a_folder_that_cannot_be_written_costs_a_line(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    saved(tmp_path / "file" / "m.json")

    assert "cannot be written" in caplog.text


def test_the_failure_of_a_file_that_was_put_right_is_forgotten_and_its_figures_stay(tmp_path):
    known = Measurements(tmp_path / "m.json", HERE, {"a": Record((sample(192, 9),), failure="has sha256", lasting=True, file_time_ns=5)})
    known.forget_failures({"a": 5, "b": 1})
    assert known.record("a").failure

    known.forget_failures({"a": 6})
    assert known.record("a") == Record((sample(192, 9),))


def test_what_was_measured_on_a_busy_board_is_told_apart():
    record = Record((sample(192, 9, wait_share=0.5), sample(224, 12, wait_share=0.01)))

    assert [s.size for s in record.without_noisy(HERE).samples] == [224]
    assert record.without_noisy(replace(HERE, quota=0.25)) == record
