"""LiteRT, onnxruntime, ncnn and MNN on the same networks, in float and int8, one thread, a run each in turn.

    .venv/bin/python -m benchmarks.engines [--prepare] [--networks NAME ...] [--runs 100] [--page]

--prepare makes an environment for each engine; files are made as `recipes.py` says and stay in .cache/engines. How near an int8 file
stays to the float network is the ratio of the outputs' energy to that of their difference from onnxruntime's in float, on one photo.
Printed are medians; .cache/engines.json has all figures, --page puts table and plot into docs/performance.md.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.compare import PAGE, ROOT, Peer, busy, into_page, measure
from benchmarks.engines.recipes import FILES, NETWORKS, Network, tensor_of
from benchmarks.peers.environments import CACHE, ENGINES, TOOLS, interpreter, prepare

PLOT = "engines.png"
KINDS = ("float", "int8")
Row = dict[str, Any]


def decibels(reference: list[Any], found: list[Any]) -> float | None:
    """Return the ratio of signal to error over all outputs, whatever their order and axes; None where they do not fit together."""
    if len(found) > len(reference):  # edgeannot cuts off a last concatenation: parts of the same rows lie beside each other
        rows = sorted({len(each) for each in found}, reverse=True)
        found = [np.concatenate([np.concatenate([each for each in found if len(each) == count], 1) for count in rows])]
    signal = error = 0.0
    for wanted in reference:
        same = [near for each in found for near in aligned(each, wanted.squeeze())]
        if not same:
            return None
        signal += float((wanted**2).sum())
        error += min(float(((near - wanted.squeeze()) ** 2).sum()) for near in same)
    return round(10 * float(np.log10(signal / max(error, 1e-12))), 1)


def aligned(values: Any, wanted: Any) -> list[Any]:
    """Return the values with their axes in each order that has the wanted shape."""
    values = values.squeeze()
    orders = itertools.permutations(range(values.ndim)) if values.ndim == wanted.ndim else ()
    return [values.transpose(order) for order in orders if values.transpose(order).shape == wanted.shape]


def engine_rows(network: Network, refused: dict[str, str], runs: int, folder: Path) -> list[Row]:
    """Return the figures of every engine on one network. folder: for the tensor and the outputs."""
    np.save(folder / "tensor.npy", tensor_of(network, sorted((ROOT / "edgeannot" / "samples").glob("*.jpg"))[0]))
    peers = []
    for (engine, makes), kind in itertools.product(FILES.items(), KINDS):
        name, out = f"engine-{engine}", folder / f"{engine}-{kind}.npz"
        command = [str(interpreter(name)), "-m", "benchmarks.engines.run", engine]
        peer = Peer(name, command, failed=refused.get(name, ""))
        if not peer.failed:
            try:
                peer.command += [str(makes[KINDS.index(kind)](network)), str(folder / "tensor.npy"), str(out)]
            except (RuntimeError, OSError) as exc:
                peer.failed = f"no file: {exc}"
        peers.append(peer)
    results = measure(peers, [Path("run")] * runs, 1)
    outputs = {path.stem: [*np.load(path).values()] for path in folder.glob("*.npz")}
    rows = []
    for (engine, kind), result in zip(itertools.product(FILES, KINDS), results, strict=True):
        near = decibels(outputs.get("onnxruntime-float", []), outputs[f"{engine}-{kind}"]) if f"{engine}-{kind}" in outputs else None
        rows.append(result | {"engine": engine, "kind": kind, "decibels": near})
    return rows


def table(found: dict[str, list[Row]]) -> str:
    """Return the Markdown table."""
    lines = [
        "| network | engine | numbers | ms | processor ms | peak MB | outputs: dB | installed MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for network, rows in found.items():
        for row in rows:
            keys = ("ms", "cpu_ms", "peak_mb", "decibels", "install_mb")
            shown = [f"not measured: {row['failed']}"] if "failed" in row else ["" if row[key] is None else row[key] for key in keys]
            lines.append("| " + " | ".join(map(str, [network, row["engine"], row["kind"], *shown])) + " |")
    versions = {name: number for rows in found.values() for row in rows for name, number in row.get("versions", {}).items()}
    return "\n".join([*lines, "", "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + f". {busy()}"])


def draw(found: dict[str, list[Row]], path: Path) -> None:
    """Draw the processor time of a run, a panel for each network, int8 filled."""
    import matplotlib.pyplot as plt  # noqa: PLC0415 - only for the page

    figure, panels = plt.subplots(1, len(found), figsize=(3.2 * len(found), 2.6), layout="constrained", squeeze=False, sharey=True)
    for axes, (network, rows) in zip(panels[0], found.items(), strict=True):
        for row in rows:
            at = [*FILES].index(row["engine"]) + 0.4 * KINDS.index(row["kind"])
            filled = "#1f4e79" if row["kind"] == "int8" else "#dddddd"
            bar = axes.barh(at, row.get("cpu_ms", 0), 0.38, color=filled, edgecolor="black", linewidth=0.6)
            axes.bar_label(bar, [f"{row['kind']} {row['cpu_ms']:.1f}" if "cpu_ms" in row else "none"], padding=3, fontsize=8)
        axes.set_title(network, fontsize=10)
        axes.set_yticks([number + 0.2 for number in range(len(FILES))], [*FILES])
        axes.margins(x=0.45)
        axes.set_xlabel("processor ms a run")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0][0].invert_yaxis()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", action="store_true")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--page", action="store_true")
    args = parser.parse_args()
    CACHE.mkdir(parents=True, exist_ok=True)
    refused = prepare([*ENGINES, *TOOLS]) if args.prepare else {}
    found = {}
    for network in args.networks:
        with tempfile.TemporaryDirectory() as name:
            found[network] = engine_rows(NETWORKS[network], refused, args.runs, Path(name))
    (CACHE.parent / "engines.json").write_text(json.dumps({"load": os.getloadavg(), "rows": found}, indent=2))
    print(table(found))
    if args.page:
        draw(found, PAGE.with_name(PLOT))
        into_page("benchmarks/engines", f"{table(found)}\n\n![Processor time of a run]({PLOT})")


if __name__ == "__main__":
    main()
