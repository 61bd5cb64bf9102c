"""The card of a converted graph that no cfg describes: read off the graph as `edgeannot models add` does, boxes and scores apart."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import edgeannot
from edgeannot.base.errors import ModelError
from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.vision.cards import ModelCard
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.decode import read_picture
from edgeannot_tools.convert.conversion import CLASS_NAMES_HINT, Converted, Request
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.quantize.split_maps import split_maps
from edgeannot_tools.quantize.split_rows import split_card

__all__ = ["describe", "with_card"]

PHOTO_SIDE = 640
FILE_FACTS = {"schema_", "name", "file", "sha256", "macs", "measured"}


def with_card(graph: Graph, source: Path, request: Request, *, names: Sequence[str] = (), model: Path | None = None) -> Converted:
    """A converted graph with its card, where its outputs are understood; then, if asked for, with boxes and scores taken apart.

    names: class names that came with the source, for when the user gave none. model: the .tflite to read instead of the graph, where
    the source is one and holds metadata. Raises InputError or MissingError for hints that do not fit.
    """
    try:
        proposal = describe(graph, source.stem, request.hints, names, model)
    except ModelError as exc:  # CardError and AmbiguousModelError among them: the graph is right, its use is not known
        reason = str(exc).split(": ", 1)[-1]
        return Converted(graph, source.name, no_card=f"{reason} (`edgeannot models add` takes these options and more)")
    card, notes = proposal.card, []
    if request.split:
        before = len(graph.outputs)
        card = _apart(graph, card)
        if len(graph.outputs) > before:
            notes.append(f"boxes and scores are outputs of their own ({len(graph.outputs)}), so that each can have its own int8 step")
    found = card.label_names()
    if not found and card.task != "embed":
        notes.append(CLASS_NAMES_HINT)
    return Converted(
        graph,
        source=source.name,
        card=_table(card),
        names=found,
        evidence=(*proposal.evidence, *(f"by convention: {assumption}" for assumption in proposal.assumptions)),
        notes=tuple(notes),
        warnings=tuple(f"assumed, since the file does not say: {assumption}" for assumption in proposal.assumptions),
    )


def describe(graph: Graph, stem: str, hints: Hints, names: Sequence[str] = (), model: Path | None = None) -> Proposal:
    """The card that the graph's own numbers suggest; it is read from a temporary file. Raises what `inspect.propose` does."""
    with tempfile.TemporaryDirectory(prefix="edgeannot-convert-") as folder:
        path = model or Path(folder) / f"{stem or 'model'}.tflite"
        if model is None:
            path.write_bytes(graph.to_bytes())
        if names and hints.labels is None:
            listed = Path(folder) / "names.txt"
            listed.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
            hints = replace(hints, labels=listed)
        return propose(path, hints, photos=_photos())


def _photos() -> list[UInt8Array]:
    """Two sample photos: real things in a picture make ranges surer than invented ones."""
    samples = sorted((Path(edgeannot.__file__).parent / "samples").glob("*.jpg"))[:2]
    return [read_picture(path, min_side=PHOTO_SIDE).image for path in samples]


def _apart(graph: Graph, card: ModelCard) -> ModelCard:
    """The card after the last join was taken out of the graph; both as they were where that cannot be done."""
    split = split_maps(graph, card.head, card.input_wh)
    return split_card(graph, card) if split is None else card.model_copy(update={"head": split})


def _table(card: ModelCard) -> dict[str, Any]:
    """The card without what depends on the file, and without the temporary file's name."""
    table = card.model_dump(exclude=FILE_FACTS)
    table["provenance"] = {"license": card.provenance.license}
    return table
