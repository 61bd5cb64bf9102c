"""Darknet's two files: a .cfg spoiled by words, a .weights by bytes; through `edgeannot convert` and `models add --cfg`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random

import numpy as np

from edgeannot.base.errors import EdgeannotError, InputError
from edgeannot.card_inference import read_cfg
from edgeannot_tools.convert import darknet
from edgeannot_tools.convert.darknet_route import convert_darknet
from edgeannot_tools.convert.files import Request
from tests.fuzz.door import Case, Door, Visit
from tests.fuzz.numbers import overwrite, spoil
from tests.fuzz.words import change_text

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nbatch_normalize={}\nfilters={}\nsize={}\nstride={}\npad=1\nactivation={}\n\n"
YOLO = "[yolo]\nmask={}\nanchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319\nclasses=2\nnum=6\nscale_x_y=1.05\n\n"
BODY = NET + CONV.format(1, 4, 3, 2, "leaky") + "[maxpool]\nsize=2\nstride=2\n\n" + CONV.format(1, 8, 3, 1, "mish")
HEAD = CONV.format(0, 21, 1, 1, "linear")
CONFIGURATIONS = (
    BODY + HEAD + YOLO.format("3,4,5") + "[route]\nlayers=2\n\n[upsample]\nstride=2\n\n" + HEAD + YOLO.format("0,1,2"),
    BODY + "[shortcut]\nfrom=-1\nactivation=linear\n\n" + HEAD + YOLO.format("0,1,2"),
    BODY + "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n\n[route]\nlayers=-1,-2\n\n" + HEAD + YOLO.format("0,1,2"),
    BODY + CONV.format(0, 14, 1, 1, "linear") + "[region]\nanchors=1,1.5, 2,2\nclasses=2\ncoords=4\nnum=2\nsoftmax=1\n",
    BODY + "[reorg]\nstride=2\n\n" + CONV.format(0, 21, 1, 1, "logistic") + YOLO.format("0,1,2") + "new_coords=1\n",
    BODY + "[avgpool]\n\n[scale_channels]\nfrom=-2\n\n[dropout]\n\n" + HEAD + "[avgpool]\n\n[softmax]\ngroups=1\n",
    BODY + "[sam]\nfrom=-1\n\n" + HEAD + YOLO.format("0,1,2"),
    NET + "[convolutional]\nfilters=6\ngroups=3\nsize=3\nstride_x=2\nstride_y=2\n"
    "padding=1\nactivation=relu\n\n[connected]\noutput=4\nactivation=linear\n",
)
HEADER = np.array([0, 2, 5, 0, 0], "<i4").tobytes()
MOST_FLOATS = 1 << 24
"""Darknet's own networks have up to 64 million; a number in a cfg that asks for more than fits here is refused by its file's end."""


class Zeros:
    """Weights for whatever a cfg wants, and how many they were."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, count: int, layer: str, what: str) -> np.ndarray:
        """Zeros. Raises InputError where no file would hold so many."""
        self.count += count
        if not 0 <= self.count <= MOST_FLOATS:
            raise InputError(f"{layer} needs {count} floats ({what})")
        return np.zeros(count, np.float32)


class TheDoor(Door):
    """`edgeannot convert NET.cfg NET.weights`."""

    modules = tuple(f"tools/edgeannot_tools/convert/{name}.py" for name in ("darknet", "darknet_files", "darknet_route"))

    def seeds(self) -> list[Case]:
        cfgs = [Case("cfg", text.encode()) for text in CONFIGURATIONS]
        return [
            *cfgs * 3,
            *(Case("weights", HEADER + np.ones(_floats(text), "<f4").tobytes(), {"cfg": text}) for text in CONFIGURATIONS[:2]),
        ]

    def mutate(self, rng: Random, case: Case) -> Case:
        if case.kind == "weights":
            head = overwrite(rng, case.body[:20], (4, 8)) + case.body[20:]
            return Case(case.kind, head if rng.random() < 0.3 else spoil(rng, case.body), case.about)
        return Case(case.kind, change_text(rng, case.body, [text.encode() for text in CONFIGURATIONS]))

    def enter(self, case: Case, folder: Path, visit: Visit) -> None:
        text = case.body if case.kind == "cfg" else case.about["cfg"].encode()
        (folder / "net.cfg").write_bytes(text)
        with contextlib.suppress(EdgeannotError):
            read_cfg(folder / "net.cfg")
        sections = darknet.parse_cfg(text.decode("utf-8-sig", "replace"))
        if case.kind == "weights":
            weights = case.body
            darknet.WeightsFile(weights, "net.weights")
            visit.past_first = True
        else:
            visit.past_first = True
            wanted = Zeros()
            darknet.Network(sections, wanted, "net.cfg", None)
            weights = HEADER + np.zeros(wanted.count, "<f4").tobytes()
        (folder / "net.weights").write_bytes(weights)
        (folder / "net.names").write_text("person\ndog\n")
        pair = [folder / "net.cfg", folder / "net.weights"]
        masks = ((), ((0, 1, 2),), ((3, 4, 5), (0, 1, 2)))[len(text) % 3]
        made = convert_darknet(pair[: 1 + len(text) % 2], Request(masks=masks))
        made.graph.to_bytes()


def _floats(text: str) -> int:
    wanted = Zeros()
    darknet.Network(darknet.parse_cfg(text), wanted, "net.cfg", None)
    return wanted.count
