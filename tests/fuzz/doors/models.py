"""Models: files of every kind that the tests of `inspect` make, spoiled through the tables of the format and in its bytes."""

from __future__ import annotations

import contextlib
import functools
import inspect as python_inspect
import io
import itertools
import tempfile
import zipfile
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.places import bundled_folder
from edgeannot.card_inference import RANGES, Hints, parse_anchors, parse_range, propose
from edgeannot.library import modelstore
from edgeannot.tflite.file import at_size, parse_tflite
from edgeannot.tflite.metadata import read_metadata
from edgeannot_tools.inspect.command import as_json
from edgeannot_tools.inspect.inspection import inspect_file
from edgeannot_tools.inspect.tables import print_inspection
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.forked import forked_trials
from tests.fuzz.numbers import WORDS, overwrite, spoil
from tests.fuzz.tables import change_tables
from tests.fuzz.words import NUMBERS, change_text
from tests.tflite.test_file import random_net

MOST_SEED = 300_000
"""Bytes of a made model: larger ones only cost time."""
ANCHORS = ("yolov3-tiny", "1,2 3,4 5,6 10,12 14,16 18,20", "10,14 23,27 37,58", *WORDS, *NUMBERS)
HEADS = ("yolo-rows", "yolo-grid", "ssd-anchors", "split", "classify", "dfl", "no-such-head")


class TheDoor(Door):
    """`edgeannot models add` and `edgeannot inspect`, with the sample run on the runtime."""

    modules = (
        "edgeannot/tflite/file.py", "edgeannot/tflite/flatbuffer.py", "edgeannot/tflite/shapes.py", "edgeannot/tflite/schema.py",
        "edgeannot/tflite/detector_metadata.py", "edgeannot/tflite/metadata.py", "edgeannot/tflite/trace.py",
        "edgeannot/library/modelstore.py", *(
            f"edgeannot/card_inference/{name}.py" for name in (
                "__init__", "boxes", "facts", "hints", "interpretation", "labels", "maps", "one_map", "pairs", "preprocess",
                "rows", "scores", "single", "ssd", "suppressed",
            )
        ),
        *(f"tools/edgeannot_tools/inspect/{name}.py" for name in ("command", "delegate", "inspection", "lints", "tables")),
    )  # fmt: skip
    cpu_s = 60.0

    def seeds(self) -> list[Case]:
        small = [case for case in made_models() if len(case.body) < MOST_SEED]
        sizable = [Case("tflite", random_net(32))] * (len(small) // 8)
        return small * 3 + sizable + [Case("tflite", path.read_bytes()) for path in sorted(bundled_folder().glob("e*.tflite"))]

    def mutate(self, rng: Random, case: Case) -> Case:
        choice = rng.random()
        about = dict(case.about)
        if choice < 0.55 and len(case.body) < MOST_SEED:
            return Case("tflite", change_tables(rng, case.body), about)
        if choice < 0.75:
            return Case("tflite", overwrite(rng, case.body, (4,)), about)
        if choice < 0.82:
            return Case("tflite", spoil(rng, case.body), about)
        if choice < 0.92:
            return Case("tflite", with_zip(rng, case.body), about)
        if choice < 0.94:
            about["anchors"] = rng.choice(ANCHORS)
        elif choice < 0.96:
            about["range"] = rng.choice(("0..1", "-1..1", "127/128", "1,2,3/4,5,6", *WORDS, *NUMBERS))
        elif choice < 0.98:
            about["head"] = rng.choice(HEADS)
        else:
            about["names"] = rng.choice(([], ["a"], [str(i) for i in range(80)], ["???"] * 3))
        return Case("tflite", case.body, about)

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        path = folder / "model.tflite"
        path.write_bytes(case.body)
        model = parse_tflite(case.body, str(path))
        visit.past_first = True
        read_metadata(model)
        with contextlib.suppress(EdgeannotError):
            at_size(case.body, 64)
        with contextlib.suppress(EdgeannotError):
            found = inspect_file(path, run=len(case.body) % 61 == 0)
            as_json(found)
            print_inspection(found, Console(file=io.StringIO(), width=120), layers=True, tensors=True)
        labels = None
        if case.about.get("names"):
            labels = folder / "names.txt"
            labels.write_text("\n".join(case.about["names"]))
        anchors = case.about.get("anchors")
        numbers = case.about.get("range")
        hints = Hints(
            head=case.about.get("head"),
            labels=labels,
            anchors=None if anchors is None else parse_anchors(anchors),
            input_range=None if numbers is None else parse_range(numbers, RANGES),
        )
        with contextlib.nullcontext() if len(case.body) % 59 == 0 else forked_trials():
            proposal = propose(path, hints)
        modelstore.add(proposal, folder / "models")
        modelstore.remove(proposal.card.name, folder / "models")


NOTES = (
    ("labels.txt", b"cat\ndog\nperson\n"),
    (
        "metadata.json",
        b'{"task": "detect", "stride": 32, "imgsz": [96, 96], "names": {"0": "cat", "1": "dog"}, "end2end": false, "args": {"nms": true}}',
    ),
    ("temp_meta.txt", b"{'task': 'detect', 'stride': 32, 'imgsz': [96, 96], 'names': {0: 'cat', 1: 'dog'}, 'kpt_shape': [17, 3]}"),
)


def with_zip(rng: Random, raw: bytes) -> bytes:
    """The file with an archive of notes behind it, some of them spoiled."""
    file = io.BytesIO()  # joined behind: what lies there already may be an archive that zipfile refuses
    with zipfile.ZipFile(file, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, text in rng.sample(NOTES, rng.randrange(1, 4)):
            told = change_text(rng, text) if rng.random() < 0.7 else text
            archive.writestr(
                zipfile.ZipInfo(name if rng.random() < 0.9 else rng.choice(("../x.txt", "\x1b[31m.txt", "a" * 300 + ".txt"))), told
            )
    joined = file.getvalue()
    return raw + (joined if rng.random() < 0.7 else spoil(rng, joined))


class _TakenError(Exception):
    pass


@functools.cache
def made_models() -> tuple[Case, ...]:
    """Every model that the tests of `inspect` propose a card for, with what they say about it."""
    from tests.card_inference import test_inference, test_scores, test_ssd_kinds

    found: list[Case] = []

    def take(raw: bytes, *, names: Any = (), head: str | None = None, **_: Any) -> None:
        found.append(Case("tflite", raw, {"names": list(names), "head": head}))
        raise _TakenError

    with tempfile.TemporaryDirectory() as folder:
        for name, test in sorted((vars(test_inference) | vars(test_scores) | vars(test_ssd_kinds)).items()):
            if not name.startswith("test_") or "propose_raw" not in python_inspect.signature(test).parameters:
                continue
            for arguments in _rows(test):
                fixtures = {"propose_raw": take} | (
                    {"tmp_path": Path(folder)} if "tmp_path" in python_inspect.signature(test).parameters else {}
                )
                with contextlib.suppress(_TakenError):
                    test(**arguments, **fixtures)
    return tuple(found)


def _rows(test: Any) -> list[dict[str, Any]]:
    """The arguments of a test that is played with several."""
    marks = [mark.args for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    rows: list[dict[str, Any]] = [{}]
    for names, values in marks:
        keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
        given = [dict(zip(keys, value if len(keys) > 1 else (value,), strict=True)) for value in (getattr(v, "values", v) for v in values)]
        rows = [a | b for a, b in itertools.product(rows, given)]
    return rows
