"""How every command ends: errors become one sentence and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from edgeannot.errors import EdgeannotError

__all__ = ["guarded"]

_PARSER_USAGE = 2
"""What typer and argparse exit with where the command line is wrong."""
_EX_SOFTWARE = 70
_EX_USAGE = 64  # sysexits.h; systemd and scripts tell it from a program's own failure


def guarded(command: Callable[[], object]) -> None:
    """Run a command; print an error that was foreseen as one sentence and exit with its code."""
    _open_closed_streams()
    try:
        command()
    except EdgeannotError as exc:
        print(f"edgeannot: {exc}", file=sys.stderr)  # noqa: T201 - the one place where an error meets the user
        sys.exit(exc.exit_code)
    except SystemExit as exc:
        sys.exit(_EX_USAGE if exc.code == _PARSER_USAGE else exc.code)
    except Exception as exc:  # noqa: BLE001 - the last door
        import traceback  # noqa: PLC0415 - 20 ms that a command without a fault does not need

        traceback.print_exc()
        where = "".join(f" {note}" for note in getattr(exc, "__notes__", ()))
        print(f"edgeannot: a fault of the program itself{where}: {type(exc).__name__}: {exc}", file=sys.stderr)  # noqa: T201 - as above
        sys.exit(_EX_SOFTWARE)


def _open_closed_streams() -> None:
    """Give a program that was started without standard streams the null device: a file opened later must not take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
            stream = open(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115 - for the whole run
            setattr(sys, name, stream)
