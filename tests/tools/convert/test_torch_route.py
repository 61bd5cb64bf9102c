"""The states of the EfficientNet-Lite networks become classifiers, each with its own input size."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from edgeannot.base.errors import InputError
from edgeannot.vision.cards import read_card
from edgeannot_tools.convert.command import convert_app
from edgeannot_tools.convert.torch_route import EMBEDDING, LOGITS, efficientnet_lite
from tests.tools.convert.lite_maker import NETWORKS, lite_state, state_file


def test_a_state_without_blocks_is_refused():
    with pytest.raises(InputError, match=r"no EfficientNet-Lite .* 0 blocks"):
        efficientnet_lite({})


@pytest.mark.parametrize("name", NETWORKS)
def test_the_state_says_which_of_the_five_networks_it_is(name):
    width, depth, size, millions = NETWORKS[name]
    graph = efficientnet_lite(lite_state(width, depth))

    assert graph.shape(graph.inputs[0]) == (1, size, size, 3)
    assert graph.shape(graph.find(LOGITS))[-1] == 1000
    assert graph.shape(graph.find(EMBEDDING))[-1] == 1280
    last = graph.producers()[graph.find(EMBEDDING)].inputs[0]
    assert graph.shape(last)[1:3] == (-(-size // 32),) * 2, "five layers of stride 2, each rounded up"
    assert len(graph.to_bytes()) / 4e6 == pytest.approx(millions, abs=0.15)


def test_a_state_that_lacks_a_tensor_or_is_of_another_network_is_named():
    state = lite_state(1.0, 1.0)
    with pytest.raises(InputError, match=r"no tensor _fc\.bias; .*EfficientNet-Lite0"):
        efficientnet_lite({name: values for name, values in state.items() if name != "_fc.bias"})
    with pytest.raises(InputError, match=r"no EfficientNet-Lite 0 to 4 has 15 blocks"):
        efficientnet_lite({name: values for name, values in state.items() if not name.startswith("_blocks.15.")})


def test_a_larger_network_is_converted_with_its_own_size(tmp_path):
    (tmp_path / "lite2.pth").write_bytes(state_file(lite_state(*NETWORKS["EfficientNet-Lite2"][:2])))
    CliRunner().invoke(convert_app, [str(tmp_path / "lite2.pth"), "-o", str(tmp_path / "lite2.tflite")], catch_exceptions=False)
    card = read_card(tmp_path / "lite2.toml")

    assert (card.task, card.input_wh, card.input.mean, card.input.std) == ("classify", (260, 260), (127.0,), (128.0,))
    words = [str(tmp_path / "lite2.pth"), "-o", str(tmp_path / "l.tflite"), "--size", "224"]
    with pytest.raises(InputError, match="EfficientNet-Lite2 takes 260x260 only"):
        CliRunner().invoke(convert_app, words, catch_exceptions=False)
