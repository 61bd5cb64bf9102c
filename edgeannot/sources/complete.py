"""Whether a file is written to its end: asked of the kernel, and where that does not answer, of the clock."""

from __future__ import annotations

import errno
import fcntl
import os
import signal

__all__ = ["held_for_writing"]


def held_for_writing(path: str) -> bool | None:
    """Whether a program on this machine has the file open for writing; None where that cannot be told.

    The kernel grants a read lease only on a file that nobody has open for writing (fcntl(2), F_SETLEASE). The caller must own
    the file or have CAP_LEASE, and some file systems know no leases. A writer on another machine is not seen.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Who opens the file for writing in these microseconds breaks the lease, and we would get SIGIO, which ends a process
        # that does not expect it; SIGURG is ignored unless asked for.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as exc:
        return True if exc.errno == errno.EAGAIN else None
    else:
        return False
    finally:
        os.close(fd)
