"""Darknet networks: the graph gives what OpenCV's own reader gives, and files that do not fit are refused in one sentence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edgeannot.base.errors import InputError, MissingError
from edgeannot_tools.convert import darknet
from edgeannot_tools.graph.edits import multiply_accumulates
from edgeannot_tools.graph.graph import Graph
from edgeannot_tools.graph.interpreter import open_interpreter

TOLERANCE = 1e-3


def net(width: int = 64, height: int = 64) -> str:
    return f"[net]\nwidth={width}\nheight={height}\nchannels=3\n"


def conv(filters: int, size: int = 3, stride: int = 1, activation: str = "leaky", *, norm: bool = True, groups: int = 1) -> str:
    return (
        f"[convolutional]\nbatch_normalize={int(norm)}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\n"
        f"groups={groups}\nactivation={activation}\n"
    )


def yolo(classes: int = 2) -> str:
    return conv(3 * (5 + classes), 1, activation="linear", norm=False) + (
        f"[yolo]\nmask=0,1,2\nanchors=10,14, 23,27, 37,58\nclasses={classes}\nnum=3\n"
    )


POOL2 = "[maxpool]\nsize=2\nstride=2\n"
ROUTE_HALF = "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n"
SPP = (
    "[maxpool]\nstride=1\nsize=5\n[route]\nlayers=-2\n[maxpool]\nstride=1\nsize=9\n[route]\nlayers=-4\n"
    "[maxpool]\nstride=1\nsize=13\n[route]\nlayers=-1,-3,-5,-6\n"
)
SHORTCUT = "[shortcut]\nfrom={}\nactivation={}\n"
REGION = "[region]\nanchors=1,1, 2,2, 3,3, 4,4, 5,5\nclasses=2\nnum=5\nsoftmax=1\n"
NETWORKS = {
    "v4 tiny: split channels and stride 2": net(96, 96)
    + conv(16, stride=2)
    + conv(16, stride=2)
    + conv(16)
    + ROUTE_HALF
    + conv(8)
    + conv(8)
    + "[route]\nlayers=-1,-2\n"
    + conv(16, 1)
    + "[route]\nlayers=-6,-1\n"
    + POOL2
    + yolo(),
    "v3 residual and spatial pyramid pooling, not square": net(160, 128)
    + conv(16)
    + conv(32, stride=2)
    + conv(16, 1)
    + conv(32)
    + SHORTCUT.format(-3, "linear")
    + conv(32, stride=2)
    + conv(16, 1)
    + SPP
    + yolo(),
    "fastest: depthwise, groups, swish, relu, dropout": net()
    + conv(8, stride=2, activation="relu")
    + conv(8, activation="swish", groups=8)
    + conv(8, 5, 2, "relu", groups=8)
    + "[dropout]\nprobability=.5\n"
    + conv(16, 1, activation="swish")
    + conv(16, activation="relu", groups=4)
    + SHORTCUT.format(-2, "relu")
    + yolo(),
    "v4: mish, logistic, tanh, upsample": net()
    + conv(8, stride=2, activation="mish")
    + conv(16, activation="swish")
    + conv(16, stride=2, activation="logistic")
    + conv(16, activation="tanh")
    + "[upsample]\nstride=2\n[route]\nlayers=-1,1\n"
    + yolo(),
    "v2: reorg and region": net()
    + conv(8, stride=2)
    + POOL2
    + conv(16)
    + "[route]\nlayers=-1\n[reorg]\nstride=2\n[route]\nlayers=-3\n"
    + POOL2
    + "[route]\nlayers=-1,-3\n"
    + conv(35, 1, activation="linear", norm=False)
    + REGION,
    "squeeze and excitation": net()
    + conv(16, stride=2, activation="swish")
    + "[avgpool]\n"
    + conv(4, 1, activation="swish", norm=False)
    + conv(16, 1, activation="logistic", norm=False)
    + "[scale_channels]\nfrom=-4\n"
    + yolo(),
    "odd sizes and pools that overlap": net(65, 63)
    + conv(16, stride=2)
    + "[maxpool]\nsize=3\nstride=2\n"
    + conv(16, 5, 2)
    + "[maxpool]\nsize=2\nstride=1\n"
    + yolo(),
    "shortcuts of other widths": net()
    + conv(16, stride=2)
    + conv(8)
    + SHORTCUT.format(-2, "linear")
    + conv(24)
    + SHORTCUT.format(-2, "leaky")
    + yolo(),
    "classifier": net() + conv(16, stride=2) + conv(10, 1, activation="linear", norm=False) + "[avgpool]\n[softmax]\ngroups=1\n",
}


SPREAD = {"bias": (0, 0.3), "scale": (1, 0.2), "mean": (0, 0.3), "weights": (0, 0.15)}
"""Mean and deviation by role; variances are positive."""


class RandomWeights:
    """Numbers of sensible sizes for each role, kept in the order of a .weights file."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.taken: list[np.ndarray] = []

    def take(self, count: int, layer: str, what: str) -> np.ndarray:
        numbers = self.random.uniform(0.3, 1.5, count) if what == "variance" else self.random.normal(*SPREAD[what], count)
        self.taken.append(numbers.astype(np.float32))
        return self.taken[-1]

    def file(self) -> bytes:
        header = np.array([0, 2, 5], "<i4").tobytes() + np.array([0], "<i8").tobytes()
        return header + np.concatenate([np.zeros(0, np.float32), *self.taken]).tobytes()


def write_pair(folder: Path, cfg: str) -> tuple[Path, Path]:
    """A cfg and random weights for it."""
    weights = RandomWeights()
    darknet.Network(darknet.parse_cfg(cfg), weights, "cfg", None)
    pair = folder / "net.cfg", folder / "net.weights"
    pair[0].write_text(cfg)
    pair[1].write_bytes(weights.file())
    return pair


def run(graph: Graph, image: np.ndarray) -> list[np.ndarray]:
    interpreter = open_interpreter(graph.to_bytes())
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def opencv_maps(cfg: Path, weights: Path, image: np.ndarray, heads: int) -> list[np.ndarray]:
    """What OpenCV's Darknet reader gives before each [yolo], or at the end; channels last."""
    model = cv2.dnn.readNetFromDarknet(str(cfg), str(weights))
    model.setInput(np.ascontiguousarray(image.transpose(0, 3, 1, 2)))
    names = model.getLayerNames()
    sections = darknet.parse_cfg(cfg.read_text(errors="replace"))[1:]
    before = [i - 1 for i, section in enumerate(sections) if section.kind in ("yolo", "region")]
    wanted = [[n for n in names if n.endswith(f"_{i}") and not n.startswith("bn_")][-1] for i in before] if heads else names[-1:]
    return [m.transpose(0, 2, 3, 1) if m.ndim == 4 else m for m in (np.array(m) for m in model.forward(wanted))]


def assert_as_opencv(cfg: Path, weights: Path) -> None:
    made = darknet.convert(cfg, weights)
    _, height, width, channels = made.graph.shape(made.graph.inputs[0])
    image = np.random.default_rng(1).random((1, height, width, channels), np.float32)
    for found, wanted in zip(run(made.graph, image), opencv_maps(cfg, weights, image, len(made.heads)), strict=True):
        assert np.abs(found - wanted.reshape(found.shape)).max() < TOLERANCE


@pytest.mark.older
@pytest.mark.parametrize("name", NETWORKS)
def test_random_network_gives_what_opencv_gives(name, tmp_path):
    assert_as_opencv(*write_pair(tmp_path, NETWORKS[name]))


@pytest.mark.older
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yoloface-50k", "MobileNetV2-YOLO-Fastest-voc-v2"])
def test_published_network_gives_what_opencv_gives(name, data_dir):
    folder = data_dir / "models" / "darknet"
    assert_as_opencv(folder / f"{name}.cfg", folder / f"{name}.weights")


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_and_has_the_shape_its_heads_state(name, tmp_path):
    made = darknet.convert(*write_pair(tmp_path, NETWORKS[name]))
    _, height, width, _ = made.graph.shape(made.graph.inputs[0])
    maps = run(made.graph, np.zeros((1, height, width, 3), np.float32))
    for head, found in zip(made.heads, maps, strict=False):
        assert found.shape == (1, *head.grid_wh[::-1], len(head.anchors) * (5 + head.classes))
    assert multiply_accumulates(made.graph) > 0


@pytest.mark.runtime
def test_relu6_is_fused_and_clips(tmp_path):
    made = darknet.convert(*write_pair(tmp_path, net() + conv(8, activation="relu6")))
    (found,) = run(made.graph, np.full((1, 64, 64, 3), 50, np.float32))
    assert found.min() == 0
    assert found.max() == 6


def test_another_size_scales_the_grids(tmp_path):
    made = darknet.convert(*write_pair(tmp_path, net() + conv(8, stride=2) + yolo()), size_wh=(96, 128))
    assert made.input_wh == (96, 128)
    assert made.heads[0].grid_wh == (48, 64)


def test_masks_choose_the_anchors_of_each_head(tmp_path):
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    assert darknet.convert(cfg, weights, masks=[(2, 1, 0)]).heads[0].anchors == ((37, 58), (23, 27), (10, 14))


TINY_YOLO = "[yolo]\nmask={}\nanchors=10,14, 23,27, 37,58, 81,82, 135,169, 344,319\nclasses=80\nnum=6\n"
TINY = net() + conv(255, 1) + TINY_YOLO.format("3,4,5") + "[route]\nlayers=0\n" + conv(255, 1) + TINY_YOLO.format("0,1,2")


def test_the_mask_of_yolov3_tiny_is_warned_about_unless_one_is_given(tmp_path):
    cfg, weights = write_pair(tmp_path, TINY)
    assert "1,2,3" in darknet.convert(cfg, weights).warnings[0]
    assert darknet.convert(cfg, weights, masks=[(3, 4, 5), (1, 2, 3)]).warnings == ()
    cfg.write_text(TINY.replace("0,1,2", "1,2,3"))
    assert darknet.convert(cfg, weights).warnings == ()


def test_an_empty_cfg_is_refused(tmp_path):
    (tmp_path / "net.cfg").write_text("")
    (tmp_path / "net.weights").write_bytes(RandomWeights().file())
    with pytest.raises(InputError, match=r"wanted \[net\] as the first section, found nothing"):
        darknet.convert(tmp_path / "net.cfg", tmp_path / "net.weights")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(MissingError, match=r"net\.cfg cannot be read"):
        darknet.convert(tmp_path / "net.cfg", tmp_path / "net.weights")


@pytest.mark.parametrize(("change", "message"), [(-4, "ends too early"), (-2, "truncated"), (+4, "1 are left over"), (None, "too short")])
def test_weights_that_do_not_fit_are_refused(change, message, tmp_path):
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    data = weights.read_bytes()
    weights.write_bytes(b"" if change is None else data + bytes(change) if change > 0 else data[:change])
    with pytest.raises(InputError, match=message):
        darknet.convert(cfg, weights)


BAD = {
    "unknown section": ("[lstm]\n", "is [lstm], which is not supported"),
    "unknown activation": (conv(8, activation="stair"), "activation 'stair' is not supported"),
    "route to nowhere": ("[route]\nlayers=-3\n", "does not exist"),
    "filters that do not fit the head": (conv(8) + "[yolo]\nmask=0\nanchors=1,2\nclasses=1\n", "has 8 filters"),
    "mask beyond the anchors": (conv(6) + "[yolo]\nmask=1\nanchors=1,2\nclasses=1\n", "mask [1] does not fit"),
    "no number": ("[convolutional]\nfilters=many\n", "filters = 'many' is not a number"),
    "no option": ("[convolutional]\nfilters\n", "wanted [section] or name = value"),
    "groups": (conv(8, groups=3), "cannot be in 3 groups"),
    "no filters": (conv(0), "wanted at least 1 for filters, found 0"),
    "fewer than no filters": (conv(-8), "wanted at least 1 for filters, found -8"),
    "no stride": (conv(8, stride=0), "wanted at least 1 for stride, found 0"),
    "half a stride": (POOL2.replace("stride=2", "stride=.5"), "stride = '.5' is not a whole number"),
    "a size that is no number": (POOL2.replace("size=2", "size=nan"), "size = 'nan' is not a number"),
    "a size beyond all tensors": (POOL2.replace("size=2", "size=1e19"), "wanted whole numbers up to 2147483647 for size, found '1e19'"),
    "a size of digits that never end": (POOL2.replace("size=2", "size=" + "9" * 5000), "is not a number"),
    "digits of another script": (POOL2.replace("size=2", "size=²"), "size = '²' is not a number"),
    "no end of a mask": (yolo().replace("mask=0,1,2", "mask=inf"), "mask = 'inf' is not a list of numbers"),
    "half an anchor's number": (yolo().replace("mask=0,1,2", "mask=.5"), "mask = '.5' is not a list of whole numbers"),
    "a route to half a layer": ("[route]\nlayers=-1.5\n", "layers = '-1.5' is not a list of whole numbers"),
    "anchors without end": (yolo().replace("anchors=10", "anchors=1e400"), "is not a list of numbers"),
    "a layer behind the numbers of classes": ("[avgpool]\n[softmax]\n" + conv(8), "it needs a map"),
    "a route to the numbers of classes": ("[avgpool]\n[softmax]\n[route]\nlayers=-1\n", "it needs a map"),
    "maps beyond all tensors": ("[upsample]\nstride=60000\n" * 3, "is larger than a tensor may be"),
    "pools of no size": (POOL2.replace("2", "0"), "wanted at least 1 for stride"),
    "upsampling to nothing": ("[upsample]\nstride=0\n", "wanted at least 1 for stride"),
    "reordering by nothing": ("[reorg]\nstride=0\n", "wanted at least 1 for stride"),
    "a group that is not there": (conv(8) + ROUTE_HALF.replace("id=1", "id=2"), "group_id is 2, and there are 2 groups"),
    "sizes that cannot be added": (conv(8) + conv(8, stride=2) + SHORTCUT.format(-2, "linear"), "cannot add maps"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_cfg_is_refused_with_the_line(name):
    text, message = BAD[name]
    with pytest.raises(InputError) as caught:
        darknet.Network(darknet.parse_cfg(net() + text), RandomWeights(), "net.cfg", None)
    assert message in str(caught.value)
    assert "line" in str(caught.value)


@pytest.mark.parametrize("change", [lambda s: "\ufeff" + s, lambda s: s.replace("\n", "\r\n"), lambda s: f"# of mine\n\n{s}".rstrip()])
def test_a_cfg_may_come_from_any_editor(change, tmp_path):
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    wanted = darknet.convert(cfg, weights).graph.to_bytes()
    cfg.write_bytes(change(cfg.read_text()).encode())

    assert darknet.convert(cfg, weights).graph.to_bytes() == wanted


@pytest.mark.parametrize("header", [np.array([0, 1, 0, 9], "<i4"), np.array([0, 2, 5, -1, 7], "<i4"), np.array([1, 0, 0, 9, 0], "<i4")])
def test_the_weights_of_old_and_new_trainers_have_other_headers(header, tmp_path):
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    wanted = darknet.convert(cfg, weights).graph.to_bytes()
    weights.write_bytes(header.tobytes() + weights.read_bytes()[20:])

    made = darknet.convert(cfg, weights)

    assert made.graph.to_bytes() == wanted
    assert made.notes == ()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (np.array([0, 0, 0, 0, 0], "<i4"), "version 0.0, whose header has 16 bytes, but with one of 20 bytes"),
        (np.array([0, 1, 0, 77, 0], "<i4"), "version 0.1, whose header has 16 bytes, but with one of 20 bytes"),
        (np.array([0, 2, 0, 77], "<i4"), "version 0.2, whose header has 20 bytes, but with one of 16 bytes"),
    ],
)
def test_a_header_that_is_not_that_of_its_version_is_read_where_it_makes_the_weights_fit(header, said, tmp_path):
    """Exporters write a counter of 8 bytes behind any version, and Darknet itself one of 4 bytes on a 32-bit board."""
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    wanted = darknet.convert(cfg, weights).graph.to_bytes()
    weights.write_bytes(header.tobytes() + weights.read_bytes()[20:])

    made = darknet.convert(cfg, weights)

    assert made.graph.to_bytes() == wanted
    assert [said in note for note in made.notes] == [True]


@pytest.mark.parametrize("change", [-8, -4, 8, 12])
def test_weights_of_an_old_version_that_fit_behind_neither_header_are_refused_by_their_own(change, tmp_path):
    cfg, weights = write_pair(tmp_path, net() + conv(8) + yolo())
    body = weights.read_bytes()[20:]
    weights.write_bytes(np.array([0, 1, 0, 9], "<i4").tobytes() + (body + bytes(change) if change > 0 else body[:change]))

    with pytest.raises(InputError, match="ends too early" if change < 0 else f"{change // 4} are left over"):
        darknet.convert(cfg, weights)


def test_the_field_file_of_an_exporter_with_an_8_byte_counter_is_read(data_dir):
    cfg = data_dir / "field" / "a_minor0_seen8.cfg"

    made = darknet.convert(cfg, cfg.with_suffix(".weights"))

    assert "one of 20 bytes" in made.notes[0]
