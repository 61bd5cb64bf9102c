"""An RTSP server in a process of its own, from GStreamer where the system has it: to be killed, frozen and started again."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

PYTHON = "/usr/bin/python3"  # the system's, which has GStreamer's bindings; they are on no package index
SCRIPT = """
import sys
import gi
gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
server = GstRtspServer.RTSPServer(address="127.0.0.1", service=sys.argv[1])
user = Gst.Structure.new_empty("user")
user.set_value("media.factory.access", True)
user.set_value("media.factory.construct", True)
factory = GstRtspServer.RTSPMediaFactory(shared=True)
factory.set_launch(
    "( videotestsrc is-live=true ! video/x-raw,format=I420,width=320,height=240,framerate=15/1"
    " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! rtph264pay name=pay0 pt=96 )"
)
if len(sys.argv) > 2:
    factory.add_role_from_structure(user)
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth = GstRtspServer.RTSPAuth()
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(*sys.argv[2].split(":")), token)
    server.set_auth(auth)
server.get_mount_points().add_factory("/test", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class RtspServer:
    """Serves rtsp://127.0.0.1:PORT/test: 320x240, 15 frames a second, every fifteenth of them a key frame."""

    def __init__(self, login: str = "") -> None:
        check = "import gi; gi.require_version('GstRtspServer', '1.0')"
        if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode:
            pytest.skip("python3-gi and gir1.2-gst-rtsp-server-1.0 are not installed")
        self._login = [login] if login else []
        self.port = 0
        self._process = None
        self.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/test"

    def start(self) -> None:
        """Start, again on the port that it had."""
        command = [PYTHON, "-c", SCRIPT, str(self.port), *self._login]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.thaw()
        self._process.kill()
        self._process.communicate()
