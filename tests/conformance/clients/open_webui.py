"""Open WebUI: recorded requests of its external reranker and of its embedding engine `openai`.

Set these before the first start, or in Admin Settings → Documents. Its reranker hides every error (it answers as if there
were no reranker), so look into its log after a change. Its engine `ollama` asks as the `ollama` client does. Leave the three
lines about prefixes out where the model wants none: these are E5's. Models whose files name their prompts (see
[prompts](models.md#prompts)) want the same words here, as Open WebUI does not say what a text is for.
"""

from surfaces import Ranks, Vectors, ask, embeds, reranks, setting

PACKAGES = {"main": ()}

CONTENT_PREFIX = "passage: "

SETTINGS = """
RAG_EMBEDDING_ENGINE=openai
RAG_OPENAI_API_BASE_URL={url}/v1
RAG_OPENAI_API_KEY={key}
RAG_EMBEDDING_MODEL={model}
RAG_EMBEDDING_PREFIX_FIELD_NAME=prefix
RAG_EMBEDDING_QUERY_PREFIX="query: "
RAG_EMBEDDING_CONTENT_PREFIX="passage: "
RAG_RERANKING_ENGINE=external
RAG_EXTERNAL_RERANKER_URL={url}/v1/rerank
RAG_EXTERNAL_RERANKER_API_KEY={key}
RAG_RERANKING_MODEL={model}
"""


def _bearer(name: str, url: str, key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {setting(SETTINGS, name, url=url, key=key)}"}


def _embedded(url: str, model: str, key: str, texts: list[str], **more: str) -> Vectors:
    base = setting(SETTINGS, "RAG_OPENAI_API_BASE_URL", url=url)
    vectors = []
    for text in texts:  # RAG_EMBEDDING_BATCH_SIZE is 1 by default
        body = {"input": [text], "model": setting(SETTINGS, "RAG_EMBEDDING_MODEL", url=url, model=model), **more}
        answer = ask(f"{base}/embeddings", body, headers=_bearer("RAG_OPENAI_API_KEY", url, key), timeout_s=30)
        vectors += [entry["embedding"] for entry in answer["data"]]
    return vectors


@embeds("embeddings, engine openai")
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    return _embedded(url, model, key, texts)


@embeds("embeddings, engine openai, prefix", prefix=CONTENT_PREFIX)
def embed_with_prefix(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # The prefix comes in a field of the name that the settings give, and else in front of the text itself.
    field = setting(SETTINGS, "RAG_EMBEDDING_PREFIX_FIELD_NAME", url=url)
    return _embedded(url, model, key, texts, **{field: CONTENT_PREFIX})


@reranks("external reranker", without={"top_n": "always asks for all"})
def rerank(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    body = {
        "model": setting(SETTINGS, "RAG_RERANKING_MODEL", url=url, model=model),
        "query": query,
        "documents": documents,
        "top_n": len(documents),
    }
    headers = {
        **_bearer("RAG_EXTERNAL_RERANKER_API_KEY", url, key),
        "x-openwebui-user-name": "Ada",
        "x-openwebui-user-role": "admin",
    }
    answer = ask(setting(SETTINGS, "RAG_EXTERNAL_RERANKER_URL", url=url), body, headers=headers, timeout_s=30)
    # It sorts by place and lays the scores beside its documents: one result too few would shift all.
    scores = [result["relevance_score"] for result in sorted(answer["results"], key=lambda result: result["index"])]
    return sorted(enumerate(scores), key=lambda rank: -rank[1])
