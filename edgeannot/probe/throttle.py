"""The Raspberry Pi firmware's word on its supply and heat, from sysfs or `vcgencmd get_throttled`.

Bits as the documentation of get_throttled lists them: 0 to 3 hold now, 16 to 19 have held since the board was started.
"""

from __future__ import annotations

import re
from pathlib import Path

from edgeannot.probe.texts import read

__all__ = ["decode", "parse_throttled", "read_throttled"]

_NOW = {
    0: "the supply voltage is too low",
    1: "the clock is capped",
    2: "the processor is throttled",
    3: "the soft temperature limit holds",
}
_SINCE = {
    16: "the supply voltage was too low",
    17: "the clock was capped",
    18: "the processor was throttled",
    19: "the soft temperature limit was reached",
}
_SYSFS = "sys/devices/platform/soc/soc:firmware/get_throttled"
_TIMEOUT_S = 1.0


def parse_throttled(text: str) -> int | None:
    """The bits in "throttled=0x50005" (vcgencmd) or "50005" (sysfs); None where the text is neither."""
    found = re.fullmatch(r"(?:throttled=0x|0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(found[1], 16) if found else None


def decode(bits: int) -> tuple[str, ...]:
    """The bits in words, what holds now first; what holds now is not repeated as past."""
    now = [text for bit, text in _NOW.items() if bits >> bit & 1]
    past = [f"{text} since it was started" for bit, text in _SINCE.items() if bits >> bit & 1 and not bits >> (bit - 16) & 1]
    return tuple(now + past)


def read_throttled(root: Path = Path("/")) -> int | None:
    """The firmware's bits; None where there is no such firmware. Runs `vcgencmd` only where sysfs does not say (a Pi 5)."""
    bits = parse_throttled(read(root / _SYSFS))
    tools = () if bits is not None else (root / "usr/bin/vcgencmd", root / "opt/vc/bin/vcgencmd")
    for tool in tools:
        if tool.exists():
            return parse_throttled(_output(tool))
    return bits


def _output(tool: Path) -> str:
    import subprocess  # noqa: PLC0415 - 10 ms that only a Raspberry Pi has to spend

    try:
        return subprocess.run([tool, "get_throttled"], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False).stdout
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return ""
