"""The live page over HTTP: what it answers to whom. Handlers are called; one server is for what only a connection shows."""

from __future__ import annotations

import html.parser
import json
import re
import socket
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

import edgeannot.base.connections.http_server
import edgeannot.daemon.page
from edgeannot.base.connections.http_server import Reply, Request, Server, listen_trouble
from edgeannot.base.errors import ConfigError
from edgeannot.daemon.page.access import Access
from edgeannot.daemon.page.feed import Feed
from edgeannot.daemon.page.live_page import LivePage
from edgeannot.daemon.page.site import Site
from edgeannot.settings import PageOptions
from edgeannot.storage.store import Message
from tests.brokers import wait_until
from tests.patience import DEADLINE_S

TOKEN = "0123456789abcdef-right"
FOLDER = Path(edgeannot.daemon.page.__file__).parent
OWN = {"host": "localhost:8464", "origin": "http://localhost:8464", "content-type": "application/json"}


class Commands:
    """Notes what is asked, and answers with `reply`."""

    reply = Message("", b'{"ok":true,"result":{"paused":true}}', "reply")

    def __init__(self):
        self.asked = []

    def __call__(self, command, payload):
        self.asked.append((command, payload))
        answered = Future()
        answered.set_result(self.reply)
        return answered


@pytest.fixture
def commands():
    return Commands()


@pytest.fixture
def feed():
    made = Feed(2.0)
    made.start(dict)
    yield made
    made.close()


def asked(site, path, method="GET", body=b"", **headers):
    given = {"host": "localhost:8464", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return site.answer(Request(method, path, given, "127.0.0.1", body))


def pressed(site, path, body=b"{}", **headers):
    return asked(site, path, "POST", body, **(OWN | headers))


@pytest.fixture
def site(feed, commands):
    return Site(feed, Access(None, 8464), commands)


@pytest.fixture
def locked(feed, commands):
    return Site(feed, Access(TOKEN, 8464), commands)


def test_every_answer_forbids_what_is_not_ours(site, locked):
    for reply in (
        asked(site, "/"),
        asked(site, "/absent"),
        asked(site, "/", host="evil.example"),
        asked(locked, "/"),
        asked(locked, "/login"),
    ):
        policy = dict(each.split(" ", 1) for each in reply.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert not re.search(r"unsafe|https?:|\*", reply.headers["Content-Security-Policy"])
        assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert (reply.headers["X-Content-Type-Options"], reply.headers["Cache-Control"]) == ("nosniff", "no-store")
        assert not any(name.lower().startswith("access-control") for name in reply.headers)


class Links(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []
        self.inline = []

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in {"src", "href", "action"}]
        self.inline += [name for name, _ in attributes if name.startswith("on") or name == "style"]


@pytest.mark.parametrize("name", ["page.html", "login.html"])
def test_the_page_asks_nobody_else(name):
    links = Links()
    links.feed((FOLDER / name).read_text(encoding="utf-8"))

    assert links.inline == []
    assert [link for link in links.found if not re.match(r"/[a-z.]+$|data:,$", link or "")] == []


def test_the_script_makes_no_markup_of_text():
    script = (FOLDER / "page.js").read_text(encoding="utf-8")

    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|https?://(?!www\.w3\.org/2000/svg)", script
    )


def test_a_stranger_learns_nothing(locked, commands):
    assert (asked(locked, "/").code, asked(locked, "/").headers["Location"]) == (303, "/login")
    for path in ("/events", "/page.js", "/absent"):
        assert (asked(locked, path).code, asked(locked, path).body) == (401, b"wanted a login\n")
    assert pressed(locked, "/command/pause").code == 401
    assert pressed(locked, "/logout").code == 401
    assert commands.asked == []
    assert asked(locked, "/page.css").code == 200


def test_a_login_gives_a_session(locked, commands, caplog):
    caplog.set_level("DEBUG")
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://localhost:8464"}
    wrong = asked(locked, "/login", "POST", b"token=wrong", **form)
    right = asked(locked, "/login", "POST", f"token={TOKEN}".encode(), **form)
    cookie = right.headers["Set-Cookie"].partition(";")[0]

    assert (wrong.code, b"That is not the token." in wrong.body) == (401, True)
    assert "Set-Cookie" not in wrong.headers
    assert (right.code, right.headers["Location"]) == (303, "/")
    assert asked(locked, "/", cookie=cookie).code == 200
    assert pressed(locked, "/command/pause", cookie=cookie).code == 200
    assert pressed(locked, "/logout", cookie=cookie).headers["Set-Cookie"].partition(";")[0].endswith("=")
    for _ in range(6):
        last = asked(locked, "/login", "POST", b"token=wrong", **form)
    assert (last.code, b"Try again in" in last.body) == (429, True)
    assert asked(locked, "/login", "POST", f"token={TOKEN}".encode(), **form).code == 429
    assert asked(locked, "/", cookie=cookie).code == 200
    assert TOKEN not in caplog.text


def test_a_form_of_many_fields_is_a_wrong_token(locked, caplog):
    """Not an internal error with a trace in the log, as often as a stranger likes."""
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://localhost:8464"}
    codes = [asked(locked, "/login", "POST", b"&a=1" * 9, **form).code for _ in range(6)]

    assert codes == [401] * 4 + [429] * 2
    assert "Traceback" not in caplog.text


def test_a_form_of_another_site_logs_nobody_in(locked):
    form = {"content_type": "application/x-www-form-urlencoded", "origin": "http://evil.example"}

    assert asked(locked, "/login", "POST", f"token={TOKEN}".encode(), **form).code == 403


def test_buttons_are_commands(site, commands):
    reply = pressed(site, "/command/model", b'{"name":"nanodet-g"}')

    assert (reply.code, json.loads(reply.body)["ok"]) == (200, True)
    assert commands.asked == [("model", b'{"name":"nanodet-g"}')]
    commands.reply = Message("", b'{"ok":false,"error":{"code":"model","message":"no"}}', "reply")
    assert pressed(site, "/command/pause").code == 409
    commands.reply = Message("", b"\xff\xd8", "reply", content_type="image/jpeg")
    assert (pressed(site, "/command/snapshot").kind, pressed(site, "/command/snapshot").body) == ("image/jpeg", b"\xff\xd8")


def test_no_other_command_comes_from_the_page(site, feed, commands):
    for path in ("/command/teach", "/command/detect", "/command/set", "/command/", "/pause", "/command/pause/x", "/events"):
        assert pressed(site, path).code == 404
    assert pressed(site, "/command/pause", host="evil.example").code == 403
    assert pressed(site, "/command/pause", origin="http://evil.example").code == 403
    assert asked(site, "/command/pause").code == 404
    assert pressed(Site(feed, Access(None, 8464), None), "/command/pause").code == 404
    assert commands.asked == []


def test_it_is_off_by_default():
    page = LivePage(PageOptions())

    assert (page.sinks, page.serve(None, None)()) == ([], None)
    assert LivePage(PageOptions(enabled=True), off=True).sinks == []
    assert len(LivePage(PageOptions(enabled=True)).sinks) == 1


def test_a_run_without_page_and_monitoring_loads_neither_server_nor_client_of_http():
    """They take 3 MB of a small board."""
    heavy = {"http.server", "http.client", "urllib.request", "imagesize"}
    code = f"import sys, edgeannot.daemon.run; print(sorted({heavy} & sys.modules.keys()))"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "[]"


def test_a_short_token_is_refused_at_the_start(tmp_path):
    (tmp_path / "token").write_text("short")

    with pytest.raises(ConfigError, match=r"page\.token_file"):
        LivePage(PageOptions(enabled=True, token_file=tmp_path / "token"))


def connected(port):
    return socket.create_connection(("127.0.0.1", port), DEADLINE_S)


def sent(port, text):
    with connected(port) as connection:
        connection.sendall(text)
        with connection.makefile("rb") as answer:
            return answer.read()


def test_odd_requests_are_refused_in_one_line_without_markup(site, caplog):
    """What the standard library refuses by itself, too; headers are bounded in sum, as it would keep 6 MB of them a connection."""
    server = Server("page", "127.0.0.1", 0, site.answer)
    host = b"Host: 127.0.0.1\r\n"
    try:
        for code, odd in (
            (501, b"OPTIONS / HTTP/1.1\r\n" + host),
            (501, b"<script> / HTTP/1.1\r\n" + host),
            (400, b"GET / HTTP/1.1\r\n" + host + host),  # which of them would be judged?
            (400, b"GET / HTTP/x\r\n" + host),
            (431, b"GET / HTTP/1.1\r\n" + host + (b"Cookie: " + b"a" * 5000 + b"\r\n") * 4),
            (431, b"GET / HTTP/1.1\r\n" + host + b"A: b\r\n" * 101),
        ):
            head, _, body = sent(server.port, odd + b"\r\n").decode().partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.0 {code} "), (odd[:20], head)
            assert {"Content-Type: text/plain; charset=utf-8", "X-Content-Type-Options: nosniff"} <= {*head.splitlines()}
            assert "<" not in head + body
            assert body.count("\n") == 1
    finally:
        server.close()
    assert caplog.text == ""


@pytest.mark.parametrize("path", ["/", "/events", "/nothing"])
def test_head_is_answered_as_get_without_its_body(site, feed, path):
    """Monitors ask so."""
    server = Server("page", "127.0.0.1", 0, site.answer)
    try:
        answers = [sent(server.port, f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()) for _ in range(20)]
        assert {answer.partition(b"\r\n\r\n")[2] for answer in answers} == {b""}
        assert {answer.split()[1] for answer in answers} == {b"404" if path == "/nothing" else b"200"}
        wait_until(lambda: feed._viewers == 0, "no viewer")
    finally:
        server.close()


def test_who_asks_too_slowly_is_closed():
    """A byte now and then would keep a connection for ever."""
    server = Server("page", "127.0.0.1", 0, lambda _: Reply(200, b""), patience_s=0.0)
    try:
        with connected(server.port) as slow:
            slow.sendall(b"GET / HTTP/1.1\r\nHost: ")
            assert slow.recv(10) == b""
    finally:
        server.close()


def test_who_never_reads_is_dropped(monkeypatch):
    """Not kept with what was sent, for as long as he likes."""
    monkeypatch.setattr(edgeannot.base.connections.http_server._Handler, "timeout", 0.1)
    feed = Feed(2.0)
    feed.start(lambda: {"more than the kernel keeps": "x" * 4_000_000})
    server = Server("page", "127.0.0.1", 0, Site(feed, Access(None, 8464), None).answer)
    try:
        with connected(server.port) as viewer:
            viewer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until(lambda: feed._state[0] > 0, "the first figures")
            wait_until(lambda: feed._viewers == 0, "the end of the stream")
    finally:
        server.close()
        feed.close()


def test_over_a_connection(site, feed, commands):
    server = Server("page", "127.0.0.1", 0, site.answer, most=2)
    port = server.port
    try:
        host = f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n".encode()
        assert sent(port, b"GET /?token=x HTTP/1.1\r\n" + host + b"\r\n").startswith(b"HTTP/1.0 200 ")
        post = b"POST /command/pause HTTP/1.1\r\n" + host
        assert sent(port, post + b"Content-Length: 2\r\n\r\n{}").startswith(b"HTTP/1.0 200 ")
        for bad in (
            b"",
            b"Content-Length: 99999999999\r\n",
            b"Content-Length: -1\r\n",
            b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        ):
            assert sent(port, post + bad + b"\r\n").startswith(b"HTTP/1.0 413 ")
        assert commands.asked == [("pause", b"{}")]
        with connected(port) as viewer:
            viewer.sendall(b"GET /events HTTP/1.1\r\n" + host + b"\r\n")
            with viewer.makefile("rb") as stream:
                assert any(line == b"event: hello\n" for line in stream)
                with (
                    socket.create_connection(("127.0.0.1", port), DEADLINE_S),
                    socket.create_connection(("127.0.0.1", port), DEADLINE_S) as third,
                ):
                    assert third.recv(10) == b""  # no room
                assert "use" in listen_trouble("127.0.0.1", port)
                feed.close()
                assert stream.read() is not None  # the stream ends
    finally:
        server.close()
    assert listen_trouble("127.0.0.1", 0) == ""
