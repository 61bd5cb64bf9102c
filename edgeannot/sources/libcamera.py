"""A camera of libcamera (a Raspberry Pi's camera module), by Picamera2. It is opened in the child process only, as the library may block.

Picamera2 is an extra, `edgeannot[picamera]`; libcamera itself and its bindings come from the system (Raspberry Pi OS: python3-picamera2).
Interface: Raspberry Pi Ltd, "The Picamera2 Library", sections 4 (configurations) and 6.4 (requests).
"""

from __future__ import annotations

from typing import Any, Final

from edgeannot.sources.capture import Target, TellingCapture
from edgeannot.vision.data import UInt8Array

__all__ = ["LibcameraCapture"]

_SIZE_WH: Final = 1280, 720
"""Where the settings name none."""


class LibcameraCapture(TellingCapture):
    """A `Capture`. One that did not open says why in `trouble`."""

    def __init__(self, target: Target) -> None:
        """target: its address is libcamera:N, the Nth camera that libcamera finds, from 0."""
        self._camera: Any = None
        self._request: Any = None
        try:
            from picamera2 import Picamera2  # noqa: PLC0415 - an extra, and it takes seconds
        except ImportError as exc:
            self.trouble = (
                f"needs Picamera2, which cannot be loaded ({exc}); install python3-picamera2 of the system, and make the environment of "
                "edgeannot with --system-site-packages"
            )
            return
        try:
            self._open(Picamera2, target)
        except (RuntimeError, IndexError, OSError, ValueError) as exc:
            self.trouble = f"cannot be opened ({exc}); does another program use it?"
            self.release()

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Return whether it opened."""
        return self._camera is not None

    def grab(self) -> bool:
        """Take the next frame; waits for it as long as the camera takes."""
        self._give_back()
        try:
            self._request = self._camera.capture_request()
        except (RuntimeError, OSError, AttributeError):  # the camera stopped, or never began
            return False
        return self._request is not None

    def retrieve(self) -> tuple[bool, UInt8Array | None]:
        """Return the frame that was taken, (H, W, 3) BGR."""
        if self._request is None:
            return False, None
        image: UInt8Array = self._request.make_array("main")
        self._give_back()
        return True, image

    def release(self) -> None:
        """Stop the camera and give it back to other programs."""
        self._give_back()
        camera, self._camera = self._camera, None
        if camera is not None:
            camera.stop()
            camera.close()

    def _open(self, picamera2: Any, target: Target) -> None:
        number = int(target.address.partition(":")[2])
        found = [str(each.get("Model", "?")) for each in picamera2.global_camera_info()]
        if number >= len(found):
            self.trouble = f"is not there; libcamera finds {', '.join(found) or 'none'}"
            return
        wanted = target.format
        self._camera = picamera2(number)
        # What Picamera2 calls RGB888 are blue, green and red in this order. No queue: a frame was taken after it was asked for.
        configuration = self._camera.create_video_configuration(
            main={"size": (wanted.width or _SIZE_WH[0], wanted.height or _SIZE_WH[1]), "format": "RGB888"},
            controls={} if wanted.fps is None else {"FrameRate": wanted.fps},
            queue=False,
        )
        self._camera.configure(configuration)
        self._camera.start()
        width, height = self._camera.camera_configuration()["main"]["size"]
        self.facts = f"{width}x{height}" + ("" if wanted.fps is None else f" at {wanted.fps:g}/s") + f" of {found[number]}"

    def _give_back(self) -> None:
        """Let the camera have the buffer of the frame again; it has few."""
        request, self._request = self._request, None
        if request is not None:
            request.release()
