"""What the features added since commit 018ea29 hold, so that the layout of the old ones can be compared with what it was then.

The rule: a module counts as added when it serves a capability that the changelog names and that 018ea29 did not have, and nothing else.
A path that ends in `/` stands for all below it. By the same rule a class or function counts in an older module, as PATH::NAME or
PATH::CLASS.NAME, if 018ea29 has none of that name: its lines of code count as added, its module as old. All other lines that such a
capability needs inside an older module count as old (fields of settings, calls, branches), and so do modules and functions that older
ones were split into, and checks of input. So the rest is rather too large than too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["ADDED", "SINCE", "capability", "definitions"]

SINCE = "018ea29"

ADDED: Mapping[str, Sequence[str]] = {
    "plug-ins": (
        "edgeannot/plugin.py",
        "edgeannot/base/isolation.py",
        "edgeannot/sources/isolated.py",
        "edgeannot/sinks/isolated.py",
        "edgeannot/vision/heads/_isolated.py",
        "edgeannot/base/errors.py::PluginError",
        "edgeannot/card_inference/__init__.py::_of_package",
        "edgeannot/sinks/__init__.py::_problem",
        "edgeannot/sinks/__init__.py::SinkSections._read_added",
        "edgeannot/sources/__init__.py::_problem",
    ),
    "webhook": (
        "edgeannot/sinks/webhook.py",
        "edgeannot/sinks/http_post.py",
        "edgeannot/sinks/durable.py",
        "edgeannot/sinks/queue_sender.py",
        "edgeannot/base/connections/http_exchange.py",
        "edgeannot/daemon/deliverers.py::_queue_deliverer",
        "edgeannot/daemon/deliverers.py::_queue_deliverers",
        "edgeannot/storage/store.py::Store.pending_by_sink",
    ),
    "cameras: still pictures, processes of their own, key frames, libcamera": (
        "edgeannot/sources/stills.py",
        "edgeannot/sources/capture_process.py",
        "edgeannot/sources/capture_child.py",
        "edgeannot/sources/key_frames.py",
        "edgeannot/sources/libcamera.py",
        "edgeannot/sources/capture.py::AskedCapture",
        "edgeannot/sources/capture.py::Opener",
        "edgeannot/sources/capture.py::TellingCapture",
    ),
    "motion, tracking, events, second stage, states": (
        "edgeannot/scene/",
        "edgeannot/daemon/scenes.py",
        "edgeannot/vision/news.py",
        "edgeannot/sinks/events.py",
        "edgeannot/sinks/crops.py",
        "edgeannot/sinks/unsure.py",
        "edgeannot/payload.py::_sub_label",
        "edgeannot/payload.py::event_payload",
        "edgeannot/payload.py::region_payload",
        "edgeannot/sinks/base.py::TellsEvents",
    ),
    "live page and monitoring": (
        "edgeannot/base/connections/http_server.py",
        "edgeannot/daemon/page/",
        "edgeannot/daemon/monitoring/health.py",
        "edgeannot/daemon/monitoring/metrics.py",
        "edgeannot/settings/tree.py::HealthOptions",
        "edgeannot/settings/tree.py::PageOptions",
    ),
    "doctor": (
        "edgeannot/doctor/",
        "edgeannot/cli/commands/doctor.py",
    ),
    "service and reload": (
        "edgeannot/service/",
        "edgeannot/cli/commands/service.py",
        "edgeannot/daemon/reload.py",
    ),
    "config check, init and schema, version": (
        "edgeannot/settings/described.py",
        "edgeannot/settings/template.py",
        "edgeannot/settings/lines.py",
        "edgeannot/cli/commands/version.py",
        "edgeannot/cli/app.py::show_version",
        "edgeannot/cli/commands/config.py::init",
        "edgeannot/cli/commands/config.py::schema",
        "edgeannot/cli/commands/config.py::_own_file",
        "edgeannot/settings/layers.py::find_problems",
    ),
    "pictures that kill the program": ("edgeannot/crash_guard/",),
    "trials of models and runtimes": ("edgeannot/trial/", "edgeannot/choice/first_use_trial.py", "edgeannot/choice/auto_runtime.py"),
    "pictures: damaged JPEGs, GIF, AVIF, HEIC, base64, named files, renamed files": (
        "edgeannot/vision/jpeg.py",
        "edgeannot/vision/containers.py",
        "edgeannot/sources/encoded.py",
        "edgeannot/sources/files.py",
        "edgeannot/sources/moved.py",
        "edgeannot/cli/app.py::_annotate",
        "edgeannot/cli/app.py::_refuse_with_files",
        "edgeannot/daemon/build.py::with_files",
        "edgeannot/storage/store.py::Store.similar",
        "edgeannot/storage/tables.py::Ledger.similar",
    ),
    "new heads, more forms of output, MediaPipe's metadata": (
        "edgeannot/vision/heads/fomo.py",
        "edgeannot/vision/heads/fastestdet.py",
        "edgeannot/vision/heads/joined.py",
        "edgeannot/card_inference/one_map.py",
        "edgeannot/tflite/detector_metadata.py",
        "edgeannot/card_inference/boxes.py::bins_hint",
        "edgeannot/card_inference/pairs.py::_rule_of",
        "edgeannot/card_inference/pairs.py::read_by_metadata",
        "edgeannot/card_inference/scores.py::is_angle",
        "edgeannot/card_inference/scores.py::keypoints_behind",
        "edgeannot/card_inference/ssd.py::_blaze_pair",
        "edgeannot/card_inference/ssd.py::read_blaze_layers",
    ),
    "teach": (
        "tools/edgeannot_tools/teach/",
        "edgeannot/remote/teaching.py",
        "edgeannot/vision/views.py",
        "edgeannot/remote/commands.py::Teach",
        "tools/edgeannot_tools/cli.py::teach",
    ),
    "annotate": ("tools/edgeannot_tools/annotate/",),
    "datasets: CSV, Label Studio, CVAT": (
        "tools/edgeannot_tools/datasets/by_name.py",
        "tools/edgeannot_tools/datasets/cvat.py",
        "tools/edgeannot_tools/datasets/labelstudio.py",
        "tools/edgeannot_tools/datasets/table.py",
    ),
    "convert: TensorFlow.js": (
        "tools/edgeannot_tools/convert/tfjs/",
        "tools/edgeannot_tools/convert/tfjs_route.py",
        "tools/edgeannot_maintain/tfjs_models.py",
    ),
    "evaluate: margins": (
        "tools/edgeannot_tools/evaluate/bootstrap.py",
        "tools/edgeannot_tools/evaluate/classifier_accuracy.py::Ranking.top1_margin",
        "tools/edgeannot_tools/evaluate/report.py::_with_margin",
    ),
    "quantize: equalised channels, weights rounded together, the same file on every processor": (
        "tools/edgeannot_tools/quantize/equalize.py",
        "tools/edgeannot_tools/quantize/refine.py",
        "tools/edgeannot_tools/graph/channels.py",
        "tools/edgeannot_tools/graph/layers.py",
        "tools/edgeannot_tools/graph/elementwise.py",
        "tools/edgeannot_tools/graph/reference_run.py",
        "tools/edgeannot_tools/graph/blas.py",
    ),
    "Debian packages, constraints, website": (
        "tools/edgeannot_maintain/deb.py",
        "tools/edgeannot_maintain/constraints.py",
        "tools/edgeannot_maintain/website.py",
    ),
}
"""Capability -> paths, and definitions in older modules."""


def capability(path: str) -> str:
    """Return the added capability that a module belongs to; empty for a module of the old ones."""
    for name, places in ADDED.items():
        if any(path.startswith(place) if place.endswith("/") else path == place for place in places):
            return name
    return ""


def definitions(path: str) -> dict[str, str]:
    """Return the added definitions in a module of the old ones, each with its capability."""
    pairs = ((place.partition("::"), name) for name, places in ADDED.items() for place in places)
    return {what: name for (where, _, what), name in pairs if what and where == path}
