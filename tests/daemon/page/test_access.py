"""Who may see the live page: hosts, origins, tokens, sessions, and how often one may guess."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from edgeannot.base.connections.http_server import Request
from edgeannot.base.errors import ConfigError
from edgeannot.daemon.page.access import Access
from edgeannot.settings import PageOptions
from tests.patience import Clock

TOKEN = "0123456789abcdef-right"
HOST = {"host": "porch.local:8464"}
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded", "origin": "http://porch.local:8464"}


@pytest.fixture
def clock():
    return Clock(1_800_000_000.0)


@pytest.fixture
def access(clock):
    return Access(TOKEN, 8464, ("cameras.example",), node="porch", clock=clock)


def request(method="GET", path="/", body=b"", peer="192.168.1.7", **headers):
    return Request(method, path, {**HOST, **{name.replace("_", "-"): value for name, value in headers.items()}}, peer, body)


def login(access, token, peer="192.168.1.7", **headers):
    return access.log_in(Request("POST", "/login", {**HOST, **FORM, **headers}, peer, f"token={token}".encode()))


@pytest.mark.parametrize("host", ["", "evil.example", "evil.example:8464", "porch.evil.example", "localhost.evil.example", "user@porch",
                                  "porch:8464:1", "[::1", "127.0.0.1.nip.io", "porch local"])  # fmt: skip
def test_a_strangers_name_that_points_here_is_refused(access, host):
    """DNS rebinding: the browser believes to speak to the stranger's site, and says its name."""
    assert "not known here" in access.trouble(request(host=host))


@pytest.mark.parametrize("host", ["", "[::1", "user@porch"])
def test_an_empty_name_in_the_settings_is_not_that_of_a_request_without_a_name(host):
    assert "not known here" in Access(TOKEN, 8464, ("",), node="porch").trouble(request(host=host))


@pytest.mark.parametrize("host", ["porch", "PORCH:8464", "porch.local.", "localhost:8464", "127.0.0.1:8464", "192.168.1.5", "[::1]:8464",
                                  "cameras.example"])  # fmt: skip
def test_own_names_and_addresses_are_known(access, host):
    assert access.trouble(request(host=host)) == ""


@pytest.mark.parametrize(
    "headers",
    [
        {},  # a form of another site in an old browser
        {"origin": "null", **JSON},
        {"origin": "http://evil.example", **JSON},
        {"origin": "http://porch.local:80", **JSON},  # another program on this machine
        {"origin": "http://evil.example", "content-type": "text/plain"},
        {"content-type": "text/plain"},
        {"origin": "http://porch.local:8464", "sec-fetch-site": "cross-site", **JSON},
        {"origin": "file://porch.local:8464", **JSON},
    ],
)
def test_what_another_site_sends_is_refused(access, headers):
    assert access.trouble(Request("POST", "/command/pause", {**HOST, **headers}, "127.0.0.1", b"{}"))


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://porch.local:8464", **JSON},
        {"origin": "https://cameras.example", **JSON},  # a proxy with TLS, which asks by another name
        JSON,  # no browser: no other site can send this type without asking first
        FORM,
    ],
)
def test_what_our_own_page_sends_is_taken(access, headers):
    assert access.trouble(Request("POST", "/command/pause", {**HOST, **headers}, "127.0.0.1", b"{}")) == ""


def test_another_site_may_link_here_but_not_take_anything(access):
    visit = {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"}

    assert access.trouble(request(**visit)) == ""
    assert access.trouble(request(path="/events", **visit))
    assert access.trouble(request(sec_fetch_site="cross-site", sec_fetch_mode="no-cors"))
    assert access.trouble(request(path="/events", sec_fetch_site="same-site", sec_fetch_mode="cors"))


def test_without_a_token_everybody_who_reaches_it_may():
    access = Access(None, 8464, node="porch")

    assert (access.locked, access.may(request())) == (False, True)
    assert login(access, "") is None


@pytest.mark.parametrize("headers", [{}, {"cookie": "edgeannot-8464="}, {"cookie": "edgeannot-8464=99999999999.0"}, {"cookie": "=;;a"},
                                     {"cookie": "edgeannot-8464=99999999999.ü"}, {"authorization": "Bearer "}, {"authorization": TOKEN},
                                     {"authorization": "Bearer wrong"}, {"authorization": f"Basic {TOKEN}"}])  # fmt: skip
def test_without_the_token_nobody_may(access, headers):
    assert not access.may(Request("GET", "/", {**HOST, **headers}, "127.0.0.1"))


def test_a_token_in_the_address_counts_for_nothing(access):
    assert not access.may(request(path=f"/?token={TOKEN}"))


def test_the_token_is_a_header_or_makes_a_session(access, clock):
    cookie = login(access, TOKEN)
    session = {"cookie": f"other=1; {cookie.partition(';')[0]}"}

    assert access.may(request(authorization=f"Bearer {TOKEN}"))
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert TOKEN not in cookie
    assert access.may(request(**session))
    assert not Access("another token, as long", 8464, clock=clock).may(request(**session))
    clock.now += 8 * 86400
    assert not access.may(request(**session))


def test_behind_tls_the_cookie_stays_there(access):
    assert "; Secure" in login(access, TOKEN, origin="https://cameras.example")


def test_guesses_are_few_and_then_even_the_token_waits(access, clock):
    assert [login(access, f"guess{n}") for n in range(5)] == [None] * 5
    assert login(access, TOKEN) is None
    assert not access.may(request(authorization=f"Bearer {TOKEN}"))
    assert access.wait_s("192.168.1.7") == 60
    assert login(access, TOKEN, peer="192.168.1.8")  # who sits elsewhere is not kept out
    clock.now += 61
    assert login(access, TOKEN)


def test_a_clock_that_is_set_back_keeps_nobody_out(access, clock):
    for n in range(5):
        login(access, f"guess{n}")
    clock.now -= 86400

    assert access.wait_s("192.168.1.7") == 0
    assert login(access, TOKEN)


def test_one_machine_is_one_guesser(access):
    for n in range(5):
        assert login(access, f"guess{n}", peer=f"2001:db8::{n}") is None
    assert (access.wait_s("2001:db8::99"), access.wait_s("2001:db9::1")) == (60, 0)
    for n in range(5):
        login(access, f"guess{n}", peer="::ffff:10.0.0.1")
    assert (access.wait_s("10.0.0.1"), access.wait_s("::ffff:10.0.0.2")) == (60, 0)


def test_the_guessers_that_are_remembered_are_bounded(access):
    for n in range(3000):
        login(access, "guess", peer=f"10.0.{n // 250}.{n % 250}")

    assert len(access._wrong) <= 1024


def test_an_address_for_others_needs_a_token():
    assert PageOptions(address="0.0.0.0").enabled is False  # off: not asked
    for address in ("127.0.0.1", "::1", "localhost", "127.0.0.2"):
        assert PageOptions(enabled=True, address=address).is_local
    for address in ("0.0.0.0", "192.168.1.5", "::", "porch.local", ""):
        with pytest.raises(ValidationError, match=r"wanted token_file|at least 1 character"):
            PageOptions(enabled=True, address=address)


def test_a_port_that_no_browser_opens_is_refused():
    assert PageOptions(port=6000).enabled is False
    for port in (6000, 6667, 10080):
        with pytest.raises(ValidationError, match=f"wanted another port than {port}, which browsers refuse"):
            PageOptions(enabled=True, port=port)


def test_the_token_is_read_from_its_file(tmp_path):
    file = tmp_path / "token"
    assert PageOptions().read_token() is None
    file.write_text(f"{TOKEN}\n")
    assert PageOptions(token_file=file).read_token() == TOKEN
    for text in ("", "short\n", "ü" * 20):
        file.write_text(text)
        with pytest.raises(ConfigError, match="16 letters and digits or more"):
            PageOptions(token_file=file).read_token()
    with pytest.raises(ConfigError, match="cannot be read"):
        PageOptions(token_file=tmp_path / "absent").read_token()
