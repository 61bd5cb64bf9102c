"""The Python that runs and the TFLite runtime that it would load, without loading it."""

from __future__ import annotations

import importlib.util
import re
import struct
import sys
import sysconfig
from pathlib import Path

from edgeannot.base.runtimes import RUNTIMES, Runtime, installed_runtimes
from edgeannot.probe.board import Processor, Python, RuntimeFacts

__all__ = ["python_facts", "runtime_facts", "runtime_version"]


def python_facts() -> Python:
    """This interpreter: a 32-bit one on a 64-bit kernel gets 32-bit wheels, whatever `uname` says."""
    return Python(
        version=".".join(map(str, sys.version_info[:3])),
        bits=struct.calcsize("P") * 8,
        soabi=str(sysconfig.get_config_var("SOABI") or ""),
    )


def runtime_facts(processor: Processor, runtime: Runtime = "auto") -> RuntimeFacts | None:
    """Return a runtime by its name, or the first that is installed; None where there is none."""
    for name in installed_runtimes():
        if runtime not in ("auto", name):
            continue
        # Measured on x86: LiteRT does, tflite-runtime 2.14 does not. Of tflite-runtime on Arm only the micro-benchmark can tell.
        int8_xnnpack = True if name == "litert" else False if processor.family == "x86" else None
        return RuntimeFacts(name, runtime_version(name), int8_xnnpack)
    return None


def runtime_version(name: str) -> str:
    """Return the version in the name of the .dist-info folder beside the package; importlib.metadata would take 0.1 s to load."""
    package, distribution = next((value for key, value in RUNTIMES.items() if key == name), ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    stem = re.escape(distribution).replace(r"\-", "[-_.]")
    for place in (spec and spec.submodule_search_locations) or ():
        for folder in Path(place).parent.glob(f"{distribution[0]}*.dist-info"):
            if found := re.fullmatch(stem + r"-(.+)\.dist-info", folder.name):
                return found[1]
    return "of unknown version"
