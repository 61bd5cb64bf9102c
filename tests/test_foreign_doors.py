"""Files and words that others wrote: at every door a clean value or one printable sentence, in bounded time and memory.

Slowness shows as pytest's time limit: each of the long inputs took minutes, or would have.
"""

from __future__ import annotations

import os
from pathlib import Path

import flatbuffers
import pytest

from edgeannot.base.atomicfile import read_json
from edgeannot.base.errors import CardError, ConfigError, EdgeannotError, InputError, MissingError, ModelError
from edgeannot.card_inference.hints import parse_anchors, parse_range, read_cfg
from edgeannot.card_inference.labels import read_labels
from edgeannot.library.catalogue import read_catalogue
from edgeannot.mqtt.group import _state_in
from edgeannot.settings import load_settings
from edgeannot.tflite.flatbuffer import Broken, root
from edgeannot.vision.cards import find_card, read_card
from edgeannot.vision.engine import Engine
from tests.tflite_maker import Maker

BIG = "9" * 5000
NO_NAMES = ["a\0b", "\ud800", "x" * 300, "x" * 5000]
"""Names that no file can have."""


def kind(value):
    return f"{type(value).__name__}{len(value)}"  # pytest itself fails on some of the values as names of tests


def tiny_model():
    maker = Maker()
    return maker.outputs(maker.logistic(maker.input((1, 8, 8, 3), name="innnnput")))


def in_one_sentence(call, *words, wanted=EdgeannotError):
    with pytest.raises(wanted) as told:
        call(*words)
    assert str(told.value).isprintable()
    assert len(str(told.value)) < 600


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


# Label files

NO_LABELS = {
    ".yaml": ["", f"names:\n  {BIG}: a", f"names: {{{BIG}: a}}", "names: {²: a}", "names:\n  ²: a", "names:\n" + " \n" * 40_000, "\xff"],
    ".pbtxt": ["", f"item{{ id: {BIG} name: 'a'}}", "item{ id: ² name: 'a'}", "item {" * 200_000, "item " * 30_000, "item" + " " * 120_000],
    ".json": ["", '{"²": "a"}', f'{{"{BIG}": "a"}}', "[" * 100_000, BIG, "NaN", '{"1":' * 900 + "1" + "}" * 900, '{"٣": "a"}'],
    ".txt": ["", "\n\n", "a\0", b"\xff", b"a\n" * 3_000_000],
}


@pytest.mark.parametrize(("suffix", "content"), [(s, c) for s, contents in NO_LABELS.items() for c in contents], ids=kind)
def test_what_is_no_list_of_labels_is_one_sentence(tmp_path, suffix, content):
    in_one_sentence(read_labels, written(tmp_path, f"labels{suffix}", content), wanted=InputError)


@pytest.mark.parametrize(
    "content", ["names:\n- a" + " " * 60_000 + "b", "names:\n- a" + " #" * 60_000, "names: # of classes\n- a\n" + " \n" * 9_999]
)
def test_a_long_line_in_a_yaml_takes_no_longer_than_a_short_one(tmp_path, content):
    assert read_labels(written(tmp_path, "labels.yaml", content))[0].startswith("a")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a\x1b[2J\nb\x85c"),
        ("a.json", '["a\\n", "\\ud800b"]'),
        ("a.json", '{"names": {"0": "\\u0000", "1": ["x", "y\\r"]}}'),
        ("a.pbtxt", "item { id: 1 name: 'a\x1b\nb' }"),
        ("a.yaml", "names: ['a\x1b\nb', c]"),
    ],
)
def test_a_label_is_one_line_of_valid_text_whatever_the_file_holds(tmp_path, name, content):
    for label in read_labels(written(tmp_path, name, content)):
        label.encode("utf-8")
        assert not set(label) & {"\n", "\r", "\0", "\x1b", "\x85"}


def test_numbers_of_thousands_of_digits_at_the_start_of_a_line_belong_to_the_name(tmp_path):
    assert read_labels(written(tmp_path, "a.txt", f"{BIG}: a\n1: b")) == (f"{BIG}: a", "1: b")


def test_only_a_file_of_the_size_of_a_label_file_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    for path in (tmp_path / "pipe.txt", Path("/dev/zero"), tmp_path, written(tmp_path, "large.txt", b"a" * (9 << 20))):
        in_one_sentence(read_labels, path, wanted=InputError)


# Darknet's cfg

CFG = "[net]\nwidth=32\n[yolo]\nanchors={anchors}\nmask={mask}\nclasses={classes}\nscale_x_y={scale}\n"
NO_NUMBER = [BIG, "²", "٣", "1e400", "inf", "nan", "1.2.3", "1_0", "\udcff", "x", "9" * 400]


@pytest.mark.parametrize("value", NO_NUMBER, ids=kind)
@pytest.mark.parametrize("option", ["anchors", "mask", "classes", "scale"])
def test_a_number_of_a_cfg_that_is_none_is_one_sentence(tmp_path, option, value):
    stated = {"anchors": "1,2,3,4", "mask": "0,1", "classes": "2", "scale": "1"} | {
        option: f"1,2,3,{value}" if option == "anchors" else value
    }

    in_one_sentence(read_cfg, written(tmp_path, "a.cfg", CFG.format(**stated)), wanted=InputError)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "\n" * 100_000 + "x",
        "[yolo]\n" + " \n" * 50_000,
        "[yolo]" + " " * 100_000,
        "[yolo]\n" + "a" * 100_000 + "=",
        b"\xff" * 99,
    ],
)
def test_a_long_cfg_without_a_detector_is_one_sentence(tmp_path, text):
    in_one_sentence(read_cfg, written(tmp_path, "a.cfg", text), wanted=InputError)


@pytest.mark.parametrize("text", [f"{BIG},1", "²,1", "1,1e400", "٣,٣", "1.1.1,2", "0x1,2", "1,inf"], ids=kind)
def test_anchors_that_are_no_numbers_are_one_sentence(text):
    in_one_sentence(parse_anchors, text, wanted=InputError)


@pytest.mark.parametrize(
    "text", ["inf/1", "nan/nan", "1/1e400", "²/1", f"{BIG}/1", f"1/{BIG}", "1_0/2", "1/0", "1/1e-320", "/", "1"], ids=kind
)
def test_an_input_range_that_is_none_is_one_sentence(text):
    in_one_sentence(parse_range, text, {}, wanted=InputError)


# Cards

CARD = """schema = 1
name = "x"
file = "m.tflite"
sha256 = "{sha}"
task = "detect"
family = "ssd"
[input]
width = 416
height = 416
[head]
kind = "ssd-anchors"
boxes = [0]
scores = [1]
activation = "sigmoid"
[head.octaves]
max_level = 7
[labels]
names = ["person"]
""".replace("{sha}", "0" * 64)


def card_with(folder, old, new):
    assert old in CARD
    return written(folder, "x.toml", CARD.replace(old, new))


def test_the_card_that_is_made_wrong_below_is_right(tmp_path):
    assert read_card(written(tmp_path, "x.toml", CARD)).label_names() == ("person",)


@pytest.mark.parametrize(
    "number", [BIG, "9" * 30, "inf", "nan", "1e400", "-1", "0", "99999999", "'x'", "[" * 2000, "2024-02-30", "9" * 400 + ".0"], ids=kind
)
@pytest.mark.parametrize("field", ["width = ", "max_level = "])
def test_a_number_of_a_card_that_cannot_be_is_one_sentence(tmp_path, field, number):
    in_one_sentence(read_card, card_with(tmp_path, field, f"{field}{number} # "), wanted=CardError)


@pytest.mark.parametrize(
    "lines",
    [
        "mean = [inf]", "std = [nan]", "std = [1e-320]", "pad = 1e400", f"pad = {BIG}", "sizes = [-1]", "sizes = [99999999]",
        ".".join(["a"] * 50_000) + " = 1", "x = " + "[" * 400 + "]" * 400, "x = " + "{a=" * 400 + "1" + "}" * 400, "\x1b[2J",
        '"\\u001b[2J" = 1',
    ],
    ids=kind,
)  # fmt: skip
def test_an_input_of_a_card_that_cannot_be_is_one_sentence(tmp_path, lines):
    in_one_sentence(read_card, card_with(tmp_path, "height = 416", f"height = 416\n{lines}"), wanted=CardError)


@pytest.mark.parametrize(
    "lines", ["min_level = -9999", "scales_per_octave = 100000", "anchor_scale = inf", "aspect_ratios = [0.0]", "aspect_ratios = [-1.0]"]
)
def test_anchors_of_a_card_without_end_are_one_sentence(tmp_path, lines):
    in_one_sentence(read_card, card_with(tmp_path, "max_level = 7", f"max_level = 7\n{lines}"), wanted=CardError)


@pytest.mark.parametrize("name", ["a\\u0000b", "x" * 300, "../" * 3000])
def test_a_file_of_a_card_that_cannot_be_is_one_sentence(tmp_path, name):
    def read(path):
        card = read_card(path)
        card.label_names()
        card.verify_file()

    in_one_sentence(read, card_with(tmp_path, "m.tflite", name), wanted=CardError)
    in_one_sentence(read, card_with(tmp_path, 'names = ["person"]', f'file = "{name}"'), wanted=CardError)


def test_only_a_file_of_the_size_of_a_card_is_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.toml")
    for path in (tmp_path / "pipe.toml", Path("/dev/zero"), tmp_path, written(tmp_path, "large.toml", b"#" * (9 << 20))):
        in_one_sentence(read_card, path, wanted=CardError)


@pytest.mark.parametrize("name", [*NO_NAMES, "x@²", f"x@{BIG}", "\x1b[2J", "../x", ""], ids=kind)
@pytest.mark.parametrize("suffix", ["", ".toml"])
def test_a_model_by_a_name_that_none_can_have_is_missing(tmp_path, name, suffix):
    in_one_sentence(find_card, name + suffix, [tmp_path], wanted=ModelError)


# Settings

DIRECTORY, CAMERA = '[sources.a]\nkind = "directory"\n', '[sources.a]\nkind = "camera"\nurl = "rtsp://x"\n'
WRONG_SETTINGS = [
    f"threads = {BIG}", "threads = 1" + "0" * 30, "max_ms = inf", "max_fps = inf", "max_ms = " + "9" * 400, "threads = 2024-02-30",
    "labels = " + "[" * 400 + "]" * 400, "x = " + "[" * 100_000, ".".join(["a"] * 50_000) + " = 1", '"\\u001b[2J" = 1',
    f'"{"x" * 100_000}" = 1', 'data_dir = "a\\u0000b"', 'model = "a\\u0000b"', 'labels = ["a\\u0000b"]', f"[sources.a]\nkind = {BIG}",
    '[sources.a]\nkind = "\\u001b[2J"', '[sources."a\\u001b"]\nkind = "directory"\npath = "x"', DIRECTORY + 'path = "a\\u0000b"',
    CAMERA.replace("//x", "//x\\u0000"), CAMERA + 'credentials_file = "a\\u0000b"', '[sinks.images]\nfolder = "a\\u0000b"',
    '[sinks.mqtt]\nusername = "u"\npassword_file = "a\\u0000b"', '[sinks.mqtt]\nca_file = "a\\u0000b"', "\x1b[2J", b"\xff",
]  # fmt: skip


def not_judged():
    return "low", "not judged"


@pytest.mark.parametrize("content", WRONG_SETTINGS, ids=kind)
def test_settings_that_cannot_be_are_one_sentence(tmp_path, content):
    path = written(tmp_path, "edgeannot.toml", content)

    in_one_sentence(lambda: load_settings({}, path, grade=not_judged), wanted=ConfigError)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("THREADS", BIG), ("THREADS", "²"), ("MAX_MS", "inf"), ("SOURCES", "[" * 100_000), ("SOURCES", '{"a": ' * 900), ("SOURCES", BIG),
        ("SOURCES", f'{{"a": {BIG}}}'), ("SINKS", "NaN"), ("DATA_DIR", "a\ud800"), ("SINKS", '{"images": {"folder": "a\\ud800"}}'),
        ("LABELS", '["\\u0000"]'),
    ],
    ids=kind,
)  # fmt: skip
def test_settings_of_the_environment_that_cannot_be_are_one_sentence(monkeypatch, variable, value):
    # An environment holds no such text itself, but JSON in it may.
    monkeypatch.setattr(os, "environ", {**os.environ, f"EDGEANNOT_{variable}": value})

    in_one_sentence(lambda: load_settings({}, None, grade=not_judged), wanted=ConfigError)


def test_a_folder_whose_name_is_no_utf8_is_a_folder(monkeypatch, tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    monkeypatch.setenv("EDGEANNOT_DATA_DIR", os.fsdecode(folder))

    assert os.fsencode(load_settings({}, None, grade=not_judged).settings.data_dir) == folder


def test_only_a_file_of_the_size_of_settings_is_read(tmp_path):
    for path in (Path("/dev/zero"), tmp_path, *(tmp_path / name for name in NO_NAMES)):
        in_one_sentence(lambda path=path: load_settings({}, path, grade=not_judged), wanted=(ConfigError, MissingError))
    large = written(tmp_path, "large.toml", b"#" * (9 << 20))
    in_one_sentence(lambda: load_settings({}, large, grade=not_judged), wanted=ConfigError)


# The catalogue, and the program's own small files


@pytest.mark.parametrize(
    "content", ["x = " + "[" * 100_000, f"schema = {BIG}", ".".join(["a"] * 50_000) + " = 1", '"\\u001b[2J" = 1', b"\xff"], ids=kind
)
def test_a_catalogue_that_cannot_be_is_one_sentence(tmp_path, content):
    in_one_sentence(read_catalogue, written(tmp_path, "catalogue.toml", content), wanted=ConfigError)


def test_only_a_file_of_the_size_of_a_catalogue_is_read(tmp_path):
    for path in (Path("/dev/zero"), tmp_path, *(tmp_path / name for name in NO_NAMES)):
        in_one_sentence(read_catalogue, path, wanted=(ConfigError, MissingError))


@pytest.mark.parametrize(
    "content", ["[" * 100_000, BIG, '{"schema": 1e400}', "NaN", b"\xff", b"\0" * 99, b"[1]" + b" " * (70 << 20)], ids=kind
)
def test_a_cache_that_cannot_be_read_is_empty(tmp_path, content):
    assert read_json(written(tmp_path, "cache.json", content), 1) == {}


def test_a_cache_that_is_no_file_is_empty(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path):
        assert read_json(path, 1) == {}


@pytest.mark.parametrize("state", ["[]", "{}", "1e400", "null"])
def test_what_a_peer_says_of_itself_that_cannot_be_is_nothing(state):
    assert _state_in(f'{{"state": {state}, "filter": "a"}}'.encode()) is None


# The model's own file

MODEL = tiny_model()


@pytest.mark.runtime
@pytest.mark.parametrize(
    ("name", "other"), [(b"innnnput", b"in\xff\x1bnput"), (b"logistic", b"logist\xffc"), (b"innnnput", b"in\xed\xa0\x80put")]
)
def test_a_tensor_whose_name_is_no_utf8_is_one_sentence(name, other):
    in_one_sentence(lambda: Engine(MODEL.replace(name, other)), wanted=ModelError)


def test_text_and_lists_that_a_file_names_again_and_again_take_no_memory_of_their_own():
    builder = flatbuffers.Builder(1 << 20)
    text = builder.CreateString("x" * (1 << 19))
    tables = []
    for _ in range(20_000):
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, len(tables), 4)
    for table in reversed(tables):
        builder.PrependUOffsetTRelative(table)
    listed = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, listed, 0)
    builder.Finish(builder.EndObject())

    with pytest.raises(Broken, match="more than the file holds"):  # ten gigabytes out of one megabyte
        [table.text(0) for table in root(bytes(builder.Output())).tables(0)]
