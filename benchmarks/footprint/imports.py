"""Prints the resident memory and the processor time that importing a run costs, by package: `python -m benchmarks.footprint.imports`.

In a process that has imported nothing else.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

MODULE = "edgeannot.daemon.run"
"""What a run imports, all that is not of one source or sink."""


def by_package() -> dict[str, tuple[float, float]]:
    """Return MB of resident memory and ms of processor time that importing a run costs, by package, each without what it imports itself."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    nested: list[list[float]] = []
    page = os.sysconf("SC_PAGE_SIZE")

    def now() -> tuple[float, float]:
        return int(Path("/proc/self/statm").read_text().split()[1]) * page / 1e6, time.process_time() * 1e3

    def measured(kind: Any, name: str) -> None:
        step = getattr(kind, name)

        def counted(self: Any, given: Any) -> Any:
            module = given.name if isinstance(given, importlib.machinery.ModuleSpec) else given.__name__
            before = now()
            nested.append([0.0, 0.0])
            try:
                return step(self, given)
            finally:
                spent = [b - a for a, b in zip(before, now(), strict=True)]
                inner = nested.pop()
                package = found[module.partition(".")[0]]
                for i in range(2):
                    package[i] += spent[i] - inner[i]
                    if nested:
                        nested[-1][i] += spent[i]

        setattr(kind, name, counted)

    measured(importlib.machinery.SourceFileLoader, "exec_module")
    measured(importlib.machinery.ExtensionFileLoader, "create_module")
    measured(importlib.machinery.ExtensionFileLoader, "exec_module")
    importlib.import_module(MODULE)
    importlib.import_module("edgeannot.vision.engine").load_runtime()
    found["(Python itself)"] = [now()[0] - sum(mb for mb, _ in found.values()), 0.0]
    return {name: (mb, ms) for name, (mb, ms) in sorted(found.items(), key=lambda item: -item[1][0])}


if __name__ == "__main__":
    print("| package | MB | ms |\n|---|---|---|")
    for package, (mb, ms) in by_package().items():
        if mb >= 0.2 or ms >= 10:
            print(f"| {package} | {mb:.1f} | {ms:.0f} |")
