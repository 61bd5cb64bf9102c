"""Finds the picture that kills the program: `work` knows which pictures are being processed and lets the next begin, `record` is the file
that outlives the process, and `crashes` remembers the suspected pictures."""

from edgeannot.crash_guard.work import AtWork, Ticket, of_content, runtime_of_last_crash

__all__ = ["AtWork", "Ticket", "of_content", "runtime_of_last_crash"]
