"""openai: OpenAI's own SDK.

`base_url` ends in `/v1`. Vectors travel as base64, which the SDK asks for by itself.
"""

from surfaces import Vectors, embeds

PACKAGES = {"main": ("openai>=3",), "litellm": ("openai",)}


@embeds("embeddings.create", waits=True)
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Embeddings"
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    answer = client.embeddings.create(model=model, input=texts)
    # end
    return [entry.embedding for entry in answer.data]


@embeds("embeddings.create, float", waits=True)
def embed_as_floats(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    from openai import OpenAI

    client = OpenAI(base_url=f"{url}/v1", api_key=key)
    answer = client.embeddings.create(model=model, input=texts, encoding_format="float")
    return [entry.embedding for entry in answer.data]


@embeds("AzureOpenAI", waits=True)
def embed_on_azure(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Embeddings, by the client for Azure"
    from openai import AzureOpenAI

    client = AzureOpenAI(azure_endpoint=url, api_key=key, api_version="2024-10-21")
    answer = client.embeddings.create(model=model, input=texts)
    # end
    return [entry.embedding for entry in answer.data]
