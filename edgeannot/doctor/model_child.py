"""The process in which `doctor` runs models: one line of JSON for each, so that the parent knows with which one it died."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from edgeannot.base.child import end_with_parent
from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import json_text, parse_json
from edgeannot.vision.cards import read_card
from edgeannot.vision.data import Frame
from edgeannot.vision.decode import sample_photo
from edgeannot.vision.pipeline import load_pipeline

__all__ = ["main"]


def main() -> None:
    """Annotate the sample photo with each card of the request."""
    end_with_parent()
    request = parse_json(sys.stdin.buffer.read(), "the request")
    photo = sample_photo()
    for path, name in request["cards"]:
        answer: dict[str, object] = {"name": name}
        try:
            pipeline = load_pipeline(read_card(Path(path)), runtime=request["runtime"])
            begun = time.monotonic()
            pipeline(Frame(photo, "doctor", 0, datetime.now(UTC), "sample"))
            answer["ms"] = round((time.monotonic() - begun) * 1000)
        except EdgeannotError as exc:
            answer["error"] = str(exc)
        except Exception as exc:  # noqa: BLE001 - what a library raises is what is to be found out
            answer["error"] = f"{type(exc).__name__}: {exc}"
        sys.stdout.write(json_text(answer) + "\n")
        sys.stdout.flush()
