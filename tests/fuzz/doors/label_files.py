"""Lists of class names: label files of every form, the notes inside a model, and the `classes.txt` of a folder of results."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from random import Random

from edgeannot.base.places import bundled_folder
from edgeannot.card_inference import read_labels
from edgeannot.sinks.labels import ClassList
from edgeannot.tflite.file import parse_tflite
from edgeannot.tflite.metadata import read_metadata
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.numbers import spoil
from tests.fuzz.words import change_text
from tests.metadata_maker import detector_metadata, tflite_metadata
from tests.tflite.test_metadata import tiny

NAMES = ("person", "traffic light", "hot dog", "Löwe", "名前")
TEXTS = (
    (".txt", "\n".join(NAMES) + "\n"),
    (".txt", "".join(f"{i} {name}\n" for i, name in enumerate(NAMES))),
    (".names", "".join(f"{i + 1}: '{name}'\n" for i, name in enumerate(NAMES))),
    (".yaml", f"path: x\nnc: 5\nnames: {list(NAMES)}\n"),
    (".yaml", "# classes\nnames:\n" + "".join(f"  {i}: {name}\n" for i, name in enumerate(NAMES))),
    (".yml", "names:\n" + "".join(f"- {name} # it\n" for name in NAMES) + "nc: 5\n"),
    (".yaml", "names: {" + ", ".join(f"{i}: '{name}'" for i, name in enumerate(NAMES)) + "}\n"),
    (".pbtxt", "".join(f'item {{\n  name: "/m/0{i}"\n  id: {i + 1}\n  display_name: "{name}"\n}}\n' for i, name in enumerate(NAMES))),
    (".pbtxt", "".join(f"item {{ id: {i + 1} name: '{name}' }}\n" for i, name in enumerate(NAMES))),
    (".json", '["person", "dog", "cat"]'),
    (".json", '{"names": {"0": "person", "1": "dog"}, "nc": 2}'),
    (".json", '{"id2label": {"0": "person", "1": ["n01", "dog"]}}'),
    (".json", '{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"]}'),
    ("classes", "person\n-\ndog\n"),
)
NOTES = (
    (
        "metadata.json",
        '{"description": "d", "task": "detect", "stride": 32, "imgsz": [320, 416], "names": {"0": "cat", "1": "dog"}, "end2end": true}',
    ),
    (
        "metadata.json",
        '{"names": ["cat", "dog"], "imgsz": "320, 416", "channels": 3, "args": {"nms": true, "int8": false}, "license": "AGPL"}',
    ),
    ("temp_meta.txt", "{'task': 'pose', 'stride': 32, 'imgsz': [96, 96], 'names': {0: 'person'}, 'kpt_shape': [17, 3]}"),
    ("labels.txt", "cat\ndog\n\n"),
)
DETECTOR = detector_metadata([[0.25, 0.5, 0.1, 0.2], [0.75, 0.5, 0.3, 0.4]], classes=2)


class TheDoor(Door):
    """`--labels FILE`, the archive and the tables inside a model, and the list of a folder's classes."""

    modules = (
        "edgeannot/card_inference/labels.py",
        "edgeannot/tflite/detector_metadata.py",
        "edgeannot/tflite/metadata.py",
        "edgeannot/sinks/labels.py",
    )

    def seeds(self) -> list[Case]:
        lists = [Case(".txt", path.read_bytes()) for path in sorted(bundled_folder().glob("*.labels.txt"))[:1]]
        texts = [Case(suffix, text.encode()) for suffix, text in TEXTS]
        notes = [Case("note", text.encode(), {"name": name}) for name, text in NOTES]
        return [*lists, *texts, *notes, *notes, Case("tables", tflite_metadata()), Case("tables", tflite_metadata(DETECTOR))]

    def mutate(self, rng: Random, case: Case) -> Case:
        if case.kind == "tables":
            return Case(case.kind, spoil(rng, case.body), case.about)
        about = dict(case.about)
        if case.kind == "note" and rng.random() < 0.15:
            about["spoil"] = rng.randrange(1 << 30)
            return Case(case.kind, case.body, about)
        return Case(case.kind, change_text(rng, case.body, [text.encode() for _, text in TEXTS]), about)

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        if case.kind in {"note", "tables"}:
            raw = tiny(case.body) if case.kind == "tables" else _with_note(case)
            found = read_metadata(parse_tflite(raw))
            visit.past_first = bool(found.files) or (case.kind == "tables" and not found.notes)
            found.label_file()
            return
        if case.kind == "classes":
            classes = ClassList(case.body.decode("utf-8", "replace"))
            visit.past_first = True
            classes.adopt({0: "person", 1: "dog", 7: "\udcff"})
            assert classes.number(3, "cat") >= 0
            assert classes.text().decode()
            return
        path = folder / f"names{case.kind}"
        path.write_bytes(case.body)
        names = read_labels(path)
        visit.past_first = True
        assert all(isinstance(name, str) for name in names)


def _with_note(case: Case) -> bytes:
    """A small model with the note in an archive behind it."""
    raw = tiny()
    file = io.BytesIO(raw)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(case.about["name"]), case.body)
        archive.writestr(zipfile.ZipInfo("more.txt"), "cat\ndog\n")
    whole = file.getvalue()
    rng = Random(case.about.get("spoil"))
    return whole[: len(raw)] + spoil(rng, whole[len(raw) :]) if "spoil" in case.about else whole
