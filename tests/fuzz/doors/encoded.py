"""Pictures that are text in messages: base64, data URLs and JSON, spoiled as texts are."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from random import Random

from edgeannot.sources.encoded import picture_in
from edgeannot.vision.picture_header import begins_as_picture
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.doors.pictures import TheDoor as Pictures
from tests.fuzz.numbers import spoil
from tests.fuzz.words import change_text


class TheDoor(Door):
    """`edgeannot.sources.encoded`, and what a message's picture comes to then."""

    modules = ("edgeannot/sources/encoded.py",)

    def seeds(self) -> list[Case]:
        return [Case(form, text.encode()) for case in Pictures().seeds()[:12] for form, text in _texts(case.body)]

    def mutate(self, rng: Random, case: Case) -> Case:
        return Case(case.kind, change_text(rng, case.body) if rng.random() < 0.7 else spoil(rng, case.body))

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        data = picture_in(case.body)
        assert len(data) <= len(case.body), "more bytes than came in"
        visit.past_first = begins_as_picture(data[:16])
        Pictures().enter(Case("jpeg", data), folder, visit)


def _texts(body: bytes) -> list[tuple[str, str]]:
    plain = base64.b64encode(body).decode()
    return [
        ("base64", base64.encodebytes(body).decode()),
        ("url alphabet", base64.urlsafe_b64encode(body).decode().rstrip("=")),
        ("blanks", plain.replace("+", " ")),
        ("data url", f"data:image/jpeg;base64,{plain}"),
        ("json", json.dumps({"camera": "door", "image": plain, "size": [61, 45]})),
        ("list", json.dumps({"frames": [{"data": plain}]}, indent=1)),
        ("buffer", json.dumps({"type": "Buffer", "data": list(body[:2000])})),
    ]
