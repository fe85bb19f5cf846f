"""huggingface_hub: Hugging Face's `InferenceClient`.

`base_url` is the address itself; it is asked as it is, without a path. With `HF_HUB_OFFLINE=1` in its environment the client
refuses any request, also to an address of your own.
"""

from surfaces import Ranks, Vectors, embeds, reranks

PACKAGES = {"main": ("huggingface_hub", "numpy"), "newest": ("huggingface_hub>=2", "numpy")}

NO_MODEL = {"wrong model": "sends no model: the service's default answers"}


@embeds("feature_extraction", without=NO_MODEL)
def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Feature extraction"
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=url, api_key=key)
    vectors = client.feature_extraction(texts)
    # end
    return vectors.tolist()


@embeds("feature_extraction, model=URL", without=NO_MODEL, normalized=False)
def embed_by_path(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    from huggingface_hub import InferenceClient

    client = InferenceClient(model=f"{url}/embed", token=key)
    return [client.feature_extraction(text, normalize=False, truncate=True)[0].tolist() for text in texts]


@reranks("sentence_similarity", without={**NO_MODEL, "top_n": "gives all similarities"})
def similarity(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
    # pasted as "Similarity"
    from huggingface_hub import InferenceClient

    client = InferenceClient(base_url=url, api_key=key)
    similarities = client.sentence_similarity(query, documents)
    # end
    # They are cosines; a score is one that is not below 0.
    return sorted(enumerate(max(0.0, one) for one in similarities), key=lambda rank: -rank[1])
