"""Settings -> what the governor holds."""

import pytest

from edgeannot.daemon.build import bounds_of
from edgeannot.daemon.governor import Bounds
from edgeannot.settings import load_settings
from edgeannot.sources import open_source

FOLDER = {"kind": "directory", "path": "."}
CAMERA = {"kind": "camera", "url": "/dev/video0"}


def bounds(tmp_path, sources, pinned=False, profile="mid", **values):
    loaded = load_settings({"data_dir": str(tmp_path), "sources": sources, **values}, grade=lambda: (profile, "as the test says"))
    opened = [open_source(name, options) for name, options in loaded.settings.sources.items()]
    return bounds_of(loaded, opened, pinned=pinned)


def test_a_folder_without_a_budget_has_no_bound_for_latency(tmp_path):
    assert bounds(tmp_path, {"in": FOLDER}) == Bounds()


@pytest.mark.parametrize("pinned", [False, True])
def test_a_budget_that_was_asked_for_is_held(tmp_path, pinned):
    assert bounds(tmp_path, {"in": FOLDER}, pinned, max_ms=150) == Bounds(150, rate_helps=True)
    assert bounds(tmp_path, {"in": FOLDER}, pinned, min_fps=4) == Bounds(250, rate_helps=False)
    assert bounds(tmp_path, {"in": FOLDER}, pinned, min_fps=4, max_ms=100) == Bounds(100, rate_helps=False)


def test_a_camera_is_to_be_kept_up_with(tmp_path):
    """At 5 frames a second, the mid profile's, each may take 200 ms; at its own 2 a second 500."""
    assert bounds(tmp_path, {"porch": CAMERA}) == Bounds(200, rate_helps=False)
    assert bounds(tmp_path, {"porch": {**CAMERA, "max_fps": 2.0}}) == Bounds(500, rate_helps=False)


def test_with_a_model_that_was_set_nothing_faster_can_be_had_for_a_camera(tmp_path):
    assert bounds(tmp_path, {"porch": CAMERA}, pinned=True) == Bounds()
