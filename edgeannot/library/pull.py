"""Brings a model of the catalogue into the folder of added models: fetch, check, convert and quantize where it has to be, prove, add."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

from edgeannot.base.errors import CardError, ConfigError, EdgeannotError, InputError, install
from edgeannot.base.registry import entry_points
from edgeannot.base.runtimes import Runtime
from edgeannot.card_inference import RANGES, Hints, Proposal, parse_range, propose
from edgeannot.library import modelstore
from edgeannot.library.catalogue import LABEL_SUFFIX, Entry, FileEntry, class_names
from edgeannot.library.obtain import PullOptions, obtain, remove_downloads, with_given_sha256, with_known_sha256, working_folder
from edgeannot.vision.cards import ModelCard, read_card

__all__ = ["Pulled", "installed", "pull"]


@dataclass(frozen=True, slots=True)
class Pulled:
    """What came of it."""

    card: ModelCard
    fresh: bool
    """False: it was there already."""
    files: tuple[FileEntry, ...] = ()
    """Each with the hash that it was checked against."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Where each file came from."""
    said: tuple[str, ...] = ()
    """What was found and done, a sentence each."""


def installed(entry: Entry, folder: Path) -> ModelCard | None:
    """Return the entry's model where it is in `folder` already, whole and of the same source; None where it is not, or is another."""
    path = folder / f"{entry.name}.toml"
    if not path.is_file():
        return None
    try:
        card = read_card(path)
        card.verify_file()
    except CardError:
        return None
    if entry.main.sha256 is None:  # what was pinned when it was pulled holds
        return card if card.provenance.made_by.startswith(_made_by(entry)) else None
    return card if card.provenance.source_sha256 == entry.main.sha256 else None


def pull(entry: Entry, options: PullOptions) -> Pulled:
    """Add the entry's model, unless it is there.

    Raises LinkError (nothing to be fetched from), MissingError, InputError (another file, another model of that name, no room), ConfigError
    (not agreed to, no hash to hold it to, a tool is missing), ModelError (this runtime cannot run it).
    """
    entry = with_given_sha256(entry, options)
    if not options.force and (card := installed(entry, options.models)) is not None:
        return Pulled(card, fresh=False)
    if not options.force and (options.models / f"{entry.name}.toml").exists():
        raise InputError(f"there is another model called {entry.name} in {options.models}; remove it, or replace it with --force")
    if entry.accept and not options.accepted:
        raise ConfigError(f"{entry.name} is under {entry.license}, which asks: {entry.accept}; add --accept-licence if you agree")
    tools = find_tools(entry)
    try:
        with working_folder(options.downloads) as work:
            pinned = [with_known_sha256(file, entry, options, work) for file in entry.files]
            files = tuple(file for file, _ in pinned)
            places = {file.name: place or obtain(file, options, work) for file, place in pinned}
            # With a hash of the catalogue, a mirror's and a local copy have the makers' bytes.
            sources = [str(listed.sources[0]) if listed.sha256 else places[listed.name] for listed in entry.files]
            entry = entry.model_copy(update={"files": files})
            try:
                proposal = _proposal(entry, work, "; ".join(sources), tools.convert, options)
                if tools.quantize is not None:
                    proposal = _quantized(entry, proposal, work, tools.quantize, options)
                modelstore.run_once(proposal.card, options.runtime)
            except EdgeannotError as exc:  # the folder is gone when this is read
                exc.args = (f"{entry.name}, from {'; '.join(sources)}: {str(exc).replace(f'{work}/', '')}",)
                raise
            card = modelstore.add(proposal, options.models, replace=True)
    except OSError as exc:
        where = exc.filename2 or exc.filename or options.downloads  # of a copy that fails the first is where it came from
        raise InputError(f"{entry.name} cannot be stored: {where}: {exc.strerror or exc}") from exc
    remove_downloads(entry, options.downloads)
    return Pulled(card, fresh=True, files=files, places=places, said=(*proposal.evidence, *proposal.assumptions))


def _made_by(entry: Entry) -> str:
    return f"edgeannot models pull {entry.name}"


def _proposal(entry: Entry, work: Path, source: str, convert: Converter | None, options: PullOptions) -> Proposal:
    """Return the entry's model with its card, in `work`, and what was found out or done."""
    facts = {
        "source": source,
        "source_sha256": str(entry.main.sha256),
        "license": entry.license,
        "made_by": _made_by(entry),
    }
    hints = _hints(entry, _label_file(entry, work), facts)
    if convert is not None:
        return _converted(entry, work, hints, facts, convert, options)
    proposal = propose(work / entry.main.name, hints, runtime=options.runtime)
    return replace(proposal, evidence=_without_folder(proposal.evidence, work))


def _hints(entry: Entry, labels: Path | None, provenance: dict[str, str]) -> Hints:
    facts = entry.card
    extra: dict[str, Any] = {f"provenance.{key}": value for key, value in provenance.items()}
    extra |= {"description": entry.description, "macs": facts.macs, "variant_of": facts.variant_of}
    extra["measured"] = [row.model_dump() for row in entry.measured]
    extra |= dict(_dotted(facts.set))
    return Hints(
        name=entry.name,
        labels=labels,
        label_offset=facts.label_offset,
        input_range=None if facts.input_range is None else parse_range(facts.input_range, RANGES),
        color=facts.color,
        resize=facts.resize,
        min_score=facts.min_score,
        extra=extra,
    )


def _dotted(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a table's fields by their dotted names, however TOML nests them."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _label_file(entry: Entry, work: Path) -> Path | None:
    """Return the file of class names: fetched with the model, or written from the catalogue's list; None where the entry has none."""
    if (fetched := next((work / file.name for file in entry.files if file.name.endswith(LABEL_SUFFIX)), None)) is not None:
        return fetched
    if not (names := class_names(entry)):
        return None
    path = work / f"{entry.name}.labels.txt"
    path.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return path


def _converted(entry: Entry, work: Path, hints: Hints, provenance: Mapping[str, str], convert: Converter, options: PullOptions) -> Proposal:
    """Return the float model that the tools make of the files."""
    options.say(f"converting {entry.contents} to TFLite")
    sources = [work / file.name for file in entry.files if not file.name.endswith(LABEL_SUFFIX)]
    out = work / "converted" / f"{entry.name}.tflite"
    notes = convert(sources, out, entry.name, hints, provenance["made_by"])
    card = read_card(out.with_suffix(".toml"))
    made_by = f"{provenance['made_by']}: converted from {entry.contents}"
    changed = card.model_copy(
        update={
            "description": entry.description,
            "provenance": card.provenance.model_copy(update={**provenance, "made_by": made_by}),
            "measured": entry.measured,
            "variant_of": entry.card.variant_of,
        }
    )
    said = (f"converted {entry.contents} to float32 TFLite with the tools", *_without_folder(notes, work))
    return Proposal(changed, out, said, ())


def _quantized(entry: Entry, proposal: Proposal, work: Path, quantize: Quantizer, options: PullOptions) -> Proposal:
    """Return the int8 model that the tools make of a float one. Raises InputError where it lost too much."""
    options.say("quantizing to int8; this may take a few minutes")
    source = modelstore.add(proposal, work / "float")
    out = work / "int8" / f"{entry.name}.tflite"
    notes = quantize(work / "float" / f"{source.name}.toml", out, entry.name, options.images, options.runtime)
    # The catalogue's figures are of the model that its own pictures calibrate.
    card = read_card(out.with_suffix(".toml")).model_copy(update={"measured": entry.measured if options.images is None else ()})
    return replace(proposal, card=card, source=out, evidence=(*proposal.evidence, *_without_folder(notes, work)))


def _without_folder(sentences: tuple[str, ...], work: Path) -> tuple[str, ...]:
    """Return sentences without the path of a folder that is gone when they are read."""
    return tuple(sentence.replace(f"{work}/", "") for sentence in sentences)


class Converter(Protocol):
    """An entry point of the group `edgeannot.converters`, by the ending of the file that holds the weights."""

    def __call__(self, sources: Sequence[Path], out: Path, name: str, hints: Hints, made_by: str) -> tuple[str, ...]:
        """Write `out` (a float .tflite) with card and class names beside it, all or nothing; what was done, a sentence each.

        Raises EdgeannotError.
        """


class Quantizer(Protocol):
    """The entry point `int8` of the group `edgeannot.quantizers`."""

    def __call__(self, card: Path, out: Path, name: str, images: str | None, runtime: Runtime) -> tuple[str, ...]:
        """Write `out` (an int8 .tflite) of the card's float model, with card and class names, all or nothing; what was found, a sentence
        each. images: the pictures to calibrate with, a folder or a pattern.

        Raises EdgeannotError, also where the int8 model lost too much.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """What an entry needs; None: it does without."""

    convert: Converter | None = None
    quantize: Quantizer | None = None


def find_tools(entry: Entry) -> Tools:
    """Return what the entry needs. Raises ConfigError that says what to install where it is not here."""
    ending = entry.main.name.rpartition(".")[2].lower()
    convert = _load(entry, "edgeannot.converters", ending, f"a converter of .{ending} files") if entry.converted else None
    quantize = _load(entry, "edgeannot.quantizers", "int8", "a quantizer") if entry.quantize else None
    return Tools(cast("Converter | None", convert), cast("Quantizer | None", quantize))


def _load(entry: Entry, group: str, name: str, needs: str) -> Any:
    """Return what an installed package offers under that name. Raises ConfigError where none can be used."""
    offered = next((each for each in entry_points(group) if each.name == name), None)
    cause = None
    try:
        if offered is not None:
            return offered.load()
    except ModuleNotFoundError as exc:
        package = (exc.name or "edgeannot").split(".")[0]
        if package == "edgeannot":
            raise
        cause, needs = exc, f"the Python package {package!r}"
    done = " and ".join(word for word, has in (("converted", entry.converted), ("quantized", entry.quantize)) if has)
    raise ConfigError(
        f"{entry.name} comes as {entry.contents} and is {done} on this machine, which needs {needs}: {install('tools')}, "
        "or pull it on another machine and bring it with `edgeannot models add`"
    ) from cause
