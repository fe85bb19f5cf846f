"""Qdrant: recorded requests of its server's inference client.

Qdrant documents it for its cloud only; the requests are those of its source, not of a running Qdrant. Its token travels in
the body, so that a service which asks for keys refuses it, unless a proxy between them adds the header.
"""

import json

from surfaces import Refused, Vectors, ask, embeds, setting

PACKAGES = {"main": ()}

SETTINGS = """
inference:
  address: {url}/qdrant/inference
  token: {key}
"""


@embeds("inference, update", without={"right key": "sends its key in the body, which is not read without one"})
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    inputs = [{"data": text, "data_type": "text", "model": model, "options": None} for text in texts]
    body = {"inputs": inputs, "inference": "update", "token": setting(SETTINGS, "token", url=url, key=key)}
    try:
        answer = ask(setting(SETTINGS, "address", url=url), body, timeout_s=10)
    except Refused as refused:
        # Of a 400 it shows the field `error`, which is a string.
        if refused.status_code == 400 and not isinstance(json.loads(refused.body)["error"], str):
            raise TypeError("invalid type: map, expected a string") from None
        raise
    return answer["embeddings"]
