"""What the tests of card inference share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeannot import card_inference
from edgeannot.base.child import Refused
from edgeannot.base.errors import EdgeannotError
from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.card_inference.facts import Picture, invented_pictures
from edgeannot.trial import loads, trial_child
from edgeannot.vision.data import UInt8Array
from tests.card_inference.made import Propose


@pytest.fixture
def propose_raw(tmp_path: Path) -> Propose:
    """Propose a card for bytes, with hints by keyword; `names` become a label file."""

    def run(raw: bytes, *, names: Sequence[str] = (), **hints: Any) -> Proposal:
        path = tmp_path / "My Model (1).tflite"
        path.write_bytes(raw)
        if names:
            hints["labels"] = tmp_path / "names.txt"
            hints["labels"].write_text("\n".join(names) + "\n", encoding="utf-8")
        return propose(path, Hints(**hints))

    return run


class InThisProcess:
    """What a trial's child process answers, without the process."""

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        pass

    def __enter__(self) -> InThisProcess:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def ask(self, request: dict[str, Any], timeout_s: float) -> Any:
        try:
            return json.loads(json.dumps(trial_child._answer(json.loads(json.dumps(request)))))
        except EdgeannotError as exc:
            raise Refused(str(exc)) from exc


INVENTED: dict[tuple[int, int, int], list[UInt8Array]] = {}


def invented_once(picture: Picture) -> list[UInt8Array]:
    """Return the pictures of the sample run; they are the same for the same size."""
    size = picture.width, picture.height, picture.channels
    if size not in INVENTED:
        INVENTED[size] = invented_pictures(picture)
    return INVENTED[size]


@pytest.fixture
def own_process() -> None:
    """Have `propose` try its file as a user's is tried: for files whose numbers may change from load to load."""


@pytest.fixture(autouse=True)
def _tried_here(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each network in this process, loaded once: the rules see the same numbers, and the start of a process for each is saved.

    What the process and the further loads are for is tested in tests/trial.
    """
    monkeypatch.setattr(card_inference, "invented_pictures", invented_once)
    if "own_process" not in request.fixturenames:
        monkeypatch.setattr(loads, "Child", InThisProcess)
        monkeypatch.setattr(loads, "_loads", lambda: [(1, None)])
