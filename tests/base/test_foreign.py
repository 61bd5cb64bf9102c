"""What comes from outside: a clean value, or one sentence in the error that the caller chose."""

import json
import math
import os

import pytest

from edgeannot.base.errors import CardError, ConfigError, InputError, MissingError
from edgeannot.base.foreign import (
    as_float,
    as_int,
    decode,
    json_text,
    model_name,
    number_of,
    one_line,
    parse_json,
    parse_toml,
    printable,
    read_bytes,
    read_text,
    shorten,
    to_float,
    to_int,
    valid_text,
)

NO_INTEGER = [
    "",
    " ",
    "x",
    "1.5",
    "1e3",
    "²",
    "٣",
    "१",
    "1_000",
    "0x10",
    "9" * 5000,
    "9" * 20,
    "-" + "9" * 20,
    "nan",
    "inf",
    "\0",
    "1\0",
    "\udcff",
]
NO_FLOAT = [
    "",
    " ",
    "x",
    "²",
    "٣",
    "1_0.5",
    "0x1p3",
    "nan",
    "NaN",
    "inf",
    "Infinity",
    "-inf",
    "1e400",
    "1e99999999",
    "9" * 5000,
    "\0",
    "\udcff",
    ".",
]
OTHER_KINDS = [None, True, False, [], {}, b"1"]


def kind(value):
    return type(value).__name__  # pytest itself fails on the values as names of tests


def test_nothing_is_printable_as_nothing():
    assert printable("") == ""


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\x1b[2Jb", "a\0b", "a\x7fb", "a\x9bb", "a\u202eb", "a\u2028b", "a\u200fb", "a\udcffb", "a\ue000b"]
)
def test_what_steers_a_terminal_or_is_no_unicode_is_replaced(text):
    shown = printable(text)

    assert shown.isprintable()
    assert shown.startswith("a")
    assert shown.endswith("b")
    shown.encode("utf-8")


def test_words_of_any_script_stay_as_they_are():
    assert printable("Straße 自転車 велосипед ✓") == "Straße 自転車 велосипед ✓"


def test_a_table_keeps_its_lines_and_nothing_else():
    assert printable("a\tb\n\x1b[1mc\r", lines=True) == "a\tb\n\ufffd[1mc\ufffd"


@pytest.mark.parametrize("value", [10**5000, "x" * 10**6, "\x1b[2J\udcff", b"\xff" * 1000, list(range(10**5)), None], ids=kind)
def test_a_quoted_value_is_one_short_printable_line(value):
    assert len(shorten(value)) <= 80
    assert shorten(value).isprintable()


@pytest.mark.parametrize("value", ["", "é 自", "a\x1b\x9b\u202e\x7f\udcff\U000e0041\n", {"a\u2028": ["\ue000", None, 1.5]}])
@pytest.mark.parametrize("indent", [None, 1])
def test_json_shows_only_printable_characters_and_says_the_same(value, indent):
    text = json_text(value, indent=indent)

    assert text.replace("\n", "").isprintable()
    assert json.loads(text) == value


def test_bytes_of_a_name_that_are_no_utf8_stay_readable():
    assert valid_text(os.fsdecode(b"caf\xe9.jpg")) == "caf\\xe9.jpg"
    valid_text("\ud800").encode("utf-8")


@pytest.mark.parametrize("value", [*NO_INTEGER, *OTHER_KINDS, 1.5, math.nan, math.inf, 10**5000], ids=kind)
def test_what_states_no_whole_number_is_none_and_an_error_in_one_line(value):
    assert as_int(value) is None
    with pytest.raises(CardError, match=r"^the size: wanted a whole number, found ") as told:
        to_int(value, "the size", error=CardError)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 200


@pytest.mark.parametrize("value", [*NO_FLOAT, *OTHER_KINDS, math.nan, math.inf, -math.inf, 10**5000], ids=kind)
def test_what_states_no_finite_number_is_none_and_an_error_in_one_line(value):
    assert as_float(value) is None
    with pytest.raises(InputError, match=r"^the score: wanted a number, found ") as told:
        to_float(value, "the score")
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 200


@pytest.mark.parametrize(("value", "number"), [("0", 0), (" -12\n", -12), ("+7", 7), ("007", 7), (640, 640), (640.0, 640)])
def test_a_whole_number_is_taken_from_text_and_from_numbers(value, number):
    assert as_int(value) == number
    assert to_int(value, "x") == number


@pytest.mark.parametrize(("value", "number"), [("0", 0), (" -1.5e-3 ", -0.0015), (".5", 0.5), ("5.", 5), (3, 3), (2.5, 2.5)])
def test_a_number_is_taken_from_text_and_from_numbers(value, number):
    assert as_float(value) == number
    assert to_float(value, "x") == number


def test_a_number_out_of_bounds_names_them():
    with pytest.raises(ConfigError, match=r"^threads: wanted a whole number from 1 to 4, found '9'$"):
        to_int("9", "threads", lowest=1, highest=4, error=ConfigError)


def test_text_loses_its_mark_and_the_line_ends_of_other_systems():
    assert decode(b"\xef\xbb\xbfa\r\nb\rc", "x") == "a\nb\nc"


def test_bytes_that_are_no_utf8_are_named_with_their_line():
    with pytest.raises(CardError, match=r"^the card x: wanted UTF-8 text, found the byte 0xff in line 2; save it as UTF-8$"):
        decode(b"a\n\xff", "the card x", error=CardError)


def test_an_empty_file_is_an_empty_text(tmp_path):
    (tmp_path / "x").touch()

    assert read_text(tmp_path / "x", "the label file") == ""


def test_a_file_that_is_not_there_is_missing(tmp_path):
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(MissingError, match=r"^the label file .*/x.* is not there$"):
            read_bytes(path, "the label file")


def test_a_name_that_no_file_can_have_is_one_sentence(tmp_path):
    for name in ("a\0b", "a\ud800b"):
        with pytest.raises(ConfigError, match="no file can have this name") as told:
            read_bytes(tmp_path / name, "the label file", error=ConfigError)
        assert str(told.value).isprintable()


def test_only_regular_files_of_a_bounded_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(bytes(11))

    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(InputError, match="wanted a file, found a folder, a pipe or a device"):
            read_bytes(tmp_path / path, "the label file")
    with pytest.raises(InputError, match="larger than 10 bytes"):
        read_bytes(tmp_path / "large", "the label file", max_bytes=10)
    assert read_bytes(tmp_path / "large", "the label file", max_bytes=11) == bytes(11)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, b"9" * 5000, b"\x1b[2J"], ids=kind)
def test_what_is_no_json_is_one_sentence_or_none(data):
    assert parse_json(data, "x", error=None) is None
    with pytest.raises(InputError, match=r"^the answer: wanted JSON, found none that can be read") as told:
        parse_json(data, "the answer")
    assert str(told.value).isprintable()


@pytest.mark.parametrize("text", ["a", "a = ", "a = " + "[" * 100_000, "a = " + "9" * 5000, "a = '\0'", "a = \x1b[2J"], ids=kind)
def test_what_is_no_toml_is_one_sentence(text):
    with pytest.raises(ConfigError, match=r"^the file is not valid TOML: ") as told:
        parse_toml(text, "the file", error=ConfigError)
    assert str(told.value).isprintable()


def test_the_numbers_of_json_and_toml_may_still_be_anything():
    assert as_float(parse_json(b"1e400", "x")) is None
    assert as_float(parse_json(b"NaN", "x")) is None
    assert as_float(parse_toml("a = inf", "x")["a"]) is None
    assert as_int(json.loads("1" + "0" * 100)) is None


@pytest.mark.parametrize("text", ["a\nb", "a\x1bb", "a\x85b", "a\u2028b", "a\0b", "a\uffffb"])
def test_a_label_is_one_line_without_control_characters(text):
    assert one_line(text) == "a\ufffdb"


def test_a_label_keeps_what_words_need():
    assert one_line("क\u094d\u200dष 👩\u200d🍳") == "क\u094d\u200dष 👩\u200d🍳"
    assert one_line(os.fsdecode(b"caf\xe9")) == "caf\\xe9"


def test_a_count_of_one_takes_the_singular():
    assert [number_of(count, "thread") for count in (0, 1, 2)] == ["0 threads", "1 thread", "2 threads"]
    assert [number_of(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]


@pytest.mark.parametrize(
    ("stem", "name"),
    [("YOLO v3 (tiny)", "yolo-v3-tiny"), ("___", "model"), ("a.b-c_d", "a.b-c_d"), ("x@320", "x-320"), ("a" * 300, "a" * 200)],
)
def test_a_models_name_is_made_of_what_it_may_hold(stem, name):
    assert model_name(stem) == name
