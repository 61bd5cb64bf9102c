"""What a .tflite says about itself: appended files, TFLite metadata, Ultralytics' notes."""

from __future__ import annotations

import io
import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeannot.tflite.file import parse_tflite, read_tflite
from edgeannot.tflite.metadata import ModelMetadata, read_metadata
from tests.metadata_maker import Tables, detector_metadata, tflite_metadata
from tests.tflite_maker import Maker, with_files

ULTRALYTICS = {
    "description": "d",
    "task": "detect",
    "stride": 32,
    "imgsz": [320, 416],
    "names": {"0": "cat", "1": "dog"},
    "license": "AGPL",
    "end2end": True,
}


def tiny(metadata: bytes = b"") -> bytes:
    maker = Maker()
    x = maker.input((1, 8, 8, 3))
    if metadata:
        maker.metadata("TFLITE_METADATA", metadata)
    return maker.outputs(maker.logistic(x))


def of(raw: bytes) -> ModelMetadata:
    return read_metadata(parse_tflite(raw))


def test_a_file_without_any_says_nothing() -> None:
    assert of(tiny()) == ModelMetadata()


def test_an_appended_label_file_is_found() -> None:
    found = of(with_files(tiny(), {"labelmap.txt": "cat\ndog\n\n"}))

    assert found.label_file() == ("labelmap.txt", ("cat", "dog"))


def test_of_two_text_files_the_one_that_metadata_names_is_taken() -> None:
    files = {"other.txt": "a\nb", "names.txt": "left\nright"}

    assert of(with_files(tiny(), files)).label_file() is None
    assert of(with_files(tiny(tflite_metadata()), files)).label_file() == ("names.txt", ("left", "right"))


def test_normalisation_colour_and_words_of_tflite_metadata_are_read() -> None:
    found = of(tiny(tflite_metadata()))

    assert (found.name, found.description, found.license) == ("Sorter", "sorts", "CC0")
    assert (found.inputs[0].mean, found.inputs[0].std, found.inputs[0].color) == ((127.0,), (128.0,), "RGB")
    assert found.outputs[0].labels == ("names.txt", "noms.txt")


@pytest.mark.parametrize(
    ("name", "text"), [("metadata.json", json.dumps(ULTRALYTICS)), ("temp_meta.txt", str({**ULTRALYTICS, "names": {0: "cat", 1: "dog"}}))]
)
def test_both_forms_of_ultralytics_notes_are_read(name: str, text: str) -> None:
    found = of(with_files(tiny(), {name: text}))

    assert found.exporter is not None
    assert (found.exporter.file, found.exporter.names, found.exporter.task) == (name, ("cat", "dog"), "detect")
    assert found.exporter.input_wh == (416, 320)  # imgsz is height, width
    assert found.exporter.end_to_end is True
    assert found.label_file() is None  # the notes are no list of labels


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"names": 3}', '{"names": {"a": "b"}}', "{__import__('os').getcwd(): 1}", "null"])
def test_notes_of_another_form_are_left_alone(text: str) -> None:
    """Python's form is read as literals; nothing in it is ever run."""
    for name in ("metadata.json", "temp_meta.txt"):
        exporter = of(with_files(tiny(), {name: text})).exporter
        assert exporter is None or exporter.names == ()


def test_damaged_metadata_is_said_and_the_model_still_reads() -> None:
    good = tflite_metadata()
    found = of(tiny(good[: len(good) // 2]))

    assert any("damaged" in note for note in found.notes) or found.inputs == ()


def test_a_damaged_archive_is_said_and_the_model_still_reads() -> None:
    raw = bytearray(with_files(tiny(), {"labels.txt": "cat\n" * 50}))
    at = raw.index(b"PK\x01\x02")  # the central directory's entry
    raw[at + 42 : at + 46] = b"\xff\xff\xff\x7f"  # its pointer to the file

    found = of(bytes(raw))

    assert found.files == {}
    assert found.notes


def test_an_archive_whose_packed_bytes_are_damaged_is_said_too() -> None:
    """The bytes of a packed file are read by zlib, which has errors of its own."""
    packed = io.BytesIO(tiny())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", "".join(f"class {number}\n" for number in range(200)))
    raw = bytearray(packed.getvalue())
    at = raw.index(b"PK\x03\x04") + 30 + len("labels.txt")
    raw[at : at + 40] = b"\xff" * 40

    found = of(bytes(raw))

    assert found.files == {}
    assert found.notes


def test_real_files_say_what_they_carry(data_dir: Path) -> None:
    models = data_dir / "models"
    yolo26 = read_metadata(read_tflite(models / "yolo26n_320_e2e_f32io.tflite"))
    yolov8 = read_metadata(read_tflite(models / "yolov8n_224_int8io.tflite"))
    mobilenet = read_metadata(read_tflite(models / "mobilenet_v2_1.0_224_quant.tflite"))

    assert yolo26.exporter is not None
    assert (len(yolo26.exporter.names), yolo26.exporter.input_wh, yolo26.exporter.end_to_end) == (80, (320, 320), True)
    assert yolov8.exporter is not None
    assert yolov8.exporter.input_wh == (224, 224)
    labels = mobilenet.label_file()
    assert labels is not None
    assert (labels[0], len(labels[1])) == ("imagenet_labels.txt", 1001)
    assert mobilenet.inputs[0].mean == (127.5,)


NOT_A_COUNT = ["²", "9" * 5000, "Infinity", 10**400, float("inf"), float("nan"), True, None, [], {}, "\udcff", "\0", -(10**30)]


def shown(value):
    return type(value).__name__  # pytest itself fails on the values as names of tests


@pytest.mark.parametrize("value", NOT_A_COUNT, ids=shown)
@pytest.mark.parametrize("field", ["imgsz", "kpt_shape"])
@pytest.mark.parametrize("listed", [False, True])
def test_a_number_of_the_exporter_that_is_none_is_as_if_it_were_not_stated(field, value, listed):
    text = f"{ULTRALYTICS | {field: (value, value) if listed else value}!r}".replace("inf", "1e999").replace("nan", "(1e999-1e999)")

    for name, content in (("metadata.json", json.dumps(ULTRALYTICS | {field: value})), ("meta.txt", text)):
        exporter = of(with_files(tiny(), {name: content.encode("utf-8", "surrogatepass")})).exporter

        if exporter is not None:  # a Python dict is no dict of literals with all of them
            found = {"imgsz": exporter.input_wh, "kpt_shape": exporter.keypoints}
            assert found[field] in (None, ())


@pytest.mark.parametrize("key", ["²", "٣", "9" * 5000, "-1", "1_0", "\udcff", "1e3", str(1 << 40)], ids=shown)
def test_classes_under_keys_that_are_no_numbers_are_no_classes(key):
    content = json.dumps(ULTRALYTICS | {"names": {key: "cat"}}).encode()

    assert of(with_files(tiny(), {"metadata.json": content})).exporter.names == ()


def test_names_that_are_no_unicode_can_be_written_and_shown():
    content = json.dumps(ULTRALYTICS | {"names": ["\udcff", "\0", 10**400 % 7]}).encode()

    for name in of(with_files(tiny(), {"metadata.json": content})).exporter.names:
        name.encode("utf-8")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"{" * 100_000, b"{1:" + b"-" * 100_000 + b"1}", b"{" + b"9" * 100_000 + b":1}", b"\xff" * 99]
)
@pytest.mark.parametrize("name", ["metadata.json", "meta.txt"])
def test_notes_nested_without_end_are_no_notes(name, content):
    assert of(with_files(tiny(), {name: content})).exporter is None


def bomb(files: int, size: int, method: int, claimed: int | None = None) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for number in range(files):
            archive.writestr(f"{number}.txt", bytes(size))
    raw = packed.getvalue()
    return raw if claimed is None else raw.replace(size.to_bytes(4, "little"), claimed.to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("files", "size", "method", "claimed"),
    [
        (16, 2 << 20, zipfile.ZIP_DEFLATED, None),
        (1, 32 << 20, zipfile.ZIP_DEFLATED, 100),
        (1, 32 << 20, zipfile.ZIP_BZIP2, 100),
        (1, 32 << 20, zipfile.ZIP_LZMA, 100),
    ],
)
def test_appended_files_take_little_memory_however_well_they_are_packed(files, size, method, claimed):
    model = parse_tflite(tiny() + bomb(files, size, method, claimed))

    tracemalloc.start()
    found = read_metadata(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 16 << 20
    assert found.notes


def test_an_archive_of_very_many_entries_is_not_even_listed():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for number in range(30_000):
            archive.writestr(f"{number:05}", b"")
    model = parse_tflite(tiny() + packed.getvalue())

    tracemalloc.start()
    found = read_metadata(model)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 4 << 20
    assert found.notes


@pytest.mark.parametrize("text", ["{{}: 1}", "{[1]: 2, 'names': {0: 'a'}}", "{{'names'}: 1}"])
def test_a_dict_whose_keys_cannot_be_keys_is_no_exporters_note(text: str) -> None:
    assert of(with_files(tiny(), {"temp_meta.txt": text})).exporter is None


def test_an_appended_file_without_a_name_is_passed_over() -> None:
    raw = with_files(tiny(), {"labels.txt": "cat\n", "zz": "dog\n"}).replace(b"zz", b"\0z")  # a name ends at the first zero byte

    assert of(raw).files == {"labels.txt": b"cat\n"}


# -- MediaPipe's notes about a detector ----------------------------------------------------------------------------------------

ANCHORS = np.array([[0.25, 0.5, 0.1, 0.2], [0.75, 0.5, 0.3, 0.4]], np.float32)


def test_metadata_without_detector_notes_has_none() -> None:
    assert of(tiny(tflite_metadata())).detector is None


def test_anchors_and_decoding_of_a_detector_are_read() -> None:
    """MediaPipe's decoder takes y first, whatever the order of the scales in its schema."""
    notes = detector_metadata(ANCHORS, classes=3, numbers=16, scales_xywh=(1, 2, 3, 4), sigmoid=True)

    found = of(tiny(tflite_metadata(notes))).detector

    assert found is not None
    assert (found.classes, found.numbers, found.scales_yxhw) == (3, 16, (2.0, 1.0, 4.0, 3.0))
    assert (found.exponential, found.sigmoid) == (True, True)
    assert found.anchors.tolist() == ANCHORS.tolist()


def test_a_number_that_is_not_stored_is_zero() -> None:
    """FlatBuffers leave out what has the schema's default: an anchor at the left edge has no x."""
    found = of(tiny(tflite_metadata(detector_metadata([[0, 0.5, 0.1, 0.2]], classes=1)))).detector

    assert found is not None
    assert found.anchors.tolist() == np.array([[0, 0.5, 0.1, 0.2]], np.float32).tolist()


@pytest.mark.parametrize(
    ("notes", "says"),
    [
        (b"", "bytes"),
        (b"V001", "bytes"),
        (detector_metadata(np.zeros((0, 4)), classes=1), "no anchors"),
        (detector_metadata([[float("nan"), 0, 1, 1]], classes=1), "anchor"),
        (detector_metadata([[0.5, 0.5, 0, 1]], classes=1), "anchor"),
        (detector_metadata(ANCHORS, classes=0), "0 classes"),
        (detector_metadata(ANCHORS, classes=1, numbers=3), "3 numbers"),
        (detector_metadata(ANCHORS, classes=1, boxes=7), "7 boxes"),
        (detector_metadata(ANCHORS, classes=1, scales_xywh=(0, 1, 1, 1)), "scale"),
        (detector_metadata(ANCHORS, classes=1, scales_xywh=(float("inf"), 1, 1, 1)), "scale"),
    ],
)
def test_detector_notes_that_cannot_be_used_are_left_out_and_the_rest_is_read(notes: bytes, says: str) -> None:
    found = of(with_files(tiny(tflite_metadata(notes)), {"names.txt": "cat"}))

    assert found.detector is None
    assert (found.inputs[0].mean, found.label_file()) == ((127.0,), ("names.txt", ("cat",)))
    (note,) = found.notes
    assert "DETECTOR_METADATA" in note
    assert says in note


def test_detector_notes_cut_anywhere_are_read_or_said_to_be_damaged() -> None:
    notes = detector_metadata(np.tile(ANCHORS, (8, 1)), classes=3)
    for end in range(len(notes)):
        found = of(tiny(tflite_metadata(notes[:end])))
        assert found.detector is not None or any("DETECTOR_METADATA" in note for note in found.notes)


def test_very_many_anchors_at_one_place_are_not_read() -> None:
    """Offsets may point to one table from everywhere; a real list has some ten thousand."""
    t = Tables()
    anchor = t.table(dict.fromkeys(range(4), ("float", 0.5)))
    stated = t.table({0: ("ref", t.table({0: ("ref", t.vector([anchor] * 300_000))}))})
    decoding = t.table({0: ("int", 1), 1: ("int", 300_000), 2: ("int", 4), **dict.fromkeys(range(6, 10), ("float", 1.0))})
    notes = t.finished(t.table({1: ("ref", stated), 2: ("ref", decoding)}), b"V001")

    found = of(tiny(tflite_metadata(notes)))

    assert found.detector is None
    assert any("300000 anchors" in note for note in found.notes)


def test_of_label_files_in_several_languages_the_one_without_is_taken() -> None:
    files = {"noms.txt": "chat", "names.txt": "cat"}

    assert of(with_files(tiny(tflite_metadata()), files)).label_file() == ("names.txt", ("cat",))


@pytest.mark.parametrize(("threshold", "taken"), [(None, None), (0.4, 0.4), (0.0, None), (float("nan"), None), (7.0, None)])
def test_a_score_threshold_between_0_and_1_is_read(threshold: float | None, taken: float | None) -> None:
    found = of(tiny(tflite_metadata(threshold=threshold))).outputs[-1]

    assert found.threshold == (None if taken is None else pytest.approx(taken))
    assert found.name == "probability"
