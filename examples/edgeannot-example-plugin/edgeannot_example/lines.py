"""A sink: a line for each picture, appended to a file."""

from __future__ import annotations

import os
from pathlib import Path

from edgeannot.plugin import Annotation, ConfigError, PluginSink, SinkContext, SinkKind, SinkOptions

__all__ = ["LINES"]


class LinesOptions(SinkOptions):
    """A line for each picture."""

    file: Path = Path("lines.txt")
    """The file; a relative one lies in the output folder."""

    def written_paths(self, out_dir: Path) -> tuple[Path, ...]:
        """The file."""
        return (out_dir / self.file,)


class Lines(PluginSink):
    """Appends `source/name: label, label`."""

    def __init__(self, options: LinesOptions, context: SinkContext) -> None:
        path = context.out_dir / options.file
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"the file {path} cannot be appended to ({exc.strerror}); set another sinks.lines.file") from exc

    def write(self, annotation: Annotation) -> None:
        """Append the line."""
        print(f"{annotation.frame.source}/{annotation.frame.name}: {', '.join(annotation.labels)}", file=self._file, flush=True)

    def flush(self) -> None:
        """Sync the lines to disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


LINES = SinkKind(LinesOptions, Lines)
