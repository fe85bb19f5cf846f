"""Fetching images, against real servers on this machine: what is let through, and what is not."""

import asyncio
import base64
import gzip
import itertools
import os
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import uvloop

from api.images import ImageFetcher
from shared.addresses import resolve
from shared.errors import ImageUnavailable, InvalidRequest

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + bytes(range(256)) * 4

#: In an unallocated part of the internet: public by every rule, and nobody is there.
NOBODY = "2d00::1"

#: For `pictures.test`, valid from 2020 to 2120; everybody knows its key.
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/oiPfq4/uWWQcCuX
ZtiYTqGTcU9aX2n2ndvLMRRcb/6hRANCAASMD+5/EMyGVYFDhK1K7Vvd/3TgeCl3
jQDYxUxH9v1ihcXJsVLLAPBWOiKSc91znWvMEh5hRSOLlNbV6gFn3EFC
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBjjCCATagAwIBAgIUXg0Q0hwQtgE2zqVQxPArB1JmKtswCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDAgFw0yMDAxMDEwMDAwMDBaGA8yMTIw
MDEwMTAwMDAwMFowGDEWMBQGA1UEAwwNcGljdHVyZXMudGVzdDBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABIwP7n8QzIZVgUOErUrtW93/dOB4KXeNANjFTEf2/WKF
xcmxUssA8FY6IpJz3XOda8wSHmFFI4uU1tXqAWfcQUKjXDBaMB0GA1UdDgQWBBQG
wkMGbqEPC5a2H4D/8wtLO/N4nDAPBgNVHRMBAf8EBTADAQH/MBgGA1UdEQQRMA+C
DXBpY3R1cmVzLnRlc3QwDgYDVR0PAQH/BAQDAgKEMAoGCCqGSM49BAMCA0YAMEMC
H01b8FvgpQKmkP5du4gPdaVTsVl1e2J0ENKhBDis9KMCIAz8lPJ6msWYO1esVrtQ
23JiXn3fz/Mv2YNo3BUTy6rf
-----END CERTIFICATE-----
"""


class Site(socketserver.ThreadingTCPServer):
    """A web server that answers each path with prepared bytes, as many as the client takes, and hangs up."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Visit)
        self.port = self.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        self.answers: dict[str, Iterable[bytes]] = {"/image.png": answer(PNG)}
        self.requests: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """That a client hangs up, or trusts no stranger's certificate, is what the tests are about."""


class _Visit(socketserver.StreamRequestHandler):
    server: Site

    def handle(self) -> None:
        head = b"".join(iter(self.rfile.readline, b"\r\n")).decode()
        self.server.requests.append(head)
        path = head.split()[1].partition("?")[0]
        for part in self.server.answers[path]:
            self.wfile.write(part)


def answer(body: bytes, *headers: str, status: str = "200 OK", content_type: str = "image/png") -> list[bytes]:
    """A response whose end is the end of the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {content_type}", *headers, "Connection: close", "", ""]
    return ["\r\n".join(lines).encode(), body]


def redirect(location: str) -> list[bytes]:
    return answer(b"", f"Location: {location}", status="302 Found")


def drip(head: bytes, drop: bytes) -> Iterator[bytes]:
    """Something at once, and then a little now and then."""
    yield head
    while True:
        time.sleep(0.02)
        yield drop


@pytest.fixture(autouse=True)
def system_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """None: reading them takes longer than most of these tests."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)


@pytest.fixture
def site() -> Iterator[Site]:
    yield from _running(Site())


@pytest.fixture
def other_site() -> Iterator[Site]:
    yield from _running(Site())


@pytest.fixture
def secure_site(tmp_path: Path) -> Iterator[Site]:
    """A site behind TLS, called `pictures.test` by its certificate, which is in `certificate.pem`."""
    (tmp_path / "certificate.pem").write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem")
    site = Site()
    site.socket = context.wrap_socket(site.socket, server_side=True, do_handshake_on_connect=False)
    yield from _running(site)


def _running(site: Site) -> Iterator[Site]:
    thread = threading.Thread(target=site.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield site
    site.shutdown()
    site.server_close()
    thread.join()


def fetch(*urls: str, max_bytes: int = 1_000_000, timeout_s: float = 5, **options: Any) -> list[bytes]:
    """Fetch one image after the other, on the event loop that the gateway has."""

    async def run() -> list[bytes]:
        settings = {"allowed_hosts": [], "enabled": True, **options}
        fetcher = ImageFetcher(max_bytes=max_bytes, timeout_s=timeout_s, **settings)
        try:
            return [await fetcher.read(url) for url in urls]
        finally:
            await fetcher.aclose()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def answering(*answers: Sequence[str]) -> Callable[[str], Any]:
    """A resolver that gives these answers, one after the other."""
    remaining = iter(answers)

    async def resolver(_host: str) -> Sequence[str]:
        return next(remaining)

    return resolver


# Addresses


def test_an_image_of_an_allowed_host_is_fetched(site: Site) -> None:
    assert fetch(f"{site.url}/image.png", allowed_hosts=[site.host]) == [PNG]


def test_a_host_is_allowed_with_all_its_ports_or_with_one(site: Site, other_site: Site) -> None:
    fetch(f"{site.url}/image.png", f"{other_site.url}/image.png", allowed_hosts=["127.0.0.1"])

    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(f"{other_site.url}/image.png", allowed_hosts=[site.host])


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0x7f000001", "017700000001", "127.1"])
def test_an_internal_address_is_refused_in_every_spelling(site: Site, host: str) -> None:
    url = f"http://{host}:{site.port}/image.png"

    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(url)
    assert site.requests == []

    # And it is the guard that refuses: the spelling is one that works
    assert fetch(url, allowed_hosts=[host]) == [PNG]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "0", "[::]"]
)
def test_this_machine_is_refused_under_its_other_names(site: Site, host: str) -> None:
    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(f"http://{host}:{site.port}/image.png")

    assert site.requests == []


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "100.64.0.1", "[fd00:ec2::254]", "[64:ff9b::a00:1]"])
def test_no_connection_to_an_internal_address_is_tried(host: str) -> None:
    # A connection to an address that drops packets would run into the timeout instead
    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(f"http://{host}/latest/meta-data/")


def test_an_allowed_ipv6_address_is_written_as_in_a_url(site: Site) -> None:
    url = f"http://[::ffff:127.0.0.1]:{site.port}/image.png"

    assert fetch(url, allowed_hosts=[f"[::ffff:127.0.0.1]:{site.port}"]) == [PNG]
    assert f"Host: [::ffff:127.0.0.1]:{site.port}".lower() in site.requests[0].lower()


def test_a_host_with_one_internal_address_among_public_ones_is_refused(site: Site) -> None:
    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(f"http://both.test:{site.port}/image.png", resolver=answering([NOBODY, "127.0.0.1"]))

    assert site.requests == []


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(site: Site) -> None:
    # Given a name that exists only for the resolver
    resolver = answering(["127.0.0.1"])

    # Then nobody else was asked for it
    assert fetch(f"http://pictures.test:{site.port}/image.png", allowed_hosts=["Pictures.test"], resolver=resolver)


def test_a_name_that_turns_internal_after_the_check_leads_nowhere(site: Site) -> None:
    # Given a name that is public when first asked for, and then internal
    url, resolver = f"http://rebinding.test:{site.port}/image.png", answering([NOBODY], ["127.0.0.1"])

    # When it is fetched, the public address is tried, and only that
    with pytest.raises(ImageUnavailable, match=r"took longer|could not be fetched"):
        fetch(url, timeout_s=0.2, resolver=resolver)

    # And when it is fetched again, the new address is checked again
    with pytest.raises(ImageUnavailable, match="an address that is not public"):
        fetch(url, resolver=resolver)
    assert site.requests == []


def test_the_next_address_of_a_host_is_tried_when_one_refuses(site: Site) -> None:
    resolver = answering(["::1", "127.0.0.1"])  # the site listens on the second only

    assert fetch(f"http://two.test:{site.port}/image.png", allowed_hosts=["two.test"], resolver=resolver) == [PNG]


def test_the_systems_resolver_knows_this_machine() -> None:
    assert "127.0.0.1" in asyncio.run(resolve("127.0.0.1"))


def test_a_host_that_does_not_exist_is_the_callers_mistake() -> None:
    async def unknown(_host: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(ImageUnavailable, match="leads to a host that cannot be found"):
        fetch("http://nobody.test/image.png", resolver=unknown)


@pytest.mark.parametrize("host", ["x" * 64 + ".test", "a..test"])
def test_a_host_that_cannot_exist_is_the_callers_mistake(host: str) -> None:
    with pytest.raises(ImageUnavailable, match="leads to a host that cannot be found"):
        fetch(f"http://{host}/image.png")


def test_a_host_without_an_address_cannot_be_fetched_from() -> None:
    with pytest.raises(ImageUnavailable, match="could not be fetched"):
        fetch("http://empty.test/image.png", resolver=answering([]))


def test_a_proxy_of_the_environment_is_not_used(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert fetch(f"{site.url}/image.png", allowed_hosts=[site.host]) == [PNG]


# URLs


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@127.0.0.1/image.png",
        "http://secret@127.0.0.1/image.png",
        "http:///image.png",
        "http://127.0.0.1:99999/image.png",
        "http://127.0.0.1:secret/image.png",
        "http://[secret]/image.png",
        "http://127.0.0.1/\x00secret",
        "http://127.0.0.1/\ud800secret",
        "https://" + "secret" * 20_000,
    ],
)
def test_a_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ImageUnavailable, match=r"^the image's URL is, or redirects to, something") as raised:
        fetch(url, allowed_hosts=["127.0.0.1"])

    assert "secret" not in raised.value.message


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/secret.png", "file:///etc/secret", "data:image/png;base64,secret"])
def test_only_http_is_fetched(url: str) -> None:
    async def run() -> None:
        fetcher = ImageFetcher(max_bytes=1, timeout_s=1, allowed_hosts=["127.0.0.1"], enabled=True)
        await fetcher.fetch(url)

    with pytest.raises(ImageUnavailable, match="something other than an http") as raised:
        asyncio.run(run())

    assert "secret" not in raised.value.message


def test_nothing_is_fetched_when_that_is_switched_off(site: Site) -> None:
    with pytest.raises(ImageUnavailable, match="send them as base64"):
        fetch(f"{site.url}/image.png", allowed_hosts=[site.host], enabled=False)

    assert site.requests == []
    assert fetch(base64.b64encode(PNG).decode(), enabled=False) == [PNG]


def test_an_error_names_the_url_without_its_query(site: Site) -> None:
    site.answers["/private.png"] = answer(b"", status="403 Forbidden")

    with pytest.raises(ImageUnavailable) as raised:
        fetch(f"{site.url}/private.png?token=secret#secret", allowed_hosts=[site.host])

    assert raised.value.message == f"{site.url}/private.png answered 403 instead of 200"


def test_the_query_reaches_the_server_and_the_fragment_does_not(site: Site) -> None:
    fetch(f"{site.url}/image.png?width=5&token=ab%2Fc#top", allowed_hosts=[site.host])

    assert site.requests[0].startswith("GET /image.png?width=5&token=ab%2Fc HTTP/1.1\r\n")


# Redirects


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_followed(site: Site, status: str) -> None:
    site.answers["/old.png"] = answer(b"", "Location: /image.png", status=status)

    assert fetch(f"{site.url}/old.png", allowed_hosts=[site.host]) == [PNG]


def test_a_redirect_from_an_allowed_host_to_another_internal_one_is_refused(site: Site, other_site: Site) -> None:
    site.answers["/old.png"] = redirect(f"{other_site.url}/image.png")

    with pytest.raises(ImageUnavailable, match=rf"^{site.url}/old.png leads to an address that is not public"):
        fetch(f"{site.url}/old.png", allowed_hosts=[site.host])

    assert other_site.requests == []


@pytest.mark.parametrize(
    "location",
    ["ftp://127.0.0.1/a.png", "file:///etc/passwd", "//user:secret@127.0.0.1/a", "http://[secret]/", "data:,"],
)
def test_a_redirect_to_something_that_is_no_web_page_is_refused(site: Site, location: str) -> None:
    site.answers["/old.png"] = redirect(location)

    with pytest.raises(ImageUnavailable, match="redirects to, something other than an http") as raised:
        fetch(f"{site.url}/old.png", allowed_hosts=["127.0.0.1"])

    assert "secret" not in raised.value.message


def test_three_redirects_are_followed_and_no_more(site: Site) -> None:
    for n in range(4):
        site.answers[f"/{n}"] = redirect(f"/{n - 1}" if n else "/image.png")

    assert fetch(f"{site.url}/2", allowed_hosts=[site.host]) == [PNG]
    with pytest.raises(ImageUnavailable, match="redirects more than 3 times"):
        fetch(f"{site.url}/3", allowed_hosts=[site.host])


def test_a_loop_of_redirects_ends(site: Site) -> None:
    site.answers["/loop"] = redirect("/loop")

    with pytest.raises(ImageUnavailable, match="redirects more than 3 times"):
        fetch(f"{site.url}/loop", allowed_hosts=[site.host])

    assert len(site.requests) == 4


def test_a_redirect_with_an_endless_body_is_followed_all_the_same(site: Site) -> None:
    head, _ = redirect("/image.png")
    site.answers["/old.png"] = itertools.chain([head], itertools.repeat(b"x" * 65536))

    assert fetch(f"{site.url}/old.png", allowed_hosts=[site.host], timeout_s=2) == [PNG]


def test_cookies_are_not_kept(site: Site) -> None:
    site.answers["/old.png"] = answer(b"", "Location: /image.png", "Set-Cookie: a=b; Path=/", status="302 Found")

    fetch(f"{site.url}/old.png", f"{site.url}/image.png", allowed_hosts=[site.host])

    assert len(site.requests) == 3
    assert not any("cookie" in head.lower() for head in site.requests)


# Responses


def test_an_unpacked_image_is_asked_for(site: Site) -> None:
    fetch(f"{site.url}/image.png", allowed_hosts=[site.host])

    lines = site.requests[0].lower().splitlines()
    assert {"accept: image/*", "accept-encoding: identity", f"host: {site.host}"} <= set(lines)
    assert not any(line.startswith(("authorization", "referer", "origin")) for line in lines)


@pytest.mark.parametrize(
    "content_type", ["image/jpeg", "IMAGE/PNG; q=1", "application/octet-stream", "binary/octet-stream"]
)
def test_an_image_or_a_file_without_a_type_is_taken(site: Site, content_type: str) -> None:
    site.answers["/a"] = answer(PNG, content_type=content_type)

    assert fetch(f"{site.url}/a", allowed_hosts=[site.host]) == [PNG]


@pytest.mark.parametrize("content_type", ["text/html", "application/json", "", "imagery/png"])
def test_a_file_that_is_no_image_by_its_type_is_refused(site: Site, content_type: str) -> None:
    site.answers["/a"] = answer(PNG, content_type=content_type)

    with pytest.raises(ImageUnavailable, match="is not an image by its content-type"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"root:x:0:0", "image/png"),
        (b"<svg/>", "image/svg+xml"),
        (b"{}", "application/octet-stream"),
        (b"", "image/png"),
    ],
)
def test_a_file_that_is_no_image_by_its_bytes_is_refused(site: Site, body: bytes, content_type: str) -> None:
    site.answers["/a"] = answer(body, content_type=content_type)

    with pytest.raises(ImageUnavailable, match="is not an image by its first bytes"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


@pytest.mark.parametrize("status", ["404 Not Found", "206 Partial Content", "304 Not Modified", "500 Oops"])
def test_a_page_that_is_not_what_was_asked_for_is_refused(site: Site, status: str) -> None:
    site.answers["/a"] = answer(b"<html>Oops</html>", status=status, content_type="text/html")

    with pytest.raises(ImageUnavailable, match=f"answered {status[:3]} instead of 200"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
def test_a_packed_image_is_refused(site: Site, encoding: str) -> None:
    site.answers["/a"] = answer(gzip.compress(PNG), f"Content-Encoding: {encoding}")

    with pytest.raises(ImageUnavailable, match="content-encoding"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


def _chunked(body: bytes) -> list[bytes]:
    half = len(body) // 2
    pieces = [body[:half], body[half:], b""]
    return answer(b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces), "Transfer-Encoding: chunked")


@pytest.mark.parametrize(
    "framed",
    [answer, lambda body: answer(body, f"Content-Length: {len(body)}"), _chunked],
    ids=["until-close", "content-length", "chunked"],
)
def test_an_image_has_at_most_the_allowed_bytes(site: Site, framed: Callable[[bytes], list[bytes]]) -> None:
    site.answers["/a"] = framed(PNG)

    assert fetch(f"{site.url}/a", allowed_hosts=[site.host], max_bytes=len(PNG)) == [PNG]
    with pytest.raises(ImageUnavailable, match=f"is larger than {len(PNG) - 1} bytes"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host], max_bytes=len(PNG) - 1)


def test_an_endless_image_is_given_up_at_the_limit(site: Site) -> None:
    site.answers["/a"] = itertools.chain(answer(PNG), itertools.repeat(b"x" * 65536))

    with pytest.raises(ImageUnavailable, match="is larger than 1000000 bytes"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


def test_base64_has_the_same_limit() -> None:
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"

    assert fetch(uri, max_bytes=len(PNG)) == [PNG]
    with pytest.raises(InvalidRequest, match=f"an image of {len(PNG)} bytes is larger than {len(PNG) - 1}"):
        fetch(uri, max_bytes=len(PNG) - 1)


@pytest.mark.parametrize(
    "parts",
    [
        drip(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nX-Slow: ", b"x"),
        drip(b"".join(answer(PNG)), b"x"),
        drip(answer(PNG, "Transfer-Encoding: chunked")[0], b"1\r\nx\r\n"),
    ],
    ids=["headers", "body", "chunks"],
)
def test_a_server_that_drips_is_given_up_in_time(site: Site, parts: Iterator[bytes]) -> None:
    site.answers["/a"] = parts
    started = time.monotonic()

    with pytest.raises(ImageUnavailable, match=f"^{site.url}/a took longer than 0.15 s"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host], timeout_s=0.15)

    assert time.monotonic() - started < 2


def test_redirects_share_one_timeout(site: Site) -> None:
    def slowly(parts: list[bytes]) -> Iterator[bytes]:
        time.sleep(0.1)
        yield from parts

    site.answers["/old.png"] = slowly(redirect("/older.png"))
    site.answers["/older.png"] = slowly(redirect("/image.png"))

    with pytest.raises(ImageUnavailable, match=f"^{site.url}/old.png took longer than 0.15 s"):
        fetch(f"{site.url}/old.png", allowed_hosts=[site.host], timeout_s=0.15)


@pytest.mark.parametrize(
    "parts",
    [[b"SSH-2.0-OpenSSH_9.6\r\n"], [], answer(PNG, "Content-Length: 999999")],
    ids=["another-protocol", "silence", "cut-short"],
)
def test_a_server_that_speaks_no_http_is_the_callers_mistake(site: Site, parts: list[bytes]) -> None:
    site.answers["/a"] = parts

    with pytest.raises(ImageUnavailable, match="could not be fetched"):
        fetch(f"{site.url}/a", allowed_hosts=[site.host])


# TLS


@pytest.fixture
def trusted(tmp_path: Path, secure_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", os.fspath(tmp_path / "certificate.pem"))


def _fetch_securely(site: Site, name: str) -> list[bytes]:
    return fetch(f"https://{name}:{site.port}/image.png", allowed_hosts=[name], resolver=answering(["127.0.0.1"]))


@pytest.mark.usefixtures("trusted")
def test_tls_is_for_the_host_of_the_url_and_not_for_the_address(secure_site: Site) -> None:
    assert _fetch_securely(secure_site, "pictures.test") == [PNG]


@pytest.mark.usefixtures("trusted")
def test_the_certificate_of_another_host_is_refused(secure_site: Site) -> None:
    with pytest.raises(ImageUnavailable, match="could not be fetched"):
        _fetch_securely(secure_site, "other.test")

    assert secure_site.requests == []


def test_an_unknown_certificate_is_refused(secure_site: Site) -> None:
    with pytest.raises(ImageUnavailable, match="could not be fetched"):
        _fetch_securely(secure_site, "pictures.test")

    assert secure_site.requests == []
