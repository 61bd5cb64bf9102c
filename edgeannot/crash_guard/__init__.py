"""Which pictures are being processed, so that one that kills the program is known afterwards: `work` who may begin, `record` the file
that outlives the process and what the kernel tells of deaths, `crashes` the pictures suspected of them."""

from edgeannot.crash_guard.work import AtWork, Place, of_content

__all__ = ["AtWork", "Place", "of_content"]
