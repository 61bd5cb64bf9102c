"""Which class of a model is which class of a labelled set: by name, and by a mapping file where the names differ."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeannot.base.errors import InputError
from edgeannot.base.foreign import parse_toml, read_text
from edgeannot.vision.cards import ModelCard

__all__ = ["ClassMatch", "class_labels", "common_classes", "match_classes", "read_mapping", "with_synonyms"]


@dataclass(frozen=True, slots=True)
class ClassMatch:
    """Which classes meet, and which are left out of the comparison."""

    set_class_of: Mapping[str, int]
    """Label of the model -> class id of the set."""
    only_model: tuple[str, ...]
    """Labels that the set does not mark: detections of them are left out."""
    only_set: tuple[str, ...]
    """Classes that the model does not know: objects of them are left out."""
    merged: bool
    """Several labels of the model stand for one class of the set."""
    not_common: tuple[str, ...] = ()
    """Labels that the set does mark, but that are left out because another model does not know them."""


def match_classes(
    model_labels: Sequence[str], set_names: Sequence[str], mapping: Mapping[str, str] | None = None, ignore: Collection[str] = ()
) -> ClassMatch:
    """Match by name; upper and lower case, spaces, "-" and "_" make no difference. `mapping` (model's name -> set's name) goes first.

    Several labels may stand for one class of the set (Man, Woman -> person). ignore: labels of the model that stand for no object.
    Raises InputError when the mapping names what neither side has, or when nothing matches.
    """
    mapping = mapping or {}
    by_name = {_plain(name): number for number, name in enumerate(set_names)}
    labels = [label for label in dict.fromkeys(model_labels) if label not in ignore]
    for label, name in mapping.items():
        if label not in labels:
            raise InputError(f"the mapping names the model's class {label!r}, which it does not have; it has: {', '.join(labels)}")
        if name and _plain(name) not in by_name:
            raise InputError(f"the mapping names the set's class {name!r}, which it does not have; it has: {', '.join(set_names)}")
    wanted = {label: mapping.get(label, label) for label in labels}
    met = {label: by_name[_plain(name)] for label, name in wanted.items() if name and _plain(name) in by_name}
    if not met:
        ours, theirs = _some(labels), _some(set_names)
        raise InputError(
            f"no class of the model ({ours}) is called like one of the set ({theirs}); say which belong together with --class-map"
        )
    return ClassMatch(
        met,
        tuple(label for label in labels if label not in met),
        tuple(name for number, name in enumerate(set_names) if number not in met.values()),
        len(set(met.values())) < len(met),
    )


def with_synonyms(labels: Sequence[str], set_names: Sequence[str], mapping: Mapping[str, str]) -> dict[str, str]:
    """Return the mapping (model's label -> set's name), and for labels that are lists of synonyms, as ImageNet's, the one that the set has.

    >>> with_synonyms(["killer whale, killer, orca", "tiger, Panthera tigris"], ["orca", "lion"], {})
    {'killer whale, killer, orca': 'orca'}
    """
    by_name = {_plain(name): name for name in set_names}
    lists = {label: [_plain(part) for part in label.split(",")] for label in labels if "," in label}
    found = {label: next((by_name[part] for part in parts if part in by_name), None) for label, parts in lists.items()}
    return {label: name for label, name in found.items() if name is not None} | dict(mapping)


def common_classes(matches: Sequence[ClassMatch], set_names: Sequence[str]) -> list[ClassMatch]:
    """Return the matches cut down to the classes of the set that every model knows. Raises InputError when there is none."""
    shared = frozenset.intersection(*(frozenset(match.set_class_of.values()) for match in matches))
    if not shared:
        raise InputError("the models have no class of the set in common; leave --common away, or measure them one by one")
    return [
        replace(
            match,
            set_class_of={label: number for label, number in match.set_class_of.items() if number in shared},
            only_set=tuple(name for number, name in enumerate(set_names) if number not in shared),
            not_common=tuple(label for label, number in match.set_class_of.items() if number not in shared),
        )
        for match in matches
    ]


def _plain(name: str) -> str:
    return "".join(name.casefold().split()).replace("_", "").replace("-", "")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")


def read_mapping(path: Path) -> dict[str, str]:
    """Return the table [classes] of a TOML file: `"model's name" = "set's name"`; an empty name leaves the class out.

    Raises MissingError or InputError.
    """
    table = parse_toml(read_text(path, "the class mapping"), f"the class mapping {path}")
    classes = table.get("classes")
    if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes.values()):
        raise InputError(f'the class mapping {path}: wanted a table [classes] with lines like `"Man" = "person"`, found {sorted(table)}')
    return classes


def class_labels(card: ModelCard) -> tuple[str, ...]:
    """Return the labels of the model's classes, in the order of their ids."""
    names = card.label_names()[max(0, card.labels.offset) :]
    if not names:
        raise InputError(f"model {card.name} has no class names, so they cannot be matched with the set's; add labels to its card")
    return names
