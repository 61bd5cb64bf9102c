"""The micro-benchmark: real convolutions, through each runtime."""

import pytest

from edgeannot.choice import measure_child
from edgeannot.choice.measure_child import MODELS, micro_benchmark


@pytest.mark.runtime
def test_both_networks_run_and_give_their_speed_in_about_the_time_asked_for():
    found = micro_benchmark(threads=1, budget_s=0.1)

    assert found.int8_gops > 0
    assert found.float_gops > 0
    assert 0.1 <= found.seconds < 30
    assert 0 <= found.wait_share <= 1


@pytest.mark.runtime
def test_a_network_that_the_runtime_refuses_is_zero_and_not_an_error(tmp_path, monkeypatch):
    (tmp_path / "int8.tflite").write_bytes(b"not a model")
    (tmp_path / "float.tflite").write_bytes((MODELS / "float.tflite").read_bytes())
    monkeypatch.setattr(measure_child, "MODELS", tmp_path)

    found = micro_benchmark(budget_s=0.05)

    assert found.int8_gops == 0
    assert found.float_gops > 0


def test_the_shipped_networks_are_small():
    assert sum(path.stat().st_size for path in MODELS.iterdir()) < 400_000
