"""What every peer speaks: one line when it is ready, then for each line with a picture's path one line of JSON. Standard library only."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["serve"]


def serve(annotate: Callable[[Any], int], *, first: Callable[[str], Any] = str, **facts: object) -> None:
    """Annotate each picture whose path comes on stdin; stdout gets milliseconds of wall and of processor time, and the number of boxes.

    first: makes of the path what `annotate` is given, and is not timed. facts: what the first line says of the peer, such as versions.
    """
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        given = first(line.rstrip("\n"))
        wall, cpu = time.perf_counter(), time.process_time()
        boxes = annotate(given)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(json.dumps({"ms": wall * 1e3, "cpu_ms": cpu * 1e3, "boxes": boxes}), flush=True)
