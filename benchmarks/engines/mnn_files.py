"""Makes MNN's files: `python -m benchmarks.engines.mnn_files float IN.onnx OUT.mnn`, or `int8 IN.mnn OUT.mnn PHOTOS SIZE BGR|RGB SCALE`.

It calls the library below MNN's commands `mnnconvert` and `mnnquant`: those install a package and report their use to the maker.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import _tools


def main() -> None:
    """Write the file."""
    kind, source, out = sys.argv[1:4]
    if kind == "float":
        _tools.mnnconvert(["mnnconvert", "-f", "ONNX", "--modelFile", source, "--MNNModel", out, "--bizCode", "MNN"])
    else:
        photos, size, color, scale = sys.argv[4:8]
        told = {
            "format": color,
            "mean": [0.0] * 3,
            "normal": [float(scale)] * 3,
            "width": int(size),
            "height": int(size),
            "path": f"{photos}/",
            "used_image_num": 10,
            "feature_quantize_method": "KL",
            "weight_quantize_method": "MAX_ABS",
        }
        with tempfile.TemporaryDirectory() as folder:
            config = Path(folder) / "config.json"
            config.write_text(json.dumps(told))
            _tools.mnnquant(["mnnquant", source, out, str(config)])
    if not Path(out).exists():
        raise SystemExit(f"MNN wrote no {out}")


if __name__ == "__main__":
    main()
