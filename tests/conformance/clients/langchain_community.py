"""langchain-community: `InfinityEmbeddings`, `InfinityRerank`, `VoyageEmbeddings`, `HuggingFaceInferenceAPIEmbeddings`.

`JinaEmbeddings` and `JinaRerank` have Jina's address built in and can be aimed at no other. `InfinityRerank` and
`HuggingFaceInferenceAPIEmbeddings` look at no status: errors do not show as such. `VoyageEmbeddings` would try six times,
with 4 to 10 seconds in between.
"""

from surfaces import Ranks, Vectors, embeds, reranks

PACKAGES = {"infinity": ("langchain-community>=0.4", "infinity-client")}

NO_KEY = "sends no key"
#: InfinityRerank looks at no status: of an error it sees that there are no results.
NO_STATUS = "looks at no status, and shows an AttributeError or TypeError instead"


@embeds("InfinityEmbeddings", without={"wrong key": NO_KEY})
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Infinity embeddings"
    from langchain_community.embeddings import InfinityEmbeddings

    embeddings = InfinityEmbeddings(model=model, infinity_api_url=f"{url}/v1")
    vectors = embeddings.embed_documents(texts)
    # end
    return vectors


@reranks(
    "InfinityRerank",
    without={"wrong key": NO_KEY},
    hides=dict.fromkeys(("wrong model", "no key", "429", "503"), NO_STATUS),
)
def rerank(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    # pasted as "Infinity rerank"
    from infinity_client import Client
    from langchain_community.document_compressors.infinity_rerank import InfinityRerank

    reranker = InfinityRerank(client=Client(base_url=url), model=model)
    ranks = reranker.rerank(documents, query, top_n=top_n)
    # end
    return [(rank["index"], rank["relevance_score"]) for rank in ranks]


@embeds("VoyageEmbeddings")
def embed_voyage(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Voyage embeddings"
    from langchain_community.embeddings import VoyageEmbeddings

    base = f"{url}/v1/embeddings"
    embeddings = VoyageEmbeddings(model=model, voyage_api_base=base, voyage_api_key=key, max_retries=1)
    vectors = embeddings.embed_documents(texts)
    # end
    return vectors


@embeds(
    "HuggingFaceInferenceAPIEmbeddings",
    without={"wrong model": "sends no model: the service's default answers"},
    hides=dict.fromkeys(
        ("wrong key", "no key", "429", "503"), "looks at no status: the error's body takes the vectors' place"
    ),
)
def embed_hugging_face(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Hugging Face embeddings"
    from langchain_community.embeddings import HuggingFaceInferenceAPIEmbeddings

    embeddings = HuggingFaceInferenceAPIEmbeddings(api_url=f"{url}/embed", api_key=key)
    vectors = embeddings.embed_documents(texts)
    # end
    return vectors
