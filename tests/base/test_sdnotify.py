"""Messages to systemd arrive where it listens and disturb nothing where it does not."""

import os
import socket

from edgeannot.base.sdnotify import Notifier


def test_without_systemd_nothing_happens():
    notifier = Notifier({})
    notifier.send(READY="1")

    assert notifier.watchdog_s is None


def test_fields_arrive_as_lines_of_one_datagram(tmp_path):
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        Notifier({"NOTIFY_SOCKET": address}).send(READY="1", STATUS="waiting")

        assert systemd.recv(1024) == b"READY=1\nSTATUS=waiting"


def test_a_deaf_systemd_is_no_reason_to_stop(tmp_path):
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send(WATCHDOG="1")


def test_the_watchdog_counts_only_for_the_process_it_was_set_for():
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}).watchdog_s == 3.0
    assert Notifier({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}).watchdog_s is None
