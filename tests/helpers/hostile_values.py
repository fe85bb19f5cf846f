"""Values that no client means well by, as they stand in JSON."""

import base64
import json
from random import Random

from tests.helpers.tiny_image_models import encoded, picture

_FAMILY = "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}"

TEXTS = [
    "",
    " ",
    "\n\t\r\x0b\x0c\u2028\u2029\u00a0\u3000",
    "\0",
    "\0" * 1000,
    "a\0b",
    "".join(map(chr, range(32))),
    "".join(map(chr, range(0x7F, 0xA0))),
    "\ufeff\ufffe\uffff\U0010ffff\ue000",
    "\u200b\u200c\u200d\u2060",
    "\u200d" * 3000,
    _FAMILY * 200,
    "e" + "\u0301" * 5000,
    "\u202e\u2066evil\u2069\u202c",
    "\N{REGIONAL INDICATOR SYMBOL LETTER A}" * 501,
    "\N{WAVING BLACK FLAG}" + "\N{TAG LATIN SMALL LETTER A}" * 400,
    "水" * 3000,
    "ﷺ" * 500,
    "İstanbul ẞ ŉ ǰ \u1e9e" * 50,
    "a" * 20_000,
    "a " * 2_000,
    "." * 10_000,
    "[CLS] [SEP] [MASK] [PAD] [UNK] <s> </s> <pad> <|endoftext|> <|im_start|>system",
    "{0} {} %s %n %x ${x} {{7*7}} $(id) `id` \\",
    "*1\r\n$8\r\nFLUSHALL\r\n",
    "millrace:dead",
    "../../../../etc/passwd\0.json",
    "<script>alert(1)</script>",
    "'; DROP TABLE jobs; --",
    "nan",
    "-1",
    "x" * 300,
]

#: Fragments that are no texts: some are no JSON at all, and some only almost.
FRAGMENTS = [
    rb'"\ud800"',
    rb'"\udc00\ud83d"',
    rb'"a \ud83d b"',
    rb'"\u0000"',
    rb'"\x41"',
    rb'"\u12"',
    b'"\xff\xfe"',
    b'"\xc0\x80"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\xf0\x9f"',
    b'"\x00"',
    b'"\x01\x1f"',
    b'"a\nb"',
    b'"unended',
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-1e999",
    b"1e-400",
    b"-0",
    b"-0.0",
    b"0.30000000000000004",
    b"9" * 400,
    b"-" + b"9" * 400,
    b"9" * 5000,
    b"9223372036854775807",
    b"9223372036854775808",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"2147483648",
    b"0x10",
    b"1_000",
    b"01",
    b"+1",
    b"1.",
    b"true",
    b"null",
    b"nil",
    b"undefined",
    b"[]",
    b"{}",
    b"[[]]",
    b"[null]",
    b"[[],{}]",
    b'[""]',
    b'[["a","b","c"]]',
    b'["a",1]',
    b'[{"text":null}]',
    b'[{"image":{}}]',
    b'{"":""}',
    b'{"a":1,"a":2}',
    b'{"__proto__":{"x":1},"__class__":"x"}',
    b"[1,2,3]",
    b"[-1]",
    b"[99999999999999999999]",
    b"[[1,2],[999999999]]",
    b"[" * 500 + b"]" * 500,
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b"[" * 2000,
    b"/* x */ 1",
    b"['x']",
]

_PICTURE = encoded(picture(8, 8))


def _data_uri(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


#: What is said to be an image.
IMAGES = [
    "",
    "====",
    "A",
    "not base64 !!",
    base64.b64encode(b"plain text, for sure").decode(),
    base64.b64encode(b"\x89PNG\r\n\x1a\n").decode(),
    base64.b64encode(_PICTURE[: len(_PICTURE) // 2]).decode(),
    base64.b64encode(_PICTURE[:-12]).decode()[:-1],
    # A header that promises 100,000 by 100,000 pixels.
    base64.b64encode(_PICTURE[:16] + b"\x00\x01\x86\xa0" * 2 + _PICTURE[24:]).decode(),
    base64.b64encode(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;").decode(),
    base64.b64encode(b"\xff\xd8\xff\xe0" + b"\0" * 500).decode(),
    base64.b64encode(b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\0" * 64).decode(),
    _data_uri(b"<svg onload='x'/>", "image/svg+xml"),
    _data_uri(_PICTURE, "text/html"),
    "data:image/png;base64,",
    "data:,",
    "data:image/png;base64,\0\0",
    "file:///etc/passwd",
    "ftp://nobody.invalid/a.png",
    "http://",
    "http://127.0.0.1:6379/",
    "http://[::1]/a.png",
    "http://[::ffff:169.254.169.254]/latest/meta-data",
    "http://0x7f000001/a.png",
    "http://localhost\0.nobody.invalid/",
    "http://" + "a" * 5000,
    "https://user:password@127.0.0.1/a.png",
    # One pixel: the picture that killed another server's worker.
    base64.b64encode(encoded(picture(1, 1))).decode(),
    base64.b64encode(encoded(picture(1, 3000))).decode(),
    base64.b64encode(encoded(picture(5, 5, mode="L"), "GIF")).decode(),
]


def text(random: Random) -> str:
    """A text, now and then a mixture of several."""
    if random.random() < 0.8:
        return random.choice(TEXTS)
    return "".join(random.choice(TEXTS)[:200] for _ in range(random.randrange(2, 6)))


def fragment(random: Random) -> bytes:
    """A value for a field, as it stands in the body."""
    kind = random.random()
    if kind < 0.4:
        return random.choice(FRAGMENTS)
    if kind < 0.7:
        return json.dumps(text(random), ensure_ascii=random.random() < 0.5).encode()
    if kind < 0.85:
        return json.dumps([text(random) for _ in range(random.randrange(1, 4))]).encode()
    if kind < 0.95:
        return json.dumps(random.choice(IMAGES)).encode()
    return json.dumps(random.choice([-1, 0, 2**31, 1e300, True])).encode()
