"""Settings -> what looks at the results of a source over time."""

import pytest

from edgeannot.base.errors import ConfigError
from edgeannot.daemon.scenes import classifiers, lost_after_s, regions, second_stage
from edgeannot.settings import load_settings

FOLDER = {"kind": "directory", "path": "."}
CAMERA = {"kind": "camera", "url": "/dev/video0"}


@pytest.mark.parametrize(("model", "said"), [("nanodet-g", "wanted a classifier, found nanodet-g"), ("breeds", "breeds")])
def test_a_second_stage_without_a_classifier_is_refused_with_its_place(tmp_path, model, said):
    loaded = load_settings({"data_dir": str(tmp_path), "profile": "mid", "classify": {"dog": {"model": model}}}, grade=None)

    with pytest.raises(ConfigError, match=rf"^classify\.dog\.model: .*{said}"):
        second_stage(loaded.settings, classifiers(loaded, lambda *_: pytest.fail("it is not loaded")), {})


def test_labels_with_one_classifier_share_it_and_a_label_that_no_model_reports_is_told(tmp_path, caplog):
    sections = {label: {"model": "efficientnet-lite0"} for label in ("dog", "unicorn")}
    loaded = load_settings({"data_dir": str(tmp_path), "profile": "mid", "classify": sections}, grade=None)
    built = []

    stage = second_stage(loaded.settings, classifiers(loaded, lambda card, *_: built.append(card.name)), {0: "dog"})

    assert stage is not None
    assert built == ["efficientnet-lite0"]
    assert "classify.unicorn: the active model reports no such label" in caplog.text
    assert "classify.dog" not in caplog.text


GATE = {"source": "yard", "region": [0.5, 0.0, 1.0, 0.5], "model": "efficientnet-lite0"}


def test_a_state_of_a_source_that_is_not_there_is_refused_with_its_place(tmp_path):
    loaded = load_settings({"data_dir": str(tmp_path), "profile": "mid", "states": {"gate": GATE}}, grade=None)

    with pytest.raises(ConfigError, match=r"^states\.gate\.source: wanted one of the sources, door; found 'yard'"):
        regions(loaded.settings, pytest.fail, None, ["door"])


def test_who_wants_to_know_that_a_source_is_away(tmp_path):
    sources = {"yard": CAMERA | {"tracking": {"enabled": True, "lost_s": 50}}, "door": CAMERA}
    states = {"gate": GATE | {"unknown_s": 90}, "lamp": GATE | {"unknown_s": 20}}
    loaded = load_settings({"data_dir": str(tmp_path), "profile": "mid", "sources": sources, "states": states}, grade=None)

    wanted = {name: lost_after_s(name, options, loaded.settings) for name, options in loaded.settings.sources.items()}
    assert wanted == {"yard": [20, 50, 90], "door": []}
