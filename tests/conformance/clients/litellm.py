"""litellm: LiteLLM, as every provider that it can aim at a URL and that has a dialect here.

At its import it fetches a price list from the network, unless the environment has `LITELLM_LOCAL_MODEL_COST_MAP=True`.
Embeddings of `huggingface/` take `input_type="embed"`, or it asks the hub first what the model is for; its rerank asks that
over-long documents are refused. Not served, since they ask paths of their own: `azure/`, `volcengine/`, `snowflake/`,
`perplexity/`, and the rerank of `deepinfra/`, `nvidia_nim/`, `dashscope/` and `fireworks_ai/`.
"""

from collections.abc import Callable
from typing import Any

from surfaces import Ranks, Vectors, embeds, reranks

PACKAGES = {"litellm": ("litellm",)}


def _embedding_addresses(url: str) -> dict[str, str]:
    # pasted as "`api_base` of each provider, for embeddings"
    addresses = {
        "openai": f"{url}/v1",
        "hosted_vllm": f"{url}/v1",
        "openai_like": f"{url}/v1",
        "lm_studio": f"{url}/v1",
        "xinference": f"{url}/v1",
        "nvidia_nim": f"{url}/v1",
        "azure_ai": f"{url}/v1",
        "databricks": f"{url}/v1",
        "fireworks_ai": f"{url}/v1",
        "litellm_proxy": f"{url}/v1",
        "llamafile": f"{url}/v1",
        "mistral": f"{url}/v1",
        "nebius": f"{url}/v1",
        "openrouter": f"{url}/v1",
        "sambanova": f"{url}/v1",
        "together_ai": f"{url}/v1",
        "wandb": f"{url}/v1",
        "infinity": f"{url}/v1",
        "jina_ai": f"{url}/v1",
        "voyage": f"{url}/v1",
        "cohere": f"{url}/v2/embed",
        "ollama": url,
    }
    # end
    return addresses


def _rerank_addresses(url: str) -> dict[str, str]:
    # pasted as "`api_base` of each provider, for reranking"
    addresses = {
        "cohere": url,
        "jina_ai": url,
        "hosted_vllm": url,
        "infinity": f"{url}/infinity",
        "voyage": f"{url}/voyage/v1",
        "huggingface": url,
        "azure_ai": f"{url}/v1",
        "litellm_proxy": url,
        "scaleway": f"{url}/v1",
        "together_ai": f"{url}/v1",
    }
    # end
    return addresses


def _embeds_as(provider: str) -> Callable[..., Vectors]:
    def embed(url: str, model: str, key: str, texts: list[str]) -> Vectors:
        addresses = _embedding_addresses(url)
        # pasted as "Embedding"
        import litellm

        answer = litellm.embedding(f"{provider}/{model}", texts, api_base=addresses[provider], api_key=key)
        # end
        return [entry["embedding"] for entry in answer.data]

    return embed


def _reranks_as(provider: str) -> Callable[..., Ranks]:
    def rerank(url: str, model: str, key: str, query: str, documents: list[str], top_n: int | None) -> Ranks:
        addresses = _rerank_addresses(url)
        # pasted as "Rerank"
        import litellm

        name, api_base = f"{provider}/{model}", addresses[provider]
        answer = litellm.rerank(name, query, documents, top_n=top_n, api_base=api_base, api_key=key)
        # end
        return [(result["index"], result["relevance_score"]) for result in answer.results]

    return rerank


NO_MODEL = {"wrong model": "sends no model: the service's default answers"}


@embeds("embedding huggingface/", without=NO_MODEL)
def embed_hugging_face(url: str, model: str, key: str, texts: list[str]) -> Vectors:
    # pasted as "Embedding, Hugging Face"
    import litellm

    answer = litellm.embedding(f"huggingface/{model}", texts, api_base=url, api_key=key, input_type="embed")
    # end
    return [entry["embedding"] for entry in answer.data]


#: LiteLLM leaves these to OpenAI's SDK, which tries again.
_BY_OPENAI = ("openai", "xinference", "nvidia_nim", "azure_ai", "fireworks_ai", "litellm_proxy", "mistral", "nebius")
_FACTS: dict[str, Any] = {"huggingface": {"without": NO_MODEL, "too_long": "refused"}}

for _provider in _embedding_addresses(""):
    embeds(
        f"embedding {_provider}/",
        waits=_provider in (*_BY_OPENAI, "together_ai", "wandb"),
        without={"right key": "sends no key"} if _provider == "ollama" else {},
    )(_embeds_as(_provider))
for _provider in _rerank_addresses(""):
    reranks(f"rerank {_provider}/", **_FACTS.get(_provider, {}))(_reranks_as(_provider))
