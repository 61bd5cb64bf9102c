"""A camera that gives one picture a request: a real server on the loopback, with all that such cameras and their owners do wrong."""

from __future__ import annotations

import hashlib
import http.server
import itertools
import ssl
import threading
import time
from base64 import b64encode
from urllib.parse import urlsplit
from urllib.request import parse_http_list, parse_keqv_list

import pytest

from edgeannot.base.connections.http_exchange import Login
from edgeannot.base.errors import LinkError
from edgeannot.sources import CameraOptions, Context, open_source
from edgeannot.sources.capture import Target
from edgeannot.sources.stills import CameraOpener, StillCamera, _is_same_server
from tests.brokers import free_port
from tests.patience import DEADLINE_S

ENDLESS = "endless"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as `server.answer` says: status, headers and body of a request; the body may be ENDLESS."""

    def setup(self):
        super().setup()
        self.server.connections += 1

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.server.requests.append((self.path, dict(self.headers)))
        status, headers, body = self.server.answer(self)
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if body is not ENDLESS and not any(name == "Content-Length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        try:
            for _ in itertools.count() if body is ENDLESS else ():
                self.wfile.write(self.server.jpeg + bytes(1 << 20))
            self.wfile.write(body)
        except OSError:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False


@pytest.fixture
def camera(jpeg):
    """A server; by default each request is answered with the same picture."""
    server = Server(("127.0.0.1", 0), type("Keeping", (Handler,), {"protocol_version": "HTTP/1.1"}))
    server.connections, server.requests, server.jpeg = 0, [], jpeg(128, size=32)
    server.answer = lambda handler: (200, [("Content-Type", "image/jpeg")], server.jpeg)
    server.url = f"http://127.0.0.1:{server.server_address[1]}/capture"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def quick(monkeypatch):
    """Asking again without the long waits."""
    monkeypatch.setattr("edgeannot.sources.grabber.LONGEST_WAIT_S", 0.01)


@pytest.fixture
def begin(pull, quick):
    """A function that gives a Pull of the camera at an address."""

    def make(url, max_fps=1000.0, once=False, **options):
        return pull(open_source("net", CameraOptions(url=url, **options), Context(max_fps=max_fps, once=once)))

    return make


def ask(url, **options):
    """One request: the camera, and whether it gave a picture."""
    made = StillCamera(Target("stream", url, 5.0, 5.0, **options), sure=True)
    return made, made.grab() and made.retrieve()[0]


def test_a_camera_that_is_not_there_says_so(begin):
    url = f"http://127.0.0.1:{free_port()}/capture"
    items = begin(url)
    items.until(lambda tick: tick.trouble == f"the camera {url} cannot be reached (Connection refused)")

    with pytest.raises(LinkError, match="cannot be reached"):
        begin(url, once=True).rest()


def test_pictures_come_again_and_again_over_one_connection_also_the_same_ones(begin, camera):
    frames = begin(camera.url).take(5)

    assert [frame.size_wh for frame in frames] == [(32, 32)] * 5
    assert len({frame.identity for frame in frames}) == 5
    assert camera.connections == 1


def test_a_picture_is_asked_for_only_when_somebody_wants_one(begin, camera):
    begin(camera.url).take(3)

    assert len(camera.requests) <= 4


def test_once_takes_one_picture(begin, camera):
    assert len(begin(camera.url, once=True).rest()) == 1


def test_a_server_that_ends_the_connection_each_time_is_asked_again(begin, camera):
    camera.answer = lambda handler: (200, [("Content-Type", "image/jpeg"), ("Connection", "close")], camera.jpeg)

    assert len(begin(camera.url).take(4)) == 4
    assert camera.connections >= 4


@pytest.mark.parametrize("kind", [[], [("Content-Type", "application/octet-stream")], [("Content-Type", "text/html")]])
def test_a_picture_is_known_by_its_bytes_where_the_type_is_wrong(begin, camera, kind):
    camera.answer = lambda handler: (200, kind, camera.jpeg)

    assert begin(camera.url).take(2)


def test_a_picture_without_a_length_ends_with_its_connection(begin, camera):
    def answer(handler):
        handler.close_connection = True
        handler.send_response(200)
        handler.send_header("Content-Type", "image/jpeg")
        handler.end_headers()
        handler.wfile.write(camera.jpeg)
        raise ConnectionAbortedError

    camera.answer = answer
    camera.handle_error = lambda *_: None

    assert len(begin(camera.url).take(2)) == 2


JPEG_TYPE = ("Content-Type", "image/jpeg")
REFUSALS = {
    "401": (lambda c: (401, [("WWW-Authenticate", 'Basic realm="cam"')], b""), "answers 401 Unauthorized; set credentials_file to a file"),
    "403": (lambda c: (403, [], b""), "answers 403 Forbidden; check what this user may do there"),
    "404": (lambda c: (404, [], b"nothing"), "answers 404 Not Found; check the address"),
    "503": (lambda c: (503, [], b""), "answers 503 Service Unavailable"),
    "nothing": (lambda c: (204, [], b""), "answers 204 No Content"),
    "no bytes": (lambda c: (200, [JPEG_TYPE], b""), "answers with image/jpeg in place of a picture"),
    "a page": (lambda c: (200, [("Content-Type", "text/html")], b"<html>Login</html>"), "answers with text/html in place of a picture"),
    "a sound": (lambda c: (200, [("Content-Type", "audio/wav")], b"RIFF" + bytes(99)), "answers with audio/wav in place of a picture"),
    "half a picture": (
        lambda c: (200, [JPEG_TYPE], c.jpeg[: len(c.jpeg) // 2]),
        "answers with what is no usable picture: the JPEG is cut off",
    ),
    "a broken line": (
        lambda c: (200, [JPEG_TYPE, ("Content-Length", str(len(c.jpeg) + 99)), ("Connection", "close")], c.jpeg),
        "broke off after",
    ),
    "too much": (
        lambda c: (200, [JPEG_TYPE, ("Content-Length", "99999999")], b""),
        "offers 99,999,999 bytes, at most 33,554,432 are taken",
    ),
    "no end": (lambda c: (200, [JPEG_TYPE], ENDLESS), "sends a picture without end: more than 33,554,432 bytes"),
    "another host": (lambda c: (302, [("Location", "http://example.org/capture")], b""), "redirects to another server, not followed"),
    "another port": (lambda c: (302, [("Location", "http://127.0.0.1:9/capture")], b""), "redirects to another server, not followed"),
    "no address": (lambda c: (302, [("Location", "http://[/")], b""), "redirects to what is no address"),
    "a circle": (lambda c: (307, [("Location", "/capture")], b""), "redirects in a circle"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_is_no_picture_is_said_in_one_sentence(camera, what):
    answer, why = REFUSALS[what]
    camera.answer = lambda handler: answer(camera)
    made, fine = ask(camera.url)
    made.release()

    assert not fine
    assert made.trouble.startswith(why)


@pytest.mark.parametrize("kind", ["text/html", "application/json; charset=utf-8"])
def test_a_page_in_place_of_the_first_picture_is_named_and_is_no_stream(begin, camera, kind):
    camera.answer = lambda handler: (200, [("Content-Type", kind)], b"who are you? " * 9)

    begin(camera.url).until(
        lambda tick: tick.trouble.endswith(f"answers with {kind.partition(';')[0]} in place of a picture; check the address")
    )


def test_a_redirect_may_lead_to_https_on_the_same_host_and_to_no_other_port():
    camera = urlsplit("http://cam/capture")

    assert _is_same_server(camera, urlsplit("http://cam:80/x"))
    assert _is_same_server(camera, urlsplit("https://cam/x"))
    assert not _is_same_server(camera, urlsplit("https://cam:8443/x"))
    assert not _is_same_server(camera, urlsplit("https://other/x"))
    assert not _is_same_server(urlsplit("https://cam/"), urlsplit("http://cam/"))


def test_a_server_that_is_silent_is_left_in_time(camera):
    over = threading.Event()
    camera.answer = lambda handler: over.wait(DEADLINE_S) and (200, [], b"")
    made = StillCamera(Target("stream", camera.url, 0.05, 0.05), sure=True)

    assert not made.grab()
    over.set()
    assert made.trouble == "gives no whole picture within 0.1 s"


def test_trouble_comes_and_goes(begin, camera):
    answers = itertools.chain([camera.answer] * 2, [lambda _: (503, [], b"")] * 3, itertools.repeat(camera.answer))

    def answer(handler):
        return next(answers)(handler)

    camera.answer = answer
    items = begin(camera.url)
    items.take(2)
    items.take(3)

    assert {tick.trouble for tick in items.ticks if tick.trouble} <= {f"the camera {camera.url} answers 503 Service Unavailable"}


def test_a_camera_may_ask_to_be_left_alone_for_a_while(camera):
    camera.answer = lambda handler: (503, [("Retry-After", "120")], b"")
    made, _ = ask(camera.url)
    assert made.pause_s == 120

    camera.answer = lambda handler: (503, [("Retry-After", "99999")], b"")
    made, _ = ask(camera.url)
    assert made.pause_s == 300


def test_redirects_on_the_same_host_are_followed(begin, camera):
    first = camera.answer
    camera.answer = lambda handler: first(handler) if handler.path == "/other?a=1" else (302, [("Location", "other?a=1")], b"moved")

    assert begin(camera.url).take(2)
    assert camera.connections == 1


# Logins


def basic(handler):
    return handler.headers.get("Authorization") == "Basic " + b64encode("bob:hünter2".encode()).decode()


class Digest:
    """The server's half of RFC 7616; each nonce is good for a few requests, as that of a camera."""

    def __init__(self, extra='qop="auth", algorithm=MD5'):
        self.extra, self.nonce, self.left = extra, 0, 0

    def challenge(self, stale):
        self.nonce, self.left = self.nonce + 1, 2
        more = f"{', ' if self.extra else ''}{self.extra}{', stale=true' if stale else ''}"
        return [("WWW-Authenticate", 'Basic realm="cam"'), ("WWW-Authenticate", f'Digest realm="cam", nonce="n{self.nonce}"{more}')]

    def __call__(self, handler):
        scheme, _, words = handler.headers.get("Authorization", "").partition(" ")
        if scheme != "Digest":
            return False
        told = parse_keqv_list(parse_http_list(words))
        md5 = lambda text: hashlib.md5(text.encode()).hexdigest()  # noqa: E731
        middle = f"{told['nc']}:{told['cnonce']}:auth:" if "qop" in told else ""
        wanted = md5(f"{md5('bob:cam:hünter2')}:n{self.nonce}:{middle}{md5(f'GET:{handler.path}')}")
        self.left -= 1
        return told["response"] == wanted and self.left >= 0


@pytest.mark.parametrize("how", ["url", "file"])
@pytest.mark.parametrize("scheme", ["basic", "digest", "digest of old cameras"])
def test_a_login_is_answered(begin, camera, tmp_path, how, scheme):
    first, login = camera.answer, basic if scheme == "basic" else Digest("" if "old" in scheme else 'qop="auth,auth-int", algorithm=MD5')

    def answer(handler):
        if login(handler):
            return first(handler)
        asked = [("WWW-Authenticate", 'Basic realm="cam"')] if scheme == "basic" else login.challenge(login.nonce > 0)
        return 401, asked, b"who are you?"

    camera.answer = answer
    (tmp_path / "login").write_text("bob:hünter2\n", encoding="utf-8")
    url = camera.url.replace("//", "//bob:h%C3%BCnter2@") if how == "url" else camera.url
    frames = begin(url, **({} if how == "url" else {"credentials_file": tmp_path / "login"})).take(5)

    assert len(frames) == 5
    assert camera.connections == 1
    assert all("@" not in headers["Host"] for _, headers in camera.requests)


@pytest.mark.parametrize("scheme", ["Basic", "Digest"])
def test_a_wrong_login_is_said_without_the_login_and_sent_once_a_minute(begin, camera, scheme):
    """Cameras lock a user out after a few wrong passwords."""
    camera.answer = lambda handler: (401, [("WWW-Authenticate", f'{scheme} realm="cam", nonce="x"')], b"")
    url = camera.url.replace("//", "//bob:secret99@")
    made, _ = ask(url)
    assert len(camera.requests) == 2
    assert made.pause_s == 60

    with pytest.raises(LinkError, match=r"refuses the login \(401\); check user and password") as caught:
        begin(url, once=True).rest()
    assert "secret99" not in str(caught.value)
    assert "bob" not in str(caught.value)


def test_a_login_is_not_sent_before_it_is_asked_for(begin, camera):
    begin(camera.url.replace("//", "//bob:secret99@")).take(2)

    assert all("Authorization" not in headers for _, headers in camera.requests)


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_digest_gives_the_answers_of_its_standard(algorithm, response):
    """RFC 7616, 3.9.1."""
    own = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    login = Login("Mufasa", "Circle of Life", lambda: own)
    assert login.header("GET", "/dir/index.html") == {}
    asked = f'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={algorithm}, '
    nonce = 'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"'
    assert login.accept([asked + nonce])
    header = login.header("GET", "/dir/index.html")["Authorization"]

    assert f'response="{response}"' in header
    assert "nc=00000001" in header


def test_several_schemes_in_one_header_are_told_apart():
    login = Login("bob", "secret99")

    assert login.accept(['Basic realm="a, b", Digest realm="cam", nonce="n", qop="auth"'])
    assert login.header("GET", "/")["Authorization"].startswith('Digest username="bob", realm="cam", nonce="n"')


@pytest.mark.parametrize("challenges", [[], ["Bearer"], ['Digest realm="x"'], ['Digest nonce="x", algorithm=SHA-512'], ["Digest =,="]])
def test_a_login_that_cannot_be_answered_is_not_tried(challenges):
    assert not Login("bob", "secret99").accept(challenges)


# TLS


@pytest.fixture
def tls_camera(camera, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    camera.socket = context.wrap_socket(camera.socket, server_side=True)
    camera.handle_error = lambda *_: None
    camera.url = camera.url.replace("http://127.0.0.1", "https://localhost")
    return camera


def test_tls_is_verified(begin, tls_camera, certificates):
    assert begin(tls_camera.url, ca_file=certificates / "ca.crt").take(2)


def test_a_camera_that_is_not_trusted_gets_no_login(begin, tls_camera):
    items = begin(tls_camera.url.replace("//", "//bob:secret99@"), http="stills")

    items.until(lambda tick: "has a certificate that is not trusted" in tick.trouble and "set ca_file" in tick.trouble)
    assert tls_camera.requests == []


# Still or stream


def test_an_address_may_be_named_a_stream_or_still(begin, camera):
    camera.answer = lambda handler: (200, [("Content-Type", "multipart/x-mixed-replace; boundary=x")], b"--x\r\n")
    items = begin(camera.url, http="stills")

    items.until(lambda tick: "answers with multipart/x-mixed-replace in place of a picture" in tick.trouble)


def test_what_an_address_is_is_asked_once(camera):
    opener, target = CameraOpener(), Target("stream", camera.url, 1.0, 1.0)
    camera.answer = lambda handler: (200, [("Content-Type", "video/mp2t")], b"G")
    opener(target).release()
    before = len(camera.requests)
    opener(target).release()
    opener.close()

    assert not any("image/" in headers.get("Accept", "") for _, headers in camera.requests[before:])


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/a", "http://[::1", "http:///a", "http://caméra.invalid:1/bär?ö=ü"])
def test_an_address_that_cannot_be_asked_is_a_camera_that_does_not_open(url):
    if url == "http://[::1":
        with pytest.raises(ValueError, match="cannot be read"):
            CameraOptions(url=url)
        return
    opener = CameraOpener()
    made = opener(Target("stream", url, 1.0, 1.0))
    opener.close()

    assert not made.isOpened()


@pytest.mark.long
def test_at_one_picture_a_second_hardly_one_is_left_out(pull, camera):
    """75 s by the clock: an address that was opened anew for each picture gave 7."""
    items = pull(open_source("net", CameraOptions(url=camera.url, max_fps=1), Context()))
    end = time.monotonic() + 75
    count = 0
    while time.monotonic() < end:
        count += len(items.take(1))

    assert count >= 70
