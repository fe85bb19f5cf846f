"""`millrace redis COMMAND ...`: what the deployment's Redis answers, by TLS or sentinels as MILLRACE_REDIS_URL says.

Redis' own command line is in no image, and reads neither a password without a user nor sentinels nor TLS options in a URL.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from shared.redis_address import connect, without_password
from shared.settings import Settings

_TIMEOUT_S = 10.0


def ask(words: Sequence[str], settings: Settings) -> int:
    """Send a command and print its answer, a line for each value.

    Args:
        words: The command and its arguments.
        settings: They know where Redis is.

    Returns:
        0; 1 if Redis cannot be reached or refuses the command.
    """
    url = settings.redis_url.get_secret_value()
    try:
        with connect(url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S) as client:
            answer = _sent(client, words)
    except (RedisError, OSError) as err:
        print(f"millrace: {without_password(url)}: {err}", file=sys.stderr)
        return 1
    for line in _lines(answer):
        print(line)
    return 0


def _sent(client: Any, words: Sequence[str]) -> Any:
    """The answer as it came: redis-py would make objects of it, by command."""
    pool = client.connection_pool
    connection = pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    finally:
        pool.release(connection)


def _lines(answer: Any) -> Iterator[str]:
    if isinstance(answer, bytes):
        yield answer.decode(errors="backslashreplace").replace("\r\n", "\n").rstrip("\n")
    elif isinstance(answer, Mapping):
        for key, value in answer.items():
            yield " ".join([*_lines(key), *_lines(value)])
    elif isinstance(answer, list | tuple | set):
        for each in answer:
            yield from _lines(each)
    else:
        yield "(nil)" if answer is None else str(answer)
