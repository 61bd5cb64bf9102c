"""Which runtime `auto` means on this board: the first installed one that runs a bundled model.

A runtime may die with every model, on a processor or an emulator that it was not built for. Where several are installed, each is tried
once in a child process, the best first, until one runs a model; which one it was is remembered for this processor and these versions.
With one runtime there is nothing to choose; it is tried only after a run that died in it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeannot.base.atomicfile import read_json, write_json
from edgeannot.base.errors import ConfigError, EdgeannotError, ShortageError
from edgeannot.base.places import bundled_folder, data_dir_without_settings, nothing_is_configured
from edgeannot.base.runtimes import Runtime, RuntimeName, installed_runtimes
from edgeannot.crash_guard import runtime_of_last_crash
from edgeannot.probe import Board, read_board
from edgeannot.probe.board import runtime_version

__all__ = ["Settled", "find_runtime", "remembered_runtime", "settle_runtime"]

log = logging.getLogger(__name__)

_SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Settled:
    """The runtime to use, and those that were left aside for it."""

    runtime: Runtime
    """As it was set, or for `auto` the one that runs here; `auto` again where nothing was tried."""
    aside: Mapping[str, str] = field(default_factory=dict)
    """Name of a runtime that runs no model here -> why."""

    def text(self) -> str:
        """Return in one sentence which runtime was left aside, why, and which one is used."""
        why = "; ".join(f"the runtime {_full(name)} runs no model here: it {words}" for name, words in self.aside.items())
        return f"{why}; {_full(self.runtime)} is used"


def remembered_runtime(runtime: Runtime, data_dir: Path, board: Board) -> Settled:
    """Return which runtime to use as far as it is known; nothing is tried."""
    installed = installed_runtimes()
    if runtime == "auto" and len(installed) > 1:
        stored = read_json(_file(data_dir), _SCHEMA, sealed=True)
        if stored.get("where") == _where(board, installed):
            return Settled(stored["runtime"], stored["aside"])
    return Settled(runtime)


def settle_runtime(
    runtime: Runtime, data_dir: Path, board: Board, *, stopped: Callable[[], bool] = lambda: False, remember: bool = True
) -> Settled:
    """Return which runtime to use where `runtime` is set: a name stands for itself, `auto` for the first that runs a bundled model.

    The one in which the previous run died is tried again, also where it is the only one: a sentence is better than the next death.

    stopped: asked a few times a second; True ends the trial, which then says nothing. remember: write what was found to `data_dir`, where
    the next start reads it. Raises ConfigError where no installed runtime runs a model, ShortageError where that may pass.
    """
    known = remembered_runtime(runtime, data_dir, board)
    installed = installed_runtimes()
    candidates = [name for name in installed if runtime in ("auto", name)]
    settled = len(candidates) < 2 or known.runtime != "auto"
    used = known.runtime if known.runtime != "auto" else next(iter(candidates), None)
    if settled and (used is None or used != runtime_of_last_crash(data_dir)):
        return known
    from edgeannot.trial.loads import UntriedError  # noqa: PLC0415 - numpy comes with it; what is remembered is read without

    aside: dict[str, str] = {}
    passing = False
    for name in candidates:
        try:
            _run_a_model(name, stopped)
        except UntriedError:
            return Settled(runtime)
        except EdgeannotError as exc:
            aside[name] = _words(exc)
            passing |= isinstance(exc, ShortageError)
            continue
        found = Settled(name, aside)
        if aside:
            log.warning("%s", found.text())
        if remember and not passing and len(candidates) > 1:
            value = {"schema": _SCHEMA, "where": _where(board, installed), "runtime": name, "aside": aside}
            write_json(_file(data_dir), value, sealed=True)
        return found
    each = "; ".join(f"{_full(name)} {words}" for name, words in aside.items())
    raise (ShortageError if passing else ConfigError)(
        f"no runtime runs a bundled model here: {each}; install one that was built for this processor or emulator"
    )


def find_runtime(data_dir: Path | None = None, runtime: Runtime = "auto") -> Runtime:
    """Return the runtime that a command is to use: the one that it was given, or else the one that `run` would use.

    data_dir: given on the command line. Raises ConfigError, and what `settle_runtime` does.
    """
    if runtime != "auto":
        return runtime
    if nothing_is_configured() and (known := data_dir_without_settings(data_dir)) is not None:
        return settle_runtime("auto", known, read_board()).runtime
    from edgeannot.settings import find_data_dir, find_runtime  # noqa: PLC0415 - they and pydantic are not needed without a file

    return settle_runtime(find_runtime(), find_data_dir(data_dir), read_board()).runtime


def _run_a_model(name: RuntimeName, stopped: Callable[[], bool]) -> None:
    """Run the bundled models, the smallest file first, until one runs. Raises the error of the first; at once where it may pass."""
    from edgeannot.trial.cards import prove  # noqa: PLC0415 - as above
    from edgeannot.trial.loads import UntriedError  # noqa: PLC0415 - as above
    from edgeannot.vision.cards import read_cards  # noqa: PLC0415 - as above

    first: EdgeannotError | None = None
    for card in sorted(read_cards([bundled_folder()], lambda _: None), key=lambda card: card.model_path.stat().st_size):
        try:
            prove(card, name, stopped=stopped)
        except (UntriedError, ShortageError, ConfigError):
            raise
        except EdgeannotError as exc:
            first = first or exc
        else:
            return
    if first is not None:
        raise first


def _words(error: EdgeannotError) -> str:
    """Return what the runtime did, after its name."""
    from edgeannot.base.child import Died  # noqa: PLC0415 - as above

    died = error.__cause__
    return f"{died} with each bundled model" if isinstance(died, Died) else f"cannot run one ({error})"


def _file(data_dir: Path) -> Path:
    return data_dir / "cache" / "runtime.json"


def _where(board: Board, installed: list[RuntimeName]) -> str:
    """Return what a trial is valid for: the processor and the versions of the runtimes."""
    return f"{board.machine} {board.processor.name}, {', '.join(_full(name) for name in installed)}"


def _full(name: str) -> str:
    return name if name == "auto" else f"{name} {runtime_version(name)}"
