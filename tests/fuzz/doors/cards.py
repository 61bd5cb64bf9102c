"""Model cards, beside the model that they are of: read, compared with the tensors, written again, and used for a picture."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import numpy as np

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.places import bundled_folder
from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.library.modelstore import add, card_toml
from edgeannot.vision.cards import find_card, read_card, read_cards
from edgeannot.vision.data import Frame
from edgeannot.vision.pipeline import load_pipeline
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.doors.models import made_models
from tests.fuzz.forked import forked_trials
from tests.fuzz.words import change_text


class TheDoor(Door):
    """`edgeannot.vision.cards`, `models show`, `models verify` and the start of the daemon."""

    modules = ("edgeannot/vision/cards.py", "edgeannot/library/modelstore.py", "edgeannot/vision/pipeline.py")
    cpu_s = 60.0  # many models are tried for its seeds

    def seeds(self) -> list[Case]:
        bundled = [Case("toml", path.read_bytes(), {"model": path.stem}) for path in sorted(bundled_folder().glob("*.toml"))]
        return [*bundled, *(Case("toml", card.encode(), {"model": str(number)}) for number, (card, _) in sorted(_cards().items()))]

    def mutate(self, rng: Random, case: Case) -> Case:
        return Case("toml", change_text(rng, case.body, _texts()), case.about)

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        path = folder / "model.toml"
        path.write_bytes(case.body)
        with contextlib.suppress(ValueError, RecursionError):
            tomllib.loads(case.body.decode())
            visit.past_first = True
        bundled = not case.about["model"].isdigit()
        if bundled:
            for file in bundled_folder().glob(f"{case.about['model']}.*"):
                if file.suffix != ".toml":
                    (folder / file.name).symlink_to(file)
        else:
            (folder / "model.tflite").write_bytes(_cards()[int(case.about["model"])][1])
        list(read_cards([folder], lambda _: None))
        card = read_card(path)
        tomllib.loads(card_toml(card))
        with contextlib.suppress(EdgeannotError):
            find_card(f"{card.name}@{(*card.input.sizes, 64)[0]}", [folder])
        card.label_names()
        card.verify_file()
        add(Proposal(card, card.model_path, ("as it was",), ()), folder / "added", replace=True)
        if not bundled:
            width, height = min(card.input.width, 2000), min(card.input.height, 2000)
            load_pipeline(card)(Frame(np.full((height, width, 3), 90, np.uint8), "door", 0, datetime.now(UTC), "grey"))


@functools.cache
def _cards() -> dict[int, tuple[str, bytes]]:
    """Cards of small models of every kind of head, with the models."""
    found: dict[int, tuple[str, bytes]] = {}
    with tempfile.TemporaryDirectory() as name, forked_trials(loads=1):
        folder = Path(name)
        kinds: list[str] = []
        for number, model in enumerate(made_models()[::2]):
            path = folder / "model.tflite"
            path.write_bytes(model.body)
            hints = Hints(head=model.about.get("head"), labels=None)
            with contextlib.suppress(EdgeannotError):
                proposal = propose(path, hints)
                if kinds.count(proposal.card.head.kind) < 2:
                    kinds.append(proposal.card.head.kind)
                    found[number] = card_toml(proposal.card), model.body
    return found


@functools.cache
def _texts() -> tuple[bytes, ...]:
    return tuple(card.encode() for card, _ in _cards().values())
