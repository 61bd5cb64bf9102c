"""First and last step of every command: `probe` runs at once, the others through `app`; errors become one sentence and an exit code.

typer takes 0.3 s to load with what it needs, ten times what reading a board takes.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable

from edgeannot.base.errors import EdgeannotError
from edgeannot.base.foreign import shorten_path
from edgeannot.base.redaction import learn
from edgeannot.base.streams import open_closed_streams, printable_streams

__all__ = ["guarded", "main"]


def main() -> None:
    """Run the command of sys.argv."""
    if sys.argv[1:2] == ["probe"] and not {"-h", "--help"}.intersection(sys.argv):
        from edgeannot.cli.commands.probe import probe  # noqa: PLC0415 - the others do not need it, nor it them

        guarded(lambda: probe(sys.argv[2:]))
    else:
        from edgeannot.cli.app import app  # noqa: PLC0415 - as above

        guarded(app)


_PARSER_USAGE = 2
"""What typer and argparse exit with where the command line is wrong."""
_EX_SOFTWARE = 70
_INTERRUPTED = 130
"""As a shell has it, and typer."""
_EX_UNREAD = 1
"""As typer has it."""
_EX_NOINPUT = 66
_EX_NOPERM = 77
_EX_USAGE = 64  # sysexits.h; systemd and scripts tell it from a program's own failure


def guarded(command: Callable[[], object]) -> None:
    """Run a command; print a known error as one sentence and exit with its code."""
    open_closed_streams()
    printable_streams()
    learn(sys.argv)
    learn(value for name, value in os.environ.items() if name.upper().startswith("EDGEANNOT_") or "proxy" in name.lower())
    try:
        command()
    except EdgeannotError as exc:
        print(f"edgeannot: {_one_line(exc)}", file=sys.stderr)  # noqa: T201 - the one place where an error meets the user
        sys.exit(exc.exit_code)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except BrokenPipeError:  # the reader has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left would be written at the end
        sys.exit(_EX_UNREAD)
    except SystemExit as exc:
        sys.exit(_EX_USAGE if exc.code == _PARSER_USAGE else exc.code)
    except Exception as exc:  # noqa: BLE001 - the last catch
        sys.exit(_told(exc))


def _told(exc: Exception) -> int:
    """Print an unknown error, with its traceback unless a file is the cause; return the exit code."""
    if isinstance(exc, PermissionError) and exc.filename is not None:
        advice = "permission denied; run as a user with access, or choose another place"
        print(f"edgeannot: {_one_line(exc.filename)}: {advice}", file=sys.stderr)  # noqa: T201 - as above
        return _EX_NOPERM
    if isinstance(exc, OSError) and exc.errno in (errno.ENAMETOOLONG, errno.ELOOP) and exc.filename is not None:
        print(f"edgeannot: {shorten_path(exc.filename)}: {exc.strerror}; wanted the name of a file", file=sys.stderr)  # noqa: T201 - as above
        return _EX_NOINPUT
    import traceback  # noqa: PLC0415 - 20 ms that a command without a fault does not need

    traceback.print_exception(exc)
    where = "".join(f" {note}" for note in getattr(exc, "__notes__", ()))
    print(f"edgeannot: internal error (please report){where}: {type(exc).__name__}: {_one_line(exc)}", file=sys.stderr)  # noqa: T201 - as above
    return _EX_SOFTWARE


def _one_line(said: object) -> str:
    """Remove line ends, which messages of libraries and names of files may have."""
    return " ".join(str(said).split("\n"))
