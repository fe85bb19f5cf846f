"""Images by reference, the pure parts: what is an image, what is base64, which addresses are public."""

import asyncio
import base64

import pytest

from api.images import ImageFetcher, decode_image, is_image
from shared.addresses import is_public
from shared.errors import ImageUnavailable, InvalidRequest

PNG = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR"
PNG64 = base64.b64encode(PNG).decode()

IMAGES = {
    "png": PNG,
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "gif87": b"GIF87a\1\0\1\0",
    "gif89": b"GIF89a\1\0\1\0",
    "webp": b"RIFF\x24\n\0\0WEBPVP8 ",
    "bmp": b"BM\x9a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0",
    "bmp-v5": b"BM\x9a\n\0\0\0\0\0\0\x8a\0\0\0\x7c\0\0\0",
    "tiff-little": b"II*\0\x08\0\0\0",
    "tiff-big": b"MM\0*\0\0\0\x08",
}


@pytest.mark.parametrize("data", IMAGES.values(), ids=IMAGES)
def test_the_formats_are_known_by_their_first_bytes(data: bytes) -> None:
    assert is_image(data)
    assert not is_image(b" " + data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"BMW is not a bitmap, whatever it says",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"GIF88a",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"<?xml version='1.0'?><svg/>",
        b"<!doctype html>",
        b"%PDF-1.7",
        b"root:x:0:0:root:/root:/bin/bash",
    ],
)
def test_other_bytes_are_no_image(data: bytes) -> None:
    assert not is_image(data)


@pytest.mark.parametrize(
    "reference",
    [
        PNG64,
        f"data:image/png;base64,{PNG64}",
        f"DATA:Image/PNG;Base64,{PNG64}",
        f"data:image/png;charset=utf-8;base64,{PNG64}",
        f"data:image/jpeg;base64,{PNG64}",  # the bytes decide, not the label
        f"data:image/png;base64,{PNG64[:9]}\r\n{PNG64[9:]}\n",
        f"\n{PNG64[:4]} {PNG64[4:]}",
    ],
)
def test_base64_gives_its_bytes(reference: str) -> None:
    assert decode_image(reference) == PNG


@pytest.mark.parametrize("url", ["http://host/a.png", "https://host/a.png?x=1", "HTTPS://HOST", "http://"])
def test_a_url_is_to_be_fetched(url: str) -> None:
    assert decode_image(url) is None


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("", "the base64 data is not an image"),
        ("c2VjcmV0", "the base64 data is not an image"),
        ("data:image/png;base64,", "the base64 data is not an image"),
        ("data:image/png;base64", "the base64 data is not an image"),
        ("data:image/svg+xml;base64,PHN2Zz5zZWNyZXQ8L3N2Zz4=", "the base64 data is not an image"),
        ("data:text/html;base64,c2VjcmV0", "a data URI of an image must begin with data:image/"),
        ("data:;base64,c2VjcmV0", "a data URI of an image must begin with data:image/"),
        ("data:image/png,secret", "a data URI of an image must begin with data:image/"),
        ("data:imagesecret/png;base64,c2Vj", "a data URI of an image must begin with data:image/"),
        ("data:", "a data URI of an image must begin with data:image/"),
        (f"{PNG64[:-1]}secret!", "valid base64"),
        (f"data:image/png;base64,{PNG64.rstrip('=')}=secret", "valid base64"),
        (f"{PNG64[:-3]}", "valid base64"),
        ("sécret", "valid base64"),
        ("\ud800secret", "valid base64"),
        ("secret.png", "valid base64"),
        ("/etc/secret", "valid base64"),
        ("file:///etc/secret", "valid base64"),
        ("ftp://host/secret.png", "valid base64"),
        ("//host/secret.png", "valid base64"),
    ],
)
def test_anything_else_is_refused_without_repeating_it(reference: str, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence) as raised:
        decode_image(reference)

    assert "secret" not in raised.value.message
    assert "c2Vj" not in raised.value.message


@pytest.mark.parametrize("address", ["8.8.8.8", "151.101.1.69", "2606:4700::6810:84e5", "2a00:1450:4001:80b::200e"])
def test_an_address_that_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.255.255.254", "::1"),
        *("0.0.0.0", "0.1.2.3", "::"),
        *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fd00:ec2::254", "fc00::1"),
        *("169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "fec0::1"),
        *("100.64.0.1", "100.100.100.200", "100.127.255.255"),
        *("224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"),
        *("240.0.0.1", "255.255.255.255", "198.18.0.1"),
        *("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"),
        *("192.0.0.1", "192.0.0.192", "168.63.129.16", "192.88.99.1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:100.64.0.1", "::ffff:8.8.8.8"),
        *("::127.0.0.1", "::ffff:0:127.0.0.1"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::127.0.0.1"),
        *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2"),
        *("100::1", "5f00::1", "4000::1"),
    ],
)
def test_an_address_of_any_other_kind_is_not(address: str) -> None:
    assert not is_public(address)


def test_base64_may_be_in_its_alphabet_for_urls() -> None:
    data = PNG + b"xx\xfb\xff\xfe!"
    written = base64.urlsafe_b64encode(data).decode()

    assert "-" in written
    assert "_" in written
    for reference in (written, written.rstrip("="), f"data:image/png;base64,{written}"):
        assert decode_image(reference) == data


def test_a_long_url_is_named_by_its_beginning() -> None:
    fetcher = ImageFetcher(max_bytes=1, timeout_s=1, allowed_hosts=[], enabled=True)

    with pytest.raises(ImageUnavailable) as raised:
        asyncio.run(fetcher.fetch(f"http://127.0.0.1/{'x' * 5000}.png?key=secret"))

    assert "http://127.0.0.1/xxx" in raised.value.message
    assert len(raised.value.message) < 400
    assert "secret" not in raised.value.message
