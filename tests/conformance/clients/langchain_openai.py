"""langchain-openai: LangChain's `OpenAIEmbeddings`.

By default LangChain sends token ids of OpenAI's own vocabulary, which mean other words to any other model: the service
refuses them and says so. Let LangChain send texts, or let the model in `models.yaml` take such ids
([`token_input: cl100k`](models.md#token-ids)).
"""

from surfaces import Vectors, embeds

PACKAGES = {"main": ("langchain-openai>=1",)}


@embeds("OpenAIEmbeddings.embed_documents", waits=True)
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Embeddings, sent as texts"
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=key, check_embedding_ctx_length=False)
    vectors = embeddings.embed_documents(texts)
    # end
    return vectors


@embeds("OpenAIEmbeddings.embed_query", waits=True)
def embed_query(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=key, check_embedding_ctx_length=False)
    return [embeddings.embed_query(text) for text in texts]


@embeds("OpenAIEmbeddings.embed_documents, token ids", waits=True)
def embed_by_default(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "LangChain's defaults, to a model with `token_input: cl100k`"
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=key)
    vectors = embeddings.embed_documents(texts)
    # end
    return vectors


@embeds("OpenAIEmbeddings.embed_query, token ids", waits=True)
def embed_query_by_default(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    from langchain_openai import OpenAIEmbeddings

    embeddings = OpenAIEmbeddings(model=model, base_url=f"{url}/v1", api_key=key)
    return [embeddings.embed_query(text) for text in texts]
