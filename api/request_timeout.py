"""How long a caller waits: `x-request-timeout`, or what the deployment gives everybody."""

from shared.errors import InvalidRequest

#: The longest that a caller may wait: a day.
_MOST_TIMEOUT_S = 86_400


def request_timeout_s(given: bytes | None, usual_s: float) -> float:
    """Seconds until the deadline of a request.

    Args:
        given: The header `x-request-timeout`.
        usual_s: What holds without it.

    Raises:
        InvalidRequest: It is no such time.
    """
    if given is None:
        return usual_s
    try:
        timeout_s = 0.0 if b"_" in given else float(given)  # 1_0 is ten to Python only
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= _MOST_TIMEOUT_S:
        shown = given.decode("latin-1")
        raise InvalidRequest(
            f"header x-request-timeout must be seconds, more than 0 and at most {_MOST_TIMEOUT_S}, not {shown!r}"
        )
    return timeout_s


def presumed_timeout_s(given: bytes | None, usual_s: float) -> float:
    """The same before the request is understood: what is no such time is refused then, in the words of its dialect."""
    try:
        return request_timeout_s(given, usual_s)
    except InvalidRequest:
        return usual_s
