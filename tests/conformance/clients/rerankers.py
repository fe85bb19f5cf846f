"""rerankers: Answer.AI's `APIRanker`, which speaks as one provider after the other.

`url` is the full address of the route. It always asks for all documents; `top_k` of the results cuts. Of its providers those
are served whose words are a dialect here: not mixedbread.ai's, Pinecone's and Isaacus'. It looks at no status: of an error
it shows that there are no results.
"""

from typing import Any

from surfaces import Ranks, reranks

PACKAGES = {"main": ("rerankers",)}

#: It looks at no status: of an error's body it wants the results.
NO_STATUS = "looks at no status, and shows a KeyError or TypeError"
FACTS: dict[str, Any] = {"hides": dict.fromkeys(("wrong model", "wrong key", "no key", "429", "503"), NO_STATUS)}


@reranks("APIRanker, TEI", **FACTS)
def rerank_tei(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    # pasted as "Rerank"
    from rerankers.models.api_rankers import APIRanker

    ranker = APIRanker(model, key, "text-embeddings-inference", url=f"{url}/rerank")
    results = ranker.rank(query, documents)
    # end
    return _ranks(results, top_n)


@reranks("APIRanker, Cohere", **FACTS)
def rerank_cohere(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    return _as("cohere", f"{url}/v1/rerank", model, key, query, documents, top_n)


@reranks("APIRanker, Jina", **FACTS)
def rerank_jina(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    return _as("jina", f"{url}/v1/rerank", model, key, query, documents, top_n)


@reranks("APIRanker, Voyage", **FACTS)
def rerank_voyage(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    return _as("voyage", f"{url}/v1/rerank", model, key, query, documents, top_n)


def _as(provider: str, url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    from rerankers.models.api_rankers import APIRanker

    ranker = APIRanker(model, key, provider, url=url)
    return _ranks(ranker.rank(query, documents), top_n)


def _ranks(results: Any, top_n: int | None) -> Ranks:
    best = results.top_k(top_n) if top_n else results.results
    return [(result.doc_id, result.score) for result in best]
