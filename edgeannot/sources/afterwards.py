"""What becomes of the files of a watched folder: pictures that are done are kept, moved or deleted, damaged ones go to quarantine."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from edgeannot.base.errors import ConfigError, FrameError
from edgeannot.base.systemd import is_read_only, is_service, may_write, write_advice
from edgeannot.sources.quarantine import move_aside, quarantine
from edgeannot.storage.store import Signature

__all__ = ["Afterwards"]

log = logging.getLogger(__name__)


class Afterwards:
    """For one watched folder; for any thread."""

    def __init__(
        self, label: str, root: Path, after: Literal["keep", "move", "delete"], after_folder: Path | None, quarantine_folder: Path | None
    ) -> None:
        """label: how messages name it, e.g. "sources.inbox". quarantine_folder: None: a damaged picture stays where it is."""
        self._label = label
        self._root = root
        self._after = after
        self._after_folder = None if after_folder is None else after_folder.expanduser()
        self._quarantine_folder = quarantine_folder
        self._said = ""

    def check(self) -> None:
        """Find at the start what cannot work. Raises ConfigError where finished pictures could not leave the folder, or not get to where
        they are to go; a damaged one can be copied, so that is only said. A folder that is not there yet is not judged.
        """
        if not self._root.is_dir():
            return
        writable = may_write(self._root)
        if self._after != "keep" and not writable:
            raise ConfigError(self._cannot(self._root, "a picture that is done can be neither moved nor deleted"))
        target = self._after_folder
        if target is not None and not may_write(target):
            sentence = self._cannot(target, "no picture that is done can be moved there")
            if target.is_dir() or is_read_only(target):
                raise ConfigError(sentence)
            log.warning("%s", sentence)  # a medium may be put there yet
        if self._quarantine_folder is not None and not writable:
            log.log(
                logging.WARNING if is_service() else logging.INFO,
                "%s: the folder %s cannot be written to: a damaged picture is copied to quarantine and stays there, too; "
                '%sset quarantine = "leave"',
                self._label, self._root, write_advice(self._root),
            )  # fmt: skip

    def set_aside(self, path: Path, name: str, exc: FrameError) -> Path | None:
        """Move a damaged picture to quarantine, with the reason beside it; its new place, or None where it stays."""
        folder = self._quarantine_folder
        if folder is None:
            return None
        when = datetime.now(UTC).isoformat(timespec="seconds")
        try:
            return quarantine(path, Path(name), folder, reason=exc.reason, message=f"{name}: {exc}", when=when)
        except OSError as error:
            log.warning("%s cannot be moved to the quarantine folder %s (%s); it is left in place", path, folder, error.strerror)
            return None

    def clear_away(self, path: Path, signature: Signature) -> None:
        """Do with a picture that is done what the settings say, unless another took its name in the meantime."""
        if self._after == "keep":
            return
        try:
            if Signature.of(path.stat()) != signature:
                return
            if self._after_folder is not None:
                move_aside(path, path.relative_to(self._root), self._after_folder)
            else:
                path.unlink()
        except FileNotFoundError:
            return
        except OSError as exc:
            self._stays(path, exc)
        else:
            self._said = ""

    def _stays(self, path: Path, exc: OSError) -> None:
        """Say so once with what to do, and of each further picture only what happened to it."""
        reason = exc.strerror or str(exc)
        level = logging.DEBUG if reason == self._said else logging.WARNING
        log.log(level, "%s: after = %r failed (%s); the file stays", path, self._after, reason)
        if reason != self._said and not may_write(path.parent):
            log.warning("%s", self._cannot(path.parent, "pictures that are done stay in it"))
        self._said = reason

    def _cannot(self, folder: Path, so: str) -> str:
        wanted = f'{self._label}: after = "{self._after}"'
        return f'{wanted}, but the folder {folder} cannot be written to, so {so}; {write_advice(folder)}set after = "keep"'
