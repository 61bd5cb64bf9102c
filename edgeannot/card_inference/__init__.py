"""Reads an unknown .tflite and proposes a model card, with the evidence for each fact; never guesses in silence.

The graph and its metadata come first (`trace`), then a run on a few pictures (`facts`). Each rule gives the interpretations
that fit; two that fit are an AmbiguousModelError that names the flags to choose with, none is a refusal that says what was seen.
What only a family's convention settles is listed in `Proposal.assumptions`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgeannot.base.errors import CardError, InputError, ModelError, OutputError
from edgeannot.base.foreign import model_name
from edgeannot.card_inference.facts import Facts, SampleRun, fitted, invented_pictures, read_facts, run_samples
from edgeannot.card_inference.hints import ANCHOR_SETS, Hints, parse_anchors, parse_range, read_cfg
from edgeannot.card_inference.interpretation import RANGES, AmbiguousModelError, Assumed, Assumption, Convention, Interpretation, Known
from edgeannot.card_inference.labels import fit_names, names_by_class, read_labels
from edgeannot.card_inference.maps import read_maps
from edgeannot.card_inference.one_map import read_one_map
from edgeannot.card_inference.pairs import read_by_metadata, read_pairs
from edgeannot.card_inference.preprocess import propose_input, stated_numbers
from edgeannot.card_inference.rows import read_rows
from edgeannot.card_inference.single import read_single, what_it_is
from edgeannot.card_inference.ssd import read_blaze_layers, read_layers
from edgeannot.card_inference.suppressed import read_end_to_end, read_postprocess, read_suppressed
from edgeannot.tflite.file import read_tflite
from edgeannot.vision.cards import CARD_SCHEMA, ModelCard, read_head, what_is_wrong
from edgeannot.vision.data import UInt8Array
from edgeannot.vision.engine import Runtime
from edgeannot.vision.heads import HEADS, reader_of
from edgeannot.vision.preprocess import byte_table

__all__ = [
    "ANCHOR_SETS",
    "RANGES",
    "AmbiguousModelError",
    "Hints",
    "Proposal",
    "parse_anchors",
    "parse_range",
    "propose",
    "read_cfg",
    "read_labels",
]

FIRST_RULES = (read_postprocess, read_by_metadata, read_suppressed, read_end_to_end, read_blaze_layers, read_one_map)
"""Rules that rest on an operator, names, what the file says or how numbers add up; when one fits, the others are not asked."""
OTHER_RULES = (read_rows, read_pairs, read_layers, read_maps, read_single)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A card for a model, and the reasons. The card's folder is where the model lies now; its names are in the card itself."""

    card: ModelCard
    source: Path
    evidence: tuple[str, ...]
    """What was found and what follows from it, one sentence each."""
    assumptions: tuple[str, ...]
    """What was settled by a family's convention only, with the option that changes it."""
    named: bool = True
    """Whether the user or the file gave the names of the classes; else the card has them from here."""


def propose(path: Path, hints: Hints | None = None, *, runtime: Runtime = "auto", photos: Sequence[UInt8Array] = ()) -> Proposal:
    """Return a card for the .tflite at `path`.

    photos: any pictures, (H, W, 3) uint8 BGR, to run the model on beside invented ones; real things in them make the answer surer.
    Raises MissingError (no such file), ModelError (it cannot run or detects nothing), AmbiguousModelError, CardError (names and
    classes disagree), InputError (a flag does not fit the model).
    """
    hints = hints or Hints()
    model = read_tflite(path)
    facts = read_facts(model, str(path))
    names, where = _names(facts, hints)
    run = _run(facts, hints, runtime, photos)
    known = Known(facts, run, hints, names)
    interpretation = _one_interpretation(known)
    offset, names_why = fit_names(names, where, interpretation, hints)
    named = bool(names)
    names, offset = names_by_class(names, offset, interpretation)
    card_input, input_why, assumptions = propose_input(facts, interpretation, hints)
    threshold = next((tensor.threshold for tensor in facts.metadata.outputs if tensor.threshold), None)
    by_file = facts.metadata.exporter or facts.metadata
    table: dict[str, Any] = {
        "schema": CARD_SCHEMA,
        "name": hints.name or model_name(path.stem),
        "description": by_file.description,
        "file": path.name,
        "sha256": hashlib.sha256(model.raw).hexdigest(),
        "task": interpretation.task,
        "family": interpretation.convention.family,
        "input": card_input.model_dump(),
        "head": {key: value for key, value in asdict(interpretation.head).items() if value is not None},
        "labels": {"names": names, "offset": offset},
        "defaults": _defaults(hints, interpretation, threshold),
        "provenance": {"source": path.name, "license": by_file.license},
    }
    for key, value in hints.extra.items():
        _set(table, key, _as_the_head_has_it(interpretation, key, value))
    card = _card(table, path)
    _prove(card, facts, run)
    stated = () if threshold is None else (f"the file's metadata states a score threshold of {threshold:.3g}",)
    evidence = (*interpretation.evidence, *input_why, names_why, *stated, *facts.metadata.notes)
    assumptions += [*interpretation.assumptions, *_of_scores(interpretation, named=named)]
    # What a field settles that the user has set is not assumed.
    left = (said for said in assumptions if not hints.extra.keys() & set(re.findall(r"--set ([\w.]+)=", said)))
    return Proposal(card, path, evidence, tuple(left), named=named)


ACTIVATED = {"sigmoid": Assumption.LOGITS, "softmax": Assumption.SOFTMAX, "percent": Assumption.PERCENTAGES}


def _of_scores(interpretation: Interpretation, *, named: bool) -> Iterator[Assumed]:
    """Yield what is assumed of the stored scores: what makes probabilities of them, and which column stands for no object."""
    done = ACTIVATED.get(getattr(interpretation.head, "activation", "none"))
    if done and not interpretation.scores_settled and Assumption.CLASS_SIGMOIDS.of() not in interpretation.assumptions:
        yield done.of()
    if interpretation.head.kind == "ssd-anchors" and interpretation.background == 0 and not named:
        yield Assumption.BACKGROUND.of(columns=interpretation.classes)


def _names(facts: Facts, hints: Hints) -> tuple[tuple[str, ...], str]:
    """Return class names and where they come from: the user's file, the exporter's, or the one appended to the model."""
    if hints.labels is not None:
        return read_labels(hints.labels), str(hints.labels)
    if facts.metadata.exporter and facts.metadata.exporter.names:
        return facts.metadata.exporter.names, f"{facts.metadata.exporter.file} in the file"
    if appended := facts.metadata.label_file():
        return appended[1], f"{appended[0]} in the file"
    return (), ""


def _run(facts: Facts, hints: Hints, runtime: Runtime, photos: Sequence[UInt8Array]) -> SampleRun:
    numbers = stated_numbers(facts, hints)
    mean, std = (numbers.mean, numbers.std) if numbers else RANGES["0..1"]
    try:
        pictures = [*invented_pictures(facts.picture), *(fitted(photo, facts.picture) for photo in photos)]
        return run_samples(facts, pictures, mean, std, runtime)
    except MemoryError as exc:
        size = f"{facts.picture.width}x{facts.picture.height}"
        raise ModelError(f"model {facts.path}: pictures of its input size, {size}, need more memory than there is") from exc


def _one_interpretation(known: Known) -> Interpretation:
    """Return the interpretation that fits. Raises AmbiguousModelError for two, ModelError for none."""
    facts, kind_hint = known.facts, known.hints.head
    if kind_hint and kind_hint not in HEADS.built_in:
        return _of_package(kind_hint, known.hints)
    interpretations = next((fits for rule in FIRST_RULES if (fits := rule(known))), [])
    if not interpretations or (kind_hint and all(found.head.kind != kind_hint for found in interpretations)):
        interpretations = interpretations + [found for rule in OTHER_RULES for found in rule(known)]
    kinds = sorted({found.head.kind for found in interpretations})
    if kind_hint:
        interpretations = [found for found in interpretations if found.head.kind == kind_hint]
        if not interpretations:
            raise ModelError(
                f"model {facts.path}: does not fit --head {kind_hint}: {facts.describe_outputs()}; "
                f"what fits: {', '.join(kinds) or 'nothing known'}"
            )
    if not interpretations:
        raise ModelError(f"model {facts.path}: {what_it_is(known)}; its outputs: {facts.describe_outputs()}")
    if len(interpretations) > 1:
        ways = "; or ".join(f"{found.head.kind} ({found.evidence[0]}, {found.classes} classes)" for found in interpretations)
        flags = [f"--head {kind}" for kind in kinds if len(kinds) > 1]
        raise known.ambiguous(f"two interpretations fit: {ways}", [*flags, "--labels FILE"])
    return interpretations[0]


def _of_package(kind: str, hints: Hints) -> Interpretation:
    """Take what an installed package adds on the user's word, with the fields of `--set head.FIELD=VALUE`. Raises InputError."""
    if not HEADS.offers(kind):
        raise InputError(f"--head: wanted one of {', '.join(HEADS.built_in)}, or one that an installed package adds; found {kind!r}")
    HEADS.find(kind)
    fields = {key.removeprefix("head."): value for key, value in hints.extra.items() if key.startswith("head.")}
    try:
        head = read_head({"kind": kind, **fields})
    except ValidationError as exc:
        raise InputError(f"--head {kind}: {what_is_wrong(exc)}; give the head's fields with --set head.FIELD=VALUE") from exc
    evidence = f"--head says that the outputs are for {kind}, of the package {HEADS.package(kind)}"
    return Interpretation(head, Convention.OF_PACKAGE, (evidence,))


def _defaults(hints: Hints, interpretation: Interpretation, threshold: float | None) -> dict[str, Any]:
    """Return what holds where the settings say nothing. threshold: the smallest score that counts, as the file states it."""
    # A classifier spreads its score over many alike classes; 0.1 shows the runners-up, 0.3 would often show nothing. For FOMO the score
    # also decides which cells touch; this is Edge Impulse's own.
    least = {"classify": 0.1, "fomo": 0.5}.get(interpretation.head.kind) if threshold is None else round(threshold, 4)
    least = least if hints.min_score is None else hints.min_score
    return {} if least is None else {"min_score": least}


def _as_the_head_has_it(interpretation: Interpretation, key: str, value: Any) -> Any:
    """Return an output named by `--set head.FIELD=OUTPUT` as a list where the head has a list of outputs there, and the other way round."""
    field = getattr(interpretation.head, key.removeprefix("head."), None) if key in {"head.boxes", "head.scores"} else None
    if isinstance(field, tuple) and not isinstance(value, list):
        return [value]
    return value[0] if isinstance(field, str | int) and isinstance(value, list) and len(value) == 1 else value


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


def _prove(card: ModelCard, facts: Facts, run: SampleRun) -> None:
    """Raise ModelError where the input cannot be fed, or the head cannot read what the sample run gave (a step too coarse for boxes)."""
    try:
        byte_table(card.input.mean, card.input.std, run.input)
        reader = reader_of(card.head)
        reader.check(run.specs, card.input_wh)
        reader.decode(run.outputs, card.input_wh, card.defaults.min_score)
    except (CardError, OutputError) as exc:
        raise ModelError(f"model {facts.path}: its outputs fit {card.head.kind}, but the model cannot be used: {exc}") from exc
