"""What a door is: a place where foreign bytes come in, with inputs that are right, ways to spoil them, and the way through.

A door that lets an input in or refuses it with an EdgeannotError has done its duty; any other exception is a finding, and so are
an input that never comes to an end and one that ends the process.
"""

from __future__ import annotations

import importlib
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from tests.fuzz.numbers import spoil

__all__ = ["DOORS", "Case", "Door", "Visit", "case_of", "load_door", "pack", "unpack"]

DOORS = ("models", "pictures", "encoded", "settings", "cards", "label_files", "cfg", "tfjs", "commands", "daemon")
"""Modules of `doors`, in the order in which they are played. The last sends commands and pictures to a daemon that runs."""

MUTATIONS = (0, 1, 1, 1, 1, 2, 2, 3, 5)
"""How often an input is changed: each number is as likely as the others."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input: its kind (a suffix or a word that the door knows), its bytes, and what else comes with them (JSON)."""

    kind: str
    body: bytes
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Visit:
    """How far an input came."""

    past_first: bool = False
    """The first parser (of the container: TOML, JSON, a FlatBuffer, the header of a picture) has read it."""
    accepted: bool = False


class Door:
    """Base of all doors. `modules` are the files whose lines are counted, from the project's folder."""

    modules: tuple[str, ...] = ()
    cpu_s: float = 20.0
    """Processor time for one input, after which it counts as a hang; usual are a few hundredths of a second."""
    minimises: bool = True
    """Whether an input that goes wrong is tried in smaller forms at once."""

    def seeds(self) -> list[Case]:
        """Inputs that are right, the same ones each time."""
        raise NotImplementedError

    def mutate(self, rng: Random, case: Case) -> Case:
        """The input with one change."""
        raise NotImplementedError

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        """Take the input in as the program does. `folder` is empty and its own. Says in `visit` how far it came."""
        raise NotImplementedError

    def open(self, folder: Path) -> None:
        """Start what the door needs (a broker, a daemon)."""

    def close(self) -> None:
        """Stop it again."""


def load_door(name: str) -> Door:
    """The door of a module of `doors`, or of `module:Class`. Imports what it tries."""
    module, _, kind = name.partition(":") if ":" in name else (f"tests.fuzz.doors.{name}", "", "TheDoor")
    door: Door = getattr(importlib.import_module(module), kind)()
    return door


def case_of(door: Door, seeds: list[Case], name: str, seed: int, index: int) -> Case:
    """Input number `index` of a run: the same for the same seed."""
    rng = Random(f"{seed}/{name}/{index}")
    case = rng.choice(seeds)
    for _ in range(rng.choice(MUTATIONS)):
        try:
            case = door.mutate(rng, case)
        except (struct.error, IndexError, ValueError):  # what is spoiled already has no form any more to go by
            case = Case(case.kind, spoil(rng, case.body), case.about)
    return case


def pack(case: Case) -> bytes:
    """An input as one file: a line of JSON, then the bytes."""
    return json.dumps({"kind": case.kind, "about": case.about}).encode() + b"\n" + case.body


def unpack(raw: bytes) -> Case:
    """The input in a file that `pack` made."""
    head, _, body = raw.partition(b"\n")
    facts = json.loads(head)
    return Case(facts["kind"], body, facts["about"])
