"""What the tests of card inference share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from edgeannot.card_inference import Hints, Proposal, propose
from edgeannot.trial import loads
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


@pytest.fixture
def loaded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One load where four would give the same numbers, for networks that take seconds; what the others are for is tested in tests/trial."""
    monkeypatch.setattr(loads, "_loads", lambda: [(1, None)])
