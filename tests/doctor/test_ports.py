"""What the daemon is to listen on, looked at before it does."""

from __future__ import annotations

import socket

import pytest

from edgeannot.base.connections.http_server import Reply, Server
from edgeannot.doctor.connections import ports
from tests.brokers import free_port


@pytest.fixture
def found(examine):
    def look(text):
        return [(each.code, each.level) for each in ports(examine(text))]

    return look


def page(port, more=""):
    return f"[page]\nenabled = true\nport = {port}\n{more}"


def test_nothing_listens_and_nothing_is_said(found):
    assert found("") == []


def test_a_free_port(found):
    assert found(page(free_port()) + f"[health]\nenabled = true\nport = {free_port()}\n") == [("page-port", "ok"), ("health-port", "ok")]


def test_a_port_that_another_program_has(found):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert found(page(taken.getsockname()[1])) == [("page-port", "problem")]


def test_a_port_that_the_daemon_itself_has(examine):
    server = Server("page", "127.0.0.1", 0, lambda _: Reply(303, b""))
    (one,) = ports(examine(page(server.port)))
    server.close()

    assert (one.level, one.found) == ("ok", f"edgeannot answers on 127.0.0.1 port {server.port}")


def test_the_token(found, tmp_path):
    file = tmp_path / "token"
    text = page(0, f'address = "::1"\ntoken_file = "{file}"\n')

    assert found(text)[-1] == ("page-token", "problem")
    file.write_text("short")
    assert found(text)[-1] == ("page-token", "problem")
    file.write_text("0123456789abcdef")
    assert found(text)[-1] == ("page-token", "ok")
