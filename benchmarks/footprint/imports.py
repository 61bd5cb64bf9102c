"""Prints the memory, anonymous and of files, and the processor time that importing a run costs: `python -m benchmarks.footprint.imports`.

In a process that has imported nothing else.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import re
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

MODULE = "edgeannot.daemon.run"
"""What a run imports, all that is not of one source or sink."""


def by_package() -> dict[str, tuple[float, float, float]]:
    """Return MB of anonymous memory, MB of files and ms of processor time by package, each without what it imports itself."""
    found: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    nested: list[list[float]] = []
    status = Path("/proc/self/status")

    def now() -> tuple[float, float, float]:
        anonymous, files = (int(kib) * 1024 / 1e6 for kib in re.findall(r"Rss(?:Anon|File):\s+(\d+)", status.read_text()))
        return anonymous, files, time.process_time() * 1e3

    def measured(kind: Any, name: str) -> None:
        step = getattr(kind, name)

        def counted(self: Any, given: Any) -> Any:
            module = given.name if isinstance(given, importlib.machinery.ModuleSpec) else given.__name__
            before = now()
            nested.append([0.0, 0.0, 0.0])
            try:
                return step(self, given)
            finally:
                spent = [b - a for a, b in zip(before, now(), strict=True)]
                inner = nested.pop()
                package = found[module.partition(".")[0]]
                for i in range(3):
                    package[i] += spent[i] - inner[i]
                    if nested:
                        nested[-1][i] += spent[i]

        setattr(kind, name, counted)

    measured(importlib.machinery.SourceFileLoader, "exec_module")
    measured(importlib.machinery.ExtensionFileLoader, "create_module")
    measured(importlib.machinery.ExtensionFileLoader, "exec_module")
    importlib.import_module(MODULE)
    importlib.import_module("edgeannot.vision.engine").load_runtime()
    rest = [now()[i] - sum(each[i] for each in found.values()) for i in range(2)]
    found["(Python itself)"] = [*rest, 0.0]
    return {name: (each[0], each[1], each[2]) for name, each in sorted(found.items(), key=lambda item: -item[1][0])}


if __name__ == "__main__":
    print("| package | anonymous MB | MB of files | ms |\n|---|---|---|---|")
    for package, (anonymous, files, ms) in by_package().items():
        if anonymous + files >= 0.2 or ms >= 10:
            print(f"| {package} | {anonymous:.1f} | {files:.1f} | {ms:.0f} |")
