"""The installed tools, as a pull calls them: what converts files of other frameworks, and what makes int8 models of float ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

from edgeannot.base.errors import ConfigError, install
from edgeannot.base.registry import entry_points
from edgeannot.card_inference import Hints
from edgeannot.library.catalogue import Entry
from edgeannot.vision.runtimes import Runtime

__all__ = ["Converter", "Quantizer", "Tools", "find_tools"]


class Converter(Protocol):
    """An entry point of the group `edgeannot.converters`, by the ending of the file that holds the weights."""

    def __call__(self, sources: Sequence[Path], out: Path, name: str, hints: Hints, made_by: str) -> tuple[str, ...]:
        """Write `out` (a float .tflite) with card and class names beside it, all or nothing; what was done, a sentence each.

        Raises EdgeannotError.
        """


class Quantizer(Protocol):
    """The entry point `int8` of the group `edgeannot.quantizers`."""

    def __call__(self, card: Path, out: Path, name: str, images: str | None, runtime: Runtime) -> tuple[str, ...]:
        """Write `out` (an int8 .tflite) of the card's float model, with card and class names, all or nothing; what was found, a sentence
        each. images: the pictures to calibrate with, a folder or a pattern.

        Raises EdgeannotError, also where the int8 model lost too much.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """What an entry needs; None: it does without."""

    convert: Converter | None = None
    quantize: Quantizer | None = None


def find_tools(entry: Entry) -> Tools:
    """Return what the entry needs. Raises ConfigError that says what to install where it is not here."""
    ending = entry.main.name.rpartition(".")[2].lower()
    convert = _load(entry, "edgeannot.converters", ending, f"a converter of .{ending} files") if entry.converted else None
    quantize = _load(entry, "edgeannot.quantizers", "int8", "a quantizer") if entry.quantize else None
    return Tools(cast("Converter | None", convert), cast("Quantizer | None", quantize))


def _load(entry: Entry, group: str, name: str, needs: str) -> Any:
    """Return what an installed package offers under that name. Raises ConfigError where none can be used."""
    offered = next((each for each in entry_points(group) if each.name == name), None)
    cause = None
    try:
        if offered is not None:
            return offered.load()
    except ModuleNotFoundError as exc:
        package = (exc.name or "edgeannot").split(".")[0]
        if package == "edgeannot":
            raise
        cause, needs = exc, f"the Python package {package!r}"
    done = " and ".join(word for word, has in (("converted", entry.converted), ("quantized", entry.quantize)) if has)
    raise ConfigError(
        f"{entry.name} comes as {entry.contents} and is {done} on this machine, which needs {needs}: {install('tools')}, "
        "or pull it on another machine and bring it with `edgeannot models add`"
    ) from cause
