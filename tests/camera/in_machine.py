"""Runs inside the virtual machine of test_v4l2.py: plugs vivid in, reads it with OpenCV and with our source, unplugs it, plugs it in again.

Each fact that was found goes to the serial line as `FACT {...}`; what it means is judged outside.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

BY_ID = Path("/dev/v4l/by-id/usb-Test_Vivid-video-index0")
# Only USB cameras get a name there. What udev learns of a USB camera is said of vivid; Debian's own rule makes the name of it.
RULE = 'SUBSYSTEM=="video4linux", ATTR{name}=="vivid*", ENV{ID_BUS}="usb", ENV{ID_SERIAL}="Test_Vivid"\n'
DEADLINE_S = 240.0


def tell(name: str, **facts: Any) -> None:
    """Write a fact to the serial line."""
    print(f"FACT {json.dumps({'name': name, **facts})}", flush=True)


def run(*words: str) -> str:
    """Run a command; what it printed."""
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=DEADLINE_S).stdout


def wait(done: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    end = time.monotonic() + DEADLINE_S
    while not done():
        if time.monotonic() > end:
            raise TimeoutError(done)
        time.sleep(0.2)


def plug_in(number: int) -> None:
    """Load vivid with one capture device of this number."""
    run("modprobe", "vivid", "n_devs=1", "node_types=0x1", f"vid_cap_nr={number}")
    wait(BY_ID.exists)


def pull_out() -> None:
    """Take the device away, whoever has it open."""
    Path("/sys/bus/platform/drivers/vivid/unbind").write_text("vivid.0")
    wait(lambda: not BY_ID.exists())


def unload() -> None:
    """Remove the driver, as soon as nobody has a device of it open."""
    wait(lambda: subprocess.run(["rmmod", "vivid"], capture_output=True, check=False).returncode == 0)
    wait(lambda: not BY_ID.exists())


def bare_opencv() -> None:
    """Tell what OpenCV itself makes of a device that is pulled out while it is read."""
    import cv2

    capture = cv2.VideoCapture(str(BY_ID), cv2.CAP_V4L2)
    tell("bare open", opened=capture.isOpened(), fine=capture.read()[0])
    run("v4l2-ctl", "-d", str(BY_ID), "-c", "disconnect=1")
    reads = []
    for _ in range(20):
        began = time.monotonic()
        reads.append((capture.read()[0], round((time.monotonic() - began) * 1e3, 2)))
    capture.release()
    tell("bare unplugged", reads=reads)


class Lines(logging.Handler):
    """The log, as facts."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell one line."""
        tell("log", line=record.getMessage())


class Source:
    """Our source, pulled in this thread."""

    def __init__(self, **options: Any) -> None:
        from edgeannot.sources import CameraOptions, Context, open_source

        self.source = open_source("porch", CameraOptions(url=str(BY_ID), **options), Context(max_fps=100))
        self.stop = threading.Event()
        self.items: Iterator[Any] = iter(self.source.items(self.stop))

    def until(self, frame: bool, trouble: bool = False) -> Any:
        """Pull until there is a frame, or a tick that says what is wrong."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            item = next(self.items)
            said = getattr(item, "trouble", "")
            if (frame and hasattr(item, "image")) or (trouble and said):
                return item
        raise TimeoutError

    def close(self) -> None:
        """End it."""
        self.stop.set()
        with contextlib.suppress(StopIteration):
            while True:
                next(self.items)


def our_source() -> None:
    """Tell what our source makes of the device: its format, unplugged twice, and plugged in again under another number."""
    for options in ({"fourcc": "YUYV", "width": 320, "height": 180, "fps": 10}, {"width": 640, "height": 360, "fps": 10}):
        source = Source(**options)
        tell("frame", shape=source.until(frame=True).image.shape, asked=options)
        if "fourcc" in options:
            source.close()
    pulling_out = threading.Thread(target=pull_out)
    pulling_out.start()  # and the source is pulled meanwhile, as the daemon does it: a reason lasts until the next try to open it
    tell("unplugged", trouble=source.until(frame=False, trouble=True).trouble)
    pulling_out.join()
    busy, began = os.times(), time.monotonic()
    for _ in range(16):
        item = next(source.items)
    spent = os.times()
    used = spent.user + spent.system + spent.children_user + spent.children_system
    used -= busy.user + busy.system + busy.children_user + busy.children_system
    tell("away", trouble=getattr(item, "trouble", ""), seconds=round(time.monotonic() - began, 1), processor_s=round(used, 2))
    unload()
    plug_in(7)
    began = time.monotonic()
    frame = source.until(frame=True)
    tell("plugged in", shape=frame.image.shape, device=str(BY_ID.resolve()), after_s=round(time.monotonic() - began, 1))
    source.close()


def main() -> None:
    """Do all of it."""
    logging.basicConfig(level=logging.INFO, handlers=[Lines()])
    Path("/etc/udev/rules.d/59-vivid.rules").write_text(RULE)
    run("udevadm", "control", "--reload")
    plug_in(3)
    tell(
        "device",
        path=str(BY_ID),
        device=str(BY_ID.resolve()),
        formats=re.findall("'(.{4})'", run("v4l2-ctl", "-d", str(BY_ID), "--list-formats")),
    )
    bare_opencv()
    unload()
    plug_in(3)
    our_source()
    tell("done")


if __name__ == "__main__":
    sys.path.insert(0, "/opt/site")
    try:
        main()
    except BaseException as exc:
        tell("failed", error=repr(exc))
        raise
