"""The Celery application that workers and Flower share."""

import msgpack
from pydantic import SecretStr

from shared.celery_app import make_celery
from shared.settings import Settings


def test_what_a_worker_tells_of_its_connection_can_be_read_and_holds_no_password() -> None:
    # Given a worker that reaches Redis through sentinels
    url = "sentinel://user:word-of-redis@one:26379;sentinel://two:26379/0?master=m&sentinel_password=word-of-sentinels"
    connection = make_celery(Settings(redis_url=SecretStr(url))).connection_for_read()

    # When it is asked about itself; Celery takes the server's own password out
    told = {name: value for name, value in connection.info().items() if name != "password"}

    # Then
    assert msgpack.unpackb(msgpack.packb(told)) == told
    assert "word-of" not in repr(told)
