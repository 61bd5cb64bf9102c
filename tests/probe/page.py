"""docs/boards.md: how a board is graded, and every recorded board with its grade and its sources."""

from __future__ import annotations

import re
from collections.abc import Mapping

from edgeannot.choice.auto_profile import HIGH_GOPS, LEAST_MEMORY, MID_GOPS, grade
from edgeannot.choice.measurements import NOISY
from edgeannot.probe import read_board
from tests.probe import recorded

INTRODUCTION = f"""# Boards

Made from the code and the recorded boards by `make docs`. `edgeannot probe` shows all of this for the board it runs on, `--json`
for programs; `--explain` adds the selected model and the reason against each other model.

## Facts

`probe` reads small files of the kernel, in about 10 ms, without a library: `/proc/cpuinfo` (Arm cores by their implementer and
part numbers, x86 and RISC-V), the device tree's or the DMI tables' name, `/proc/meminfo`, affinity, CPU quota and memory limit of
the control groups (version 1 and 2, each up to its mount point), clocks and governor, temperatures and cooling, the Raspberry Pi
firmware's word on supply and throttling, and the installed runtime and Python. A fact that cannot be read is left out; that is never
an error.

For int8 these instructions matter: `neon`, `dotprod`, `i8mm`, `bf16` and `sve` on Arm; `sse4.1`, `avx2`, `avx-vnni` and
`avx512-vnni` on x86; `rvv` on RISC-V (the ratified version 1.0; T-Head's draft 0.7.1 is not it). A flag counts when every core has
it.

## The rule

The first that applies:

1. under {LEAST_MEMORY:g} GiB of memory that the process may use: **low**;
2. one core's worth of processor or less, affinity, cpuset and quota together, hardware threads of one core counted once: **low**;
3. int8 instructions (`dotprod`, `i8mm`, `avx-vnni`, `avx512-vnni`) on cores that reorder, two cores' worth or more: **high**;
4. int8 instructions otherwise; Arm cores that reorder (Cortex-A57 and up); x86 with `avx2`, or with `sse4.1` on four cores: **mid**;
5. all other and unknown boards: **low**.

Flags lie under emulators, hypervisors, quotas and heat. So `edgeannot probe` measures, once, a second of int8 and float
convolutions through the runtime, in a process of its own: from {MID_GOPS:g} int8 giga-operations a second on it is mid, from
{HIGH_GOPS:g} on high. Where the measurement and the flags disagree, the measurement counts, downwards without a limit, upwards by
one step; it does not lift a board that is short of memory. CPU contention is not counted against the board: a noisy figure (wait
share over {NOISY:.0%}) cannot lower the grade. `--profile` or the setting `profile` pins the grade.

The bounds come from published times of SSDLite MobileNet v2 (300 px, int8, about 1.3 giga-operations): 122 ms on a Raspberry Pi 3
B+ and 57 ms on a Pi 4 ([NobuoTsukamoto/benchmarks](https://github.com/NobuoTsukamoto/benchmarks), 4 threads), a Pi 5 being 4.8
times as fast as a Pi 4 ([aallan/benchmarking-ml-on-the-edge](https://github.com/aallan/benchmarking-ml-on-the-edge)). They are the
geometric means between the boards, times 1.26: the micro-benchmark runs faster than that whole network by this factor (measured on x86
with LiteRT). On Arm boards the bounds themselves have not been measured.

What a grade runs before models have been measured on the board: `low` NanoDet-g at 224 pixels, `mid` and `high` SSDLite at 300
([the choice](models.md#which-one-runs)). With one thread of an x86 these take 0.24 and 0.50 of the time of YOLOv3-tiny at 416 pixels.

## Recorded boards

Graded by their flags alone. The texts lie in `tests/probe/boards/`, each with the source of every file; where a source shows
lscpu's output, it is written there in the kernel's form. Memory is left out where no source gives it.
"""


def boards_page() -> str:
    """docs/boards.md."""
    rows = [_row(name) for name in recorded.names()]
    head = ["| board | processor | for int8 | cores | memory | grade | why | sources |", "|---|---|---|---|---|---|---|---|"]
    return "\n".join([INTRODUCTION, *head, *rows]) + "\n"


def _row(name: str) -> str:
    board, source = read_board(recorded.FOLDER / name), recorded.source(name)
    found = grade(board)
    memory = f"{board.memory_bytes / 2**30:.2f} GiB" if board.memory_bytes else ""
    int8 = ", ".join(board.processor.int8)
    cells = [source["title"], board.processor.name, int8, f"{board.usable_cores:g}", memory, f"**{found.profile}**", found.reasons[0]]
    return f"| {' | '.join(cells)} | {_links(source['sources'])} |"


def _links(sources: Mapping[str, str]) -> str:
    """Each public place once, as a link that is named by its number."""
    places = dict.fromkeys(place for where in sources.values() for place in _places(where))
    return " ".join(f"[{number}]({place})" for number, place in enumerate(places, 1))


def _places(where: str) -> list[str]:
    found = re.findall(r"https://[^\s)]+[^\s).,:;]", where)
    for repository, path in re.findall(r"(?<!https://)\bgithub\.com/([\w-]+/[\w-]+) ([\w./-]+\.\w+)", where):
        found.append(f"https://github.com/{repository}/blob/master/{path}")
    return found
