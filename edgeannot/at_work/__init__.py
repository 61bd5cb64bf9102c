"""Which pictures are at work, so that one that kills the program is known afterwards: `work` who may begin, `record` the file that
outlives the process, `kernel` what the kernel tells of deaths, `deaths` which pictures they are put down to."""

from edgeannot.at_work.work import AtWork, Place, of_content

__all__ = ["AtWork", "Place", "of_content"]
