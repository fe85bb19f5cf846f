"""`python -m shared.probe URL`: whether a part says that it is well. Health checks of containers run it.

It imports next to nothing, since it runs every few seconds, and knows no proxies, whatever the environment says of them.
"""

import http.client
import sys
from urllib.parse import urlsplit, urlunsplit

#: How long the part may take to answer, in seconds; health checks allow a second more.
_TIMEOUT_S = 4.0


def trouble(url: str, timeout_s: float = _TIMEOUT_S) -> str:
    """What is wrong, in the part's own words; empty if it answers with 200.

    Args:
        url: Where it says so, over plain http.
        timeout_s: How long it may take, in seconds.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
        answer = connection.getresponse()
        said = answer.read(4096).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as err:
        return f"{url}: {err or type(err).__name__}"
    finally:
        connection.close()
    return "" if answer.status == http.HTTPStatus.OK else f"{url}: {answer.status} {said}"


def main() -> int:
    """Print what is wrong.

    Returns:
        0 if nothing is, else 1.
    """
    found = trouble(sys.argv[1])
    if found:
        sys.stderr.write(f"{found}\n")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
