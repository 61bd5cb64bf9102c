"""Downloads: whole and checked, or not there at all; resumed, bounded, and clear about what went wrong."""

from __future__ import annotations

import fcntl
import hashlib
import os
import random
import socket
import threading

import pytest

from edgeannot.base import atomicfile
from edgeannot.base.errors import InputError, LinkError, MissingError
from edgeannot.library.fetch import FetchLimits, Wanted, download
from tests.brokers import free_port
from tests.web import (
    another_part,
    cut_after,
    forward_proxy,
    redirect,
    stall_after,
    stated,
    status,
    trickle,
    unstated,
    web_site,
    whole_always,
)

CONTENT = random.Random(1).randbytes(300_000)
QUICK = FetchLimits(stall_s=5, deadline_s=20, tries=3, first_pause_s=0.01, max_pause_s=0.02)


@pytest.fixture(scope="module", name="server")
def _server():
    with web_site() as site:
        yield site


@pytest.fixture(name="site")
def _site(server, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server.files.clear()
    server.answers.clear()
    server.asked.clear()
    return server


@pytest.fixture
def released():
    event = threading.Event()
    yield event
    event.set()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def wanted(url, content=CONTENT, **known):
    return Wanted(url, **{"sha256": sha256(content), "size": len(content), **known})


def fetched(item, folder, limits=QUICK, **kwargs):
    path = download(item, folder, limits=limits, **kwargs)
    assert sorted(p.name for p in folder.iterdir()) == [path.name]  # no part, no tag
    return path.read_bytes()


def requests(site):
    return [headers.get("Range") for _, headers in site.asked]


# -- what arrives ------------------------------------------------------------------------------------------------------------


def test_an_empty_file_is_a_file(site, tmp_path):
    assert fetched(wanted(site.put("/empty", b""), b""), tmp_path) == b""


def test_a_file_arrives_whole_under_its_hash_and_progress_is_told(site, tmp_path):
    told = []
    path = download(wanted(site.put("/f", CONTENT)), tmp_path, limits=QUICK, progress=lambda have, whole: told.append((have, whole)))

    assert path == tmp_path / sha256(CONTENT)
    assert path.read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [have for have, _ in told] == sorted(have for have, _ in told)


def test_what_is_there_is_not_fetched_again(site, tmp_path):
    item = wanted(site.put("/f", CONTENT))
    download(item, tmp_path, limits=QUICK)

    assert download(item, tmp_path, limits=QUICK).read_bytes() == CONTENT
    assert len(site.asked) == 1


def test_what_is_there_and_damaged_is_fetched_again(site, tmp_path):
    (tmp_path / sha256(CONTENT)).write_bytes(b"rust")

    assert fetched(wanted(site.put("/f", CONTENT)), tmp_path) == CONTENT


@pytest.mark.parametrize("answer", [unstated, whole_always])
def test_a_length_need_not_be_stated(site, tmp_path, answer):
    assert fetched(wanted(site.put("/f", CONTENT, answer), size=None), tmp_path) == CONTENT


@pytest.mark.parametrize("to", ["http://[::1/f", "http://a..b/f", f"http://{'a' * 70}.b/f", "file:///etc/passwd"])
def test_a_redirection_to_nowhere_is_said(site, tmp_path, to):
    with pytest.raises(LinkError, match="cannot be fetched"):
        download(wanted(site.put("/f", b"", *[redirect(to)] * 9), CONTENT), tmp_path, limits=QUICK)


@pytest.mark.parametrize(
    "answer",
    [status(503, Retry_After="\u00b2"), status(206, Content_Range=f"bytes {'9' * 5000}-9/9")],
    ids=["a date of another script", "a place of thousands of digits"],
)
def test_headers_that_are_no_numbers_do_not_break_it(site, tmp_path, answer):
    with pytest.raises(LinkError, match="cannot be fetched"):
        download(wanted(site.put("/f", CONTENT, *[answer] * 9)), tmp_path, limits=QUICK)


@pytest.mark.parametrize("line", [b"HTTP/1.1 403 \x1b[31mNo\x07\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 \x1b[31m\r\n\r\n"])
def test_what_a_server_says_does_not_get_at_the_terminal(site, tmp_path, line):
    def answer(handler, _):
        handler.wfile.write(line)
        handler.close_connection = True

    refused(wanted(site.put("/f", b"", *[answer] * 9)), tmp_path, LinkError, r"^http\S* cannot be fetched: [ -~]*$")


def test_redirects_are_followed(site, tmp_path):
    site.put("/real", CONTENT)

    assert fetched(wanted(site.put("/moved", b"", redirect(site.url("/real")))), tmp_path) == CONTENT


# -- going on where it broke off ---------------------------------------------------------------------------------------------


def test_a_cut_transfer_goes_on_where_it_broke_off(site, tmp_path):
    url = site.put("/f", CONTENT, cut_after(100_000), cut_after(50_000))

    assert fetched(wanted(url), tmp_path) == CONTENT
    assert requests(site) == [None, "bytes=100000-", "bytes=150000-"]
    assert site.asked[1][1]["If-Range"]


def test_tries_are_counted_in_a_row_without_a_byte_more(site, tmp_path):
    url = site.put("/f", CONTENT, *[cut_after(20_000)] * 10)  # more cuts than tries

    assert fetched(wanted(url), tmp_path) == CONTENT


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(site, tmp_path):
    url = site.put("/f", CONTENT, cut_after(100_000), *[status(503)] * 3)

    with pytest.raises(LinkError, match=r"503.*100,000 bytes are kept"):
        download(wanted(url), tmp_path, limits=QUICK)
    assert not (tmp_path / sha256(CONTENT)).exists()
    assert fetched(wanted(url), tmp_path) == CONTENT
    assert requests(site)[-1] == "bytes=100000-"


def test_a_server_without_ranges_sends_it_all_again(site, tmp_path):
    assert fetched(wanted(site.put("/f", CONTENT, cut_after(100_000), whole_always)), tmp_path) == CONTENT


def test_a_file_that_changed_on_the_way_is_fetched_from_its_start(site, tmp_path):
    other = CONTENT[::-1]
    url = site.put("/f", other, cut_after(100_000))
    with pytest.raises(LinkError):
        download(wanted(url), tmp_path, limits=FetchLimits(tries=1))
    site.put("/f", CONTENT)  # another tag: If-Range does not hold

    assert fetched(wanted(url), tmp_path) == CONTENT


@pytest.mark.parametrize("left", [b"of something else" * 100, CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_a_part_that_is_of_another_file_costs_a_second_transfer_only(site, tmp_path, left):
    (tmp_path / f"{sha256(CONTENT)}.part").write_bytes(left)

    assert fetched(wanted(site.put("/f", CONTENT)), tmp_path) == CONTENT


def test_a_part_that_was_whole_already_is_taken_without_asking(site, tmp_path):
    (tmp_path / f"{sha256(CONTENT)}.part").write_bytes(CONTENT)

    assert fetched(wanted(site.put("/f", CONTENT)), tmp_path) == CONTENT
    assert site.asked == []


def test_a_wrong_part_is_not_appended(site, tmp_path):
    url = site.put("/f", CONTENT, cut_after(100_000), another_part)

    assert fetched(wanted(url), tmp_path) == CONTENT


def test_a_part_longer_than_the_file_is_thrown_away(site, tmp_path):
    (tmp_path / f"{sha256(CONTENT)}.part").write_bytes(CONTENT + b"more")

    assert fetched(wanted(site.put("/f", CONTENT), size=None), tmp_path) == CONTENT  # 416 Range Not Satisfiable


# -- what is refused ---------------------------------------------------------------------------------------------------------


def refused(item, folder, error, match, limits=QUICK):
    """Nothing stands under the file's name then, and only what may be gone on with is kept."""
    with pytest.raises(error, match=match):
        download(item, folder, limits=limits)
    assert not (folder / item.key).exists()
    return [path.name for path in folder.iterdir()]


def test_another_file_is_refused_with_both_hashes(site, tmp_path):
    other = CONTENT[::-1]

    assert refused(wanted(site.put("/f", other)), tmp_path, InputError, f"{sha256(other)}, wanted {sha256(CONTENT)}") == []


def test_another_size_is_refused_before_it_is_fetched(site, tmp_path):
    assert refused(wanted(site.put("/f", CONTENT[:-5])), tmp_path, InputError, "299,995 bytes, wanted 300,000") == []


def test_too_much_is_refused_by_its_stated_length(site, tmp_path):
    limits = FetchLimits(max_bytes=1000)

    assert refused(Wanted(site.put("/f", CONTENT)), tmp_path, InputError, "300,000 bytes or more, at most 1,000", limits) == []


def test_too_much_is_refused_where_no_length_is_stated(site, tmp_path):
    limits = FetchLimits(max_bytes=1000)

    assert refused(Wanted(site.put("/f", CONTENT, unstated)), tmp_path, InputError, "at most 1,000 are taken", limits) == []


def test_a_body_shorter_than_stated_is_tried_again_and_given_up(site, tmp_path):
    url = site.put("/f", CONTENT, *[stated(400_000)] * 9)

    refused(wanted(url, size=None), tmp_path, LinkError, r"300,000 of 400,000 bytes")


def test_a_body_longer_than_stated_is_not_the_file(site, tmp_path):
    url = site.put("/f", CONTENT, *[stated(1000)] * 9)

    assert refused(wanted(url, size=None), tmp_path, InputError, "is not the wanted file") == []


def test_a_file_that_is_not_there_is_said_at_once(site, tmp_path):
    assert refused(wanted(site.url("/nothing")), tmp_path, MissingError, r"is not there: the server answers 404") == []
    assert len(site.asked) == 1


def test_a_refusal_is_said_at_once(site, tmp_path):
    refused(wanted(site.put("/f", CONTENT, status(403))), tmp_path, LinkError, "403 Forbidden")
    assert len(site.asked) == 1


def test_a_failing_server_is_tried_again(site, tmp_path):
    assert fetched(wanted(site.put("/f", CONTENT, status(500), status(429, Retry_After="0"))), tmp_path) == CONTENT


def test_a_server_that_goes_on_failing_is_given_up(site, tmp_path):
    refused(wanted(site.put("/f", CONTENT, *[status(500)] * 9)), tmp_path, LinkError, "500 Internal Server Error")
    assert len(site.asked) == QUICK.tries


def test_a_wait_beyond_the_deadline_is_not_begun(site, tmp_path):
    url = site.put("/f", CONTENT, status(503, Retry_After="3000"))

    refused(wanted(url), tmp_path, LinkError, "503")
    assert len(site.asked) == 1


def test_silence_ends_after_its_time(site, tmp_path, released):
    url = site.put("/f", CONTENT, stall_after(1000, released))
    limits = FetchLimits(stall_s=0.2, tries=1)

    kept = refused(wanted(url), tmp_path, LinkError, r"nothing arrived for 0.2 s; 1,000 bytes are kept", limits)
    assert f"{sha256(CONTENT)}.part" in kept


def test_a_trickle_ends_at_the_deadline(site, tmp_path, released):
    url = site.put("/f", CONTENT, trickle(released))

    refused(wanted(url), tmp_path, LinkError, r"longer than 0.4 s", FetchLimits(stall_s=5, deadline_s=0.4))


def test_a_server_that_takes_the_request_and_says_nothing_is_no_full_disk(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/f"

        refused(wanted(url), tmp_path, LinkError, "nothing arrived for 0.05 s", FetchLimits(stall_s=0.05, tries=2, first_pause_s=0.01))


def test_redirects_in_a_ring_end(site, tmp_path):
    url = site.put("/ring", b"", *[redirect(site.url("/ring"))] * 20)

    refused(wanted(url), tmp_path, LinkError, r"^http\S* cannot be fetched: the server answers 302 [ -~]*$")


def test_a_redirect_to_a_local_file_is_not_followed(site, tmp_path):
    refused(wanted(site.put("/f", b"", redirect("file:///etc/hostname"))), tmp_path, LinkError, "not allowed")


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_redirect_away_from_the_web_is_not_followed(site, tmp_path, encrypted):
    """urllib would; what an FTP server gives has neither a status nor a length."""
    url = site.put("/f", b"", redirect("ftp://127.0.0.1:9/f"))
    file = Wanted(url, None, None, encrypted=True) if encrypted else wanted(url)

    refused(file, tmp_path, LinkError, "redirects to 'ftp://127.0.0.1:9/f', which is not a web address")


@pytest.mark.parametrize(
    "url", ["ftp://example.org/f", "file:///etc/hostname", "/a/path", "http:///f", "", "http://[::1/f", "http://a:b/f"]
)
def test_only_web_addresses_are_fetched(tmp_path, url):
    with pytest.raises(InputError, match="is not a web address"):
        download(Wanted(url), tmp_path)


def test_a_name_that_nobody_knows_says_offline(tmp_path):
    refused(wanted("http://nowhere.invalid/f"), tmp_path, LinkError, "no address is found for nowhere.invalid; this machine may be offline")


def test_a_port_where_nobody_listens_is_said(site, tmp_path):
    refused(wanted(f"http://127.0.0.1:{free_port()}/f"), tmp_path, LinkError, r"127.0.0.1 cannot be reached \(Connection refused\)")


def test_a_full_disk_is_said(site, tmp_path, monkeypatch):
    url = site.put("/f", CONTENT)
    monkeypatch.setattr(atomicfile, "open_append", lambda path: os.open("/dev/full", os.O_RDWR))

    with pytest.raises(InputError, match=r"cannot be stored in .*No space left on device; make room"):
        download(wanted(url), tmp_path, limits=QUICK)
    assert not (tmp_path / sha256(CONTENT)).exists()


def test_a_folder_that_is_a_file_is_said(site, tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(InputError, match="cannot be stored"):
        download(wanted(site.put("/f", CONTENT)), tmp_path / "file", limits=QUICK)


def test_two_do_not_write_one_file(site, tmp_path):
    with (tmp_path / f"{sha256(CONTENT)}.part").open("ab") as other:
        other.write(b"x")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(LinkError, match="another command is downloading"):
            download(wanted(site.put("/f", CONTENT)), tmp_path, limits=QUICK)


# -- proxies -----------------------------------------------------------------------------------------------------------------


def test_the_proxy_of_the_environment_is_used(site, tmp_path, monkeypatch):
    url = site.put("/f", CONTENT)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with forward_proxy() as (address, through):
        monkeypatch.setenv("http_proxy", address)

        assert fetched(wanted(url), tmp_path) == CONTENT
    assert through == [url]


def test_a_proxy_that_is_away_is_named_without_its_password(site, tmp_path, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://me:secret@127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with pytest.raises(LinkError, match=r"through the proxy 127\.0\.0\.1:9") as caught:
        download(wanted(site.put("/f", CONTENT)), tmp_path, limits=QUICK)
    assert "secret" not in str(caught.value)
