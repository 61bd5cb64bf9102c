"""A door with three faults in it: what the harness must find."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

from edgeannot.base.errors import InputError
from tests.fuzz.door import Case, Door, Visit


class Toy(Door):
    """Takes a number in text. Of the last digit 1 it fails, of 2 it never ends, of 3 it dies; of 4 it refuses."""

    modules = ("edgeannot/base/errors.py",)
    cpu_s = 0.5

    def seeds(self) -> list[Case]:
        return [Case("number", b"n=000")]

    def mutate(self, rng: Random, case: Case) -> Case:
        return Case(case.kind, b"n=%03d" % rng.randrange(1000) if rng.random() < 0.8 else b"?")

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        _, equals, number = case.body.partition(b"=")
        if not equals:
            raise InputError("wanted n=NUMBER")
        visit.past_first = True
        last = int(number) % 10
        if last == 1:
            raise KeyError("planted")
        while last == 2:
            pass
        if last == 3:
            os.kill(os.getpid(), signal.SIGSEGV)
        if last == 4:
            raise InputError("no 4")
