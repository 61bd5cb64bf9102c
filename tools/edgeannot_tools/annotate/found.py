"""Pictures and what a model found in them, kept in a journal beside the output folder, so that an interrupted run goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeannot.base import atomicfile
from edgeannot.base.errors import FrameError, InputError, MissingError
from edgeannot.base.foreign import one_line
from edgeannot.vision.data import Annotation, Detections, Frame, ModelFacts
from edgeannot.vision.decode import read_picture
from edgeannot.vision.pipeline import Pipeline
from edgeannot_tools.datasets.pictures import PICTURE_SUFFIXES, list_files
from edgeannot_tools.output import track

__all__ = ["Found", "Journal", "annotate_pictures", "find_pictures"]

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Found:
    """One picture and what was found in it."""

    path: Path
    name: str
    """Its path below the folder that was named, with "/"."""
    size_wh: tuple[int, int] = (0, 0)
    """Of the upright picture, in pixels."""
    detections: Detections = Detections.empty()  # noqa: RUF009 - frozen, and shared by nobody who writes
    """Boxes in pixels of the picture."""
    labels: tuple[str, ...] = ()
    problem: str = ""
    """Why it could not be annotated; empty where it was."""

    @property
    def least_score(self) -> float:
        """Return the smallest score of what was found; 0 where nothing was, which is often what the model missed."""
        return float(self.detections.scores.min()) if len(self.detections.scores) else 0.0

    def annotation(self, model: ModelFacts, number: int) -> Annotation:
        """Return the same as the daemon would hand it to its sinks, without the picture's pixels."""
        taken = datetime.fromtimestamp(max(0.0, self.path.stat().st_mtime), UTC)
        frame = Frame(np.zeros((1, 1, 3), np.uint8), "annotate", number, taken, self.name, self.path, name=self.name, whole_wh=self.size_wh)
        return Annotation(frame, self.detections, self.labels, model)


def find_pictures(places: Sequence[Path]) -> dict[str, Path]:
    """Return the picture files named or in the folders named, by the names that the set will have for them, in their order.

    With several folders, each name begins with that of its folder. Raises MissingError for a place that is not there, InputError for two
    pictures of one name, or for none.
    """
    folders = [place for place in places if place.is_dir()]
    found: dict[str, Path] = {}
    for place in places:
        if place.is_dir():
            before = f"{place.resolve().name}/" if len(folders) > 1 else ""
            named = [(before + file.relative_to(place).as_posix(), file) for file in list_files(place, PICTURE_SUFFIXES)]
        elif place.is_file():
            named = [(place.name, place)]
        else:
            raise MissingError(f"no picture or folder at {place}")
        for name, file in named:
            if found.setdefault(one_line(name), file) != file:
                raise InputError(f"{found[one_line(name)]} and {file} would both be called {name}; annotate them into two sets")
    if not found:
        raise InputError(f"no picture in {', '.join(map(str, places))}; wanted files that end with {', '.join(sorted(PICTURE_SUFFIXES))}")
    return found


class Journal:
    """Results so far, a line of JSON each, in a file that is gone when the set is written.

    It holds for one model with its limits, and for files that did not change; anything else in it is left out and done again.
    """

    def __init__(self, path: Path, run: Mapping[str, Any]) -> None:
        """run: what must be the same for the results to hold. Raises InputError where the file cannot be written."""
        self.path = path
        self.gives_up = False
        """Whether there were results of a run with another model or other options."""
        self._head = json.dumps({"schema": _SCHEMA, **run}, sort_keys=True)
        self._known: dict[tuple[str, int, int], Found] = dict(self._read())
        try:
            # Written anew, whole: a line that was cut off must not be the beginning of the next.
            lines = [self._head, *(_line(key, found) for key, found in self._known.items())]
            atomicfile.write(path, "".join(f"{line}\n" for line in lines).encode())
            self._file = path.open("a", encoding="utf-8")
        except OSError as exc:
            raise InputError(f"{path} cannot be written ({exc.strerror}); choose another output folder with --out") from exc

    def __len__(self) -> int:
        """Return how many results are known."""
        return len(self._known)

    def get(self, name: str, path: Path) -> Found | None:
        """Return what was found in the file as it is now; None where it was not annotated, or is another."""
        return self._known.get(_key(name, path))

    def add(self, found: Found) -> None:
        """Remember a result."""
        self._write(_line(_key(found.name, found.path), found))

    def close(self, *, done: bool) -> None:
        """Close the file. done: and remove it."""
        self._file.close()
        if done:
            self.path.unlink(missing_ok=True)

    def _write(self, line: str) -> None:
        self._file.write(f"{line}\n")
        self._file.flush()

    def _read(self) -> Iterator[tuple[tuple[str, int, int], Found]]:
        try:
            lines = self.path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return
        if lines[0] != self._head:
            self.gives_up = len(lines) > 2
            return
        for line in lines[1:-1]:  # the last one ends without a line's end: nothing, or half a line
            try:
                name, size, time_ns, path, size_wh, rows, labels = json.loads(line)
                numbers = np.array(rows, np.float64).reshape(-1, 6)
                found = Detections(numbers[:, :4].astype(np.float32), numbers[:, 4].astype(np.float32), numbers[:, 5].astype(np.int64))
                yield (name, size, time_ns), Found(Path(path), name, (size_wh[0], size_wh[1]), found, tuple(labels))
            except (ValueError, TypeError, IndexError):
                return


def _key(name: str, path: Path) -> tuple[str, int, int]:
    facts = path.stat()
    return name, facts.st_size, facts.st_mtime_ns


def _line(key: tuple[str, int, int], found: Found) -> str:
    seen = found.detections
    objects = zip(seen.boxes.tolist(), seen.scores.tolist(), seen.classes.tolist(), strict=True)
    rows = [[*box, score, class_id] for box, score, class_id in objects]
    return json.dumps([*key, os.fspath(found.path), found.size_wh, rows, found.labels])


def annotate_pictures(pictures: Mapping[str, Path], pipeline: Pipeline, journal: Journal) -> list[Found]:
    """Annotate the pictures that the journal does not know yet; all results, in the order of the pictures.

    A picture that cannot be read or annotated has a problem, and the others go on. Raises ModelError where the model cannot run at all.
    """
    results = []
    for number, (name, path) in enumerate(track(pictures.items(), "annotating", len(pictures))):
        try:
            found = journal.get(name, path)
            if found is None:
                picture = read_picture(path)
                size = (picture.width, picture.height)
                frame = Frame(picture.image, "annotate", number, datetime.now(UTC), name, path, name=name, whole_wh=size)
                annotation = pipeline(frame)
                found = Found(path, name, size, annotation.detections, annotation.labels)
                journal.add(found)
        except FrameError as exc:
            found = Found(path, name, problem=str(exc))
        except OSError as exc:  # gone meanwhile
            found = Found(path, name, problem=f"{path}: {exc.strerror}")
        results.append(found)
    return results
