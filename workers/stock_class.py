"""Folders whose `config.json` says that transformers' own class of that name is not their model.

No code of a repository is run, so such a folder would be loaded as the stock class without a word, and often the weights
fit: gte-Qwen2 and stella are Qwen2 made bidirectional by code of their own, jina-embeddings-v2 is BERT without learned
positions.
"""

from collections.abc import Mapping
from typing import Any

from shared.model_config import ConfigurationError

#: Model types that transformers has had from their first day: code beside their weights makes another model of them. Types
#: that began as code in repositories and were taken in later (NomicBERT, Jina v3, EuroBERT, ModernBERT) still name it.
_NATIVE = frozenset(
    {
        *("albert", "bert", "camembert", "data2vec-text", "deberta", "deberta-v2", "distilbert", "electra", "ernie"),
        *("mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "mt5", "t5", "umt5"),
        *("gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"),
    }
)

#: Settings of the code that NomicBERT began as, and what transformers' class, which does not read them, has in their places.
_NOMIC: Mapping[str, Any] = {
    "layer_norm_epsilon": 1e-12,
    "prenorm": False,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1,
    "rotary_emb_interleaved": False,
    "use_rms_norm": False,
}


def refuse_other_positions(model: str, config: Mapping[str, Any]) -> None:
    """Refuse positions that transformers no longer has: it takes every BERT's for absolute ones.

    Args:
        model: What the model is called.
        config: Its `config.json`.

    Raises:
        ConfigurationError: They are others.
    """
    positions = config.get("position_embedding_type") or "absolute"
    if config.get("model_type") in _NATIVE and positions != "absolute":
        raise ConfigurationError(
            f"model {model}: position_embedding_type {positions!r} of its config.json is not supported; only 'absolute' is"
        )


def refuse_unread_settings(model: str, config: Mapping[str, Any]) -> None:
    """Refuse a NomicBERT that transformers' class would make another model of.

    Args:
        model: What the model is called.
        config: Its `config.json`.

    Raises:
        ConfigurationError: It has a setting that is not read, and is another one.
    """
    if config.get("model_type") != "nomic_bert":
        return
    for name, stock in _NOMIC.items():
        value = stock if config.get(name) is None else config[name]
        if value != stock:
            raise ConfigurationError(
                f"model {model}: {name} is {value!r} in its config.json; transformers' NomicBertModel always has {stock!r}"
            )


def refuse_own_code(model: str, config: Mapping[str, Any], family: str) -> None:
    """Refuse a model that names code of its own in the place of a class that transformers has always had.

    Args:
        model: What the model is called.
        config: Its `config.json`.
        family: What would load it.

    Raises:
        ConfigurationError: It does; the sentence says how to serve it all the same.
    """
    named: Mapping[str, Any] = config.get("auto_map") or {}
    own = next((f"{auto}: {code}" for auto, code in sorted(named.items()) if auto.startswith("AutoModel")), None)
    model_type = config.get("model_type")
    if own is not None and model_type in _NATIVE:
        raise ConfigurationError(
            f"model {model}: its config.json names code of its own (auto_map, {own}), which is not run here, and without it "
            f"a {model_type} may give other vectors; if transformers' own class is right, say `family: {family}` in "
            'models.yaml (docs/models.md, "Models with code")'
        )
