"""Reads an unknown .tflite and proposes a model card, with the evidence for each fact; never guesses in silence.

The graph and its metadata come first (`facts`, `trace`), then a run on a few pictures (`trial`). Each rule gives the readings
that fit; two that fit are an AmbiguousModelError that names the flags to choose with, none is a refusal that says what was seen.
What only a family's convention settles is listed in `Proposal.doubts`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from edgeannot.base.errors import CardError, InputError, ModelError
from edgeannot.card_inference.facts import Facts, read_facts
from edgeannot.card_inference.hints import ANCHOR_SETS, Wishes, parse_anchors, parse_range, read_cfg
from edgeannot.card_inference.interpretation import RANGES, AmbiguousModelError, Known, Reading
from edgeannot.card_inference.label_files import read_labels
from edgeannot.card_inference.layers import read_layers
from edgeannot.card_inference.maps import read_maps
from edgeannot.card_inference.naming import fit_names, names_by_class
from edgeannot.card_inference.pairs import read_pairs
from edgeannot.card_inference.postprocess import read_postprocess, read_suppressed
from edgeannot.card_inference.preprocess import propose_input, stated_numbers
from edgeannot.card_inference.rows import read_end_to_end, read_rows
from edgeannot.card_inference.seen import what_it_is
from edgeannot.card_inference.single import read_single
from edgeannot.card_inference.trial import Trial, fitted, invented_pictures, run_trial
from edgeannot.tflite.file import read_tflite
from edgeannot.vision.cards import CARD_SCHEMA, MAX_NAME, ModelCard, what_is_wrong
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.engine import Runtime
from edgeannot.vision.heads import AnyHead
from edgeannot.vision.preprocess import byte_table

__all__ = [
    "ANCHOR_SETS",
    "RANGES",
    "AmbiguousModelError",
    "Proposal",
    "Wishes",
    "parse_anchors",
    "parse_range",
    "propose",
    "read_cfg",
    "read_labels",
]

FIRST_RULES = (read_postprocess, read_suppressed, read_end_to_end)
"""Rules that rest on an operator or on names; when one fits, the others are not asked."""
OTHER_RULES = (read_rows, read_pairs, read_layers, read_maps, read_single)
KINDS = tuple(str(field.default) for kind in get_args(AnyHead) for field in fields(kind) if field.name == "kind")
"""Every word that `--head` takes."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A card for a model, and the reasons. The card's folder is where the model lies now; its names are in the card itself."""

    card: ModelCard
    source: Path
    evidence: tuple[str, ...]
    """What was found and what follows from it, one sentence each."""
    doubts: tuple[str, ...]
    """What was settled by a family's convention only, with the flag that changes it."""


def propose(path: Path, wishes: Wishes | None = None, *, runtime: Runtime = "auto", photos: Sequence[UInt8Array] = ()) -> Proposal:
    """A card for the .tflite at `path`.

    photos: any pictures, (H, W, 3) uint8 BGR, to run the model on beside invented ones; real things in them make the answer surer.
    Raises MissingError (no such file), ModelError (it cannot run or detects nothing), AmbiguousModelError, CardError (names and
    classes disagree), InputError (a flag does not fit the model).
    """
    wishes = wishes or Wishes()
    model = read_tflite(path)
    facts = read_facts(model, str(path))
    names, where = _names(facts, wishes)
    trial = _trial(facts, wishes, runtime, photos)
    known = Known(facts, trial, wishes, names)
    reading = _one_reading(known)
    offset, names_why = fit_names(names, where, reading, wishes)
    names, offset = names_by_class(names, offset, reading)
    card_input, input_why, doubts = propose_input(facts, reading, wishes)
    table: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "name": wishes.name or _name_of(path),
        "description": facts.metadata.exporter.description if facts.metadata.exporter else facts.metadata.description,
        "file": path.name,
        "sha256": hashlib.sha256(model.raw).hexdigest(),
        "task": reading.task,
        "family": reading.family,
        "input": card_input.model_dump(),
        "head": {key: value for key, value in asdict(reading.head).items() if value is not None},
        "labels": {"names": names, "offset": offset},
        "defaults": _defaults(wishes, reading),
        "provenance": {"source": path.name, "license": _license(facts)},
    }
    for key, value in wishes.extra.items():
        _set(table, key, value)
    card = _card(table, path)
    _prove(card, facts, trial)
    evidence = (*reading.because, *input_why, names_why, *facts.metadata.notes)
    return Proposal(card, path, evidence, (*doubts, *reading.doubts))


def _names(facts: Facts, wishes: Wishes) -> tuple[tuple[str, ...], str]:
    """Class names and where they come from: the user's file, the exporter's, or the one appended to the model."""
    if wishes.labels is not None:
        return read_labels(wishes.labels), str(wishes.labels)
    if facts.metadata.exporter and facts.metadata.exporter.names:
        return facts.metadata.exporter.names, f"{facts.metadata.exporter.file} in the file"
    if appended := facts.metadata.label_file():
        return appended[1], f"{appended[0]} in the file"
    return (), ""


def _trial(facts: Facts, wishes: Wishes, runtime: Runtime, photos: Sequence[UInt8Array]) -> Trial:
    numbers = stated_numbers(facts, wishes)
    mean, std = (numbers.mean, numbers.std) if numbers else RANGES["0..1"]
    try:
        pictures = [*invented_pictures(facts.picture), *(fitted(photo, facts.picture) for photo in photos)]
        return run_trial(facts, pictures, mean, std, runtime)
    except MemoryError as exc:
        size = f"{facts.picture.width}x{facts.picture.height}"
        raise ModelError(f"model {facts.path}: pictures of its input size, {size}, need more memory than there is") from exc


def _one_reading(known: Known) -> Reading:
    """The reading that fits. Raises AmbiguousModelError for two, ModelError for none."""
    facts, wished = known.facts, known.wishes.head
    readings = next((found for rule in FIRST_RULES if (found := rule(known))), [])
    if not readings or (wished and all(reading.head.kind != wished for reading in readings)):
        readings = readings + [reading for rule in OTHER_RULES for reading in rule(known)]
    kinds = sorted({reading.head.kind for reading in readings})
    if wished and wished not in KINDS:
        raise InputError(f"--head: wanted one of {', '.join(KINDS)}; found {wished!r}")
    if wished:
        readings = [reading for reading in readings if reading.head.kind == wished]
        if not readings:
            raise ModelError(
                f"model {facts.path}: does not read as --head {wished}: {facts.describe_outputs()}; "
                f"what fits: {', '.join(kinds) or 'nothing known'}"
            )
    if not readings:
        raise ModelError(f"model {facts.path}: {what_it_is(known)}; its outputs: {facts.describe_outputs()}")
    if len(readings) > 1:
        ways = "; or ".join(f"{reading.head.kind} ({reading.because[0]}, {reading.classes} classes)" for reading in readings)
        raise AmbiguousModelError(
            f"model {facts.path}: two readings fit: {ways}", [*(f"--head {kind}" for kind in kinds if len(kinds) > 1), "--labels FILE"]
        )
    return readings[0]


def _defaults(wishes: Wishes, reading: Reading) -> dict[str, Any]:
    if wishes.min_score is not None:
        return {"min_score": wishes.min_score}
    # A classifier spreads its score over many alike classes; 0.1 shows the runners-up, 0.3 would often show nothing.
    return {"min_score": 0.1} if reading.task == "classify" else {}


def _license(facts: Facts) -> str:
    return facts.metadata.exporter.license if facts.metadata.exporter else facts.metadata.license


def _name_of(path: Path) -> str:
    """A card's name from a file's: lower case, digits, dots, dashes."""
    name = re.sub(r"[^a-z0-9._-]+", "-", path.stem.lower()).strip("-._")
    return name[:MAX_NAME].strip("-._") or "model"


def _set(table: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    for folder in folders:
        table = table.setdefault(folder, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {key}: {folder} is no table of the card")
    table[last] = value


def _card(table: dict[str, Any], path: Path) -> ModelCard:
    try:
        return ModelCard.model_validate(table).in_folder(path.parent)
    except ValidationError as exc:
        raise CardError(f"the card for {path} cannot be written: {what_is_wrong(exc)}") from exc


def _prove(card: ModelCard, facts: Facts, trial: Trial) -> None:
    """Raises ModelError where the input cannot be fed, or the head cannot read what the trial gave (a step too coarse for boxes)."""
    try:
        byte_table(card.input.mean, card.input.std, trial.input)
        card.head.check(trial.specs, card.input_wh)
        card.head.decode(trial.outputs, card.input_wh, card.defaults.min_score)
    except CardError as exc:
        raise ModelError(f"model {facts.path}: reads as {card.head.kind}, but cannot be used so: {exc}") from exc
