"""llama-index: LlamaIndex' embeddings and postprocessors for TEI, OpenAI-like services, Cohere and Jina.

`nodes` are `NodeWithScore`s. What is for TEI looks at no status: of an error the embedding takes the body for the vectors.
`max_retries` is 10 where it is not given, and multiplies with the tries of the SDK underneath.
"""

from typing import Any

from surfaces import Ranks, Vectors, embeds, ranked_by_text, reranks

PACKAGES = {
    "main": (
        "llama-index-core",
        "llama-index-embeddings-text-embeddings-inference",
        "llama-index-embeddings-openai-like",
        "llama-index-postprocessor-tei-rerank",
        "llama-index-postprocessor-cohere-rerank",
        "llama-index-postprocessor-jinaai-rerank",
    )
}

NO_MODEL = {"wrong model": "sends no model: the service's default answers"}
NO_STATUS = dict.fromkeys(
    ("wrong key", "no key", "429", "503"), "looks at no status: the error's body takes the vectors' place"
)
ONLY_COUNTS = dict.fromkeys(
    ("wrong key", "no key", "429", "503"), "looks at no status, and shows an AssertionError or TypeError"
)


@embeds("TextEmbeddingsInference", without=NO_MODEL, hides=NO_STATUS)
def embed_tei(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "TEI embeddings"
    from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference

    embeddings = TextEmbeddingsInference(model_name=model, base_url=url, auth_token=key)
    vectors = embeddings.get_text_embedding_batch(texts)
    # end
    return vectors


@embeds("OpenAILikeEmbedding", waits=True)
def embed_openai(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "OpenAI-like embeddings"
    from llama_index.embeddings.openai_like import OpenAILikeEmbedding

    embeddings = OpenAILikeEmbedding(model_name=model, api_base=f"{url}/v1", api_key=key, max_retries=1)
    vectors = embeddings.get_text_embedding_batch(texts)
    # end
    return vectors


@reranks("TEI rerank", without=NO_MODEL, hides=ONLY_COUNTS)
def rerank_tei(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    nodes, top_n = _nodes(documents), top_n or len(documents)
    # pasted as "TEI rerank"
    from llama_index.postprocessor.tei_rerank import TextEmbeddingInference

    reranker = TextEmbeddingInference(top_n=top_n, base_url=url, model_name=model, auth_token=key)
    ranked = reranker.postprocess_nodes(nodes, query_str=query)
    # end
    return _ranks(ranked, documents)


@reranks("Cohere rerank", waits=True)
def rerank_cohere(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    nodes, top_n = _nodes(documents), top_n or len(documents)
    # pasted as "Cohere rerank"
    from llama_index.postprocessor.cohere_rerank import CohereRerank

    reranker = CohereRerank(top_n=top_n, model=model, base_url=url, api_key=key, max_retries=1)
    ranked = reranker.postprocess_nodes(nodes, query_str=query)
    # end
    return _ranks(ranked, documents)


@reranks("Jina rerank")
def rerank_jina(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    nodes, top_n = _nodes(documents), top_n or len(documents)
    # pasted as "Jina rerank"
    from llama_index.postprocessor.jinaai_rerank import JinaRerank

    reranker = JinaRerank(top_n=top_n, model=model, base_url=f"{url}/v1", api_key=key)
    ranked = reranker.postprocess_nodes(nodes, query_str=query)
    # end
    return _ranks(ranked, documents)


def _nodes(documents: list[str]) -> list[Any]:
    from llama_index.core.schema import NodeWithScore, TextNode

    return [NodeWithScore(node=TextNode(text=document)) for document in documents]


def _ranks(nodes: list[Any], documents: list[str]) -> Ranks:
    return ranked_by_text([(node.text, node.score) for node in nodes], documents)
