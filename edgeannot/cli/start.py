"""The `edgeannot` command's first steps: `probe` runs at once, everything else goes through `cli`.

typer takes 0.3 s to load with what it needs, ten times what reading a board takes.
"""

from __future__ import annotations

import sys

from edgeannot.cli.exits import guarded

__all__ = ["main"]


def main() -> None:
    """Run the command of sys.argv."""
    if sys.argv[1:2] == ["probe"] and not {"-h", "--help"}.intersection(sys.argv):
        from edgeannot.cli.commands.probe import probe  # noqa: PLC0415 - the others do not need it, nor it them

        guarded(lambda: probe(sys.argv[2:]))
    else:
        from edgeannot.cli.app import main as run_command  # noqa: PLC0415 - as above

        run_command()
