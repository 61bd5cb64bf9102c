"""What the features added since commit 018ea29 hold, so that the layout of the old ones can be compared with what it was then.

The rule: a module counts as added when it serves a capability that the changelog names and that 018ea29 did not have, and nothing else.
Lines that such a capability needs inside an older module count as old, and so do modules that older ones were split into, and checks of
input. So the rest is rather too large than too small. A path that ends in `/` stands for all below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["ADDED", "SINCE", "capability"]

SINCE = "018ea29"

ADDED: Mapping[str, Sequence[str]] = {
    "plug-ins": (
        "edgeannot/plugin.py",
        "edgeannot/base/isolation.py",
        "edgeannot/sources/isolated.py",
        "edgeannot/sinks/isolated.py",
        "edgeannot/vision/heads/_isolated.py",
    ),
    "webhook": (
        "edgeannot/sinks/webhook.py",
        "edgeannot/sinks/http_post.py",
        "edgeannot/sinks/durable.py",
        "edgeannot/sinks/queue_sender.py",
        "edgeannot/base/connections/http_exchange.py",
    ),
    "cameras: still pictures, processes of their own, key frames, libcamera": (
        "edgeannot/sources/stills.py",
        "edgeannot/sources/capture_process.py",
        "edgeannot/sources/capture_child.py",
        "edgeannot/sources/key_frames.py",
        "edgeannot/sources/libcamera.py",
    ),
    "motion, tracking, events, second stage, states": (
        "edgeannot/scene/",
        "edgeannot/daemon/scenes.py",
        "edgeannot/vision/news.py",
        "edgeannot/sinks/events.py",
        "edgeannot/sinks/crops.py",
        "edgeannot/sinks/unsure.py",
    ),
    "live page and monitoring": (
        "edgeannot/base/connections/http_server.py",
        "edgeannot/daemon/page/",
        "edgeannot/daemon/monitoring/health.py",
        "edgeannot/daemon/monitoring/metrics.py",
    ),
    "doctor": ("edgeannot/doctor/", "edgeannot/cli/commands/doctor.py"),
    "service and reload": ("edgeannot/service/", "edgeannot/cli/commands/service.py", "edgeannot/daemon/reload.py"),
    "config check, init and schema": (
        "edgeannot/settings/described.py",
        "edgeannot/settings/template.py",
        "edgeannot/settings/lines.py",
    ),
    "pictures that kill the program": ("edgeannot/crash_guard/",),
    "trials of models and runtimes": ("edgeannot/trial/", "edgeannot/choice/first_use_trial.py", "edgeannot/choice/auto_runtime.py"),
    "pictures: damaged JPEGs, GIF, AVIF, HEIC, base64, named files, renamed files": (
        "edgeannot/vision/jpeg.py",
        "edgeannot/vision/containers.py",
        "edgeannot/sources/encoded.py",
        "edgeannot/sources/files.py",
        "edgeannot/sources/moved.py",
    ),
    "new heads, MediaPipe's metadata": (
        "edgeannot/vision/heads/fomo.py",
        "edgeannot/vision/heads/fastestdet.py",
        "edgeannot/vision/heads/joined.py",
        "edgeannot/card_inference/one_map.py",
        "edgeannot/tflite/detector_metadata.py",
    ),
    "teach": ("tools/edgeannot_tools/teach/", "edgeannot/remote/teaching.py", "edgeannot/vision/views.py"),
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
    "evaluate: margins": ("tools/edgeannot_tools/evaluate/bootstrap.py",),
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
"""Capability -> paths."""


def capability(path: str) -> str:
    """Return the added capability that a module belongs to; empty for a module of the old ones."""
    for name, places in ADDED.items():
        if any(path.startswith(place) if place.endswith("/") else path == place for place in places):
            return name
    return ""
