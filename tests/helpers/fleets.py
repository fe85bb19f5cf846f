"""Fleets and cards as heartbeats would make them, for tests of the gateway that need no Redis."""

from typing import Any, Literal

from redis.asyncio import Redis

from api.backlog import Backlog
from api.fleet import Fleet
from shared.metrics import Metrics, Owner
from shared.model_card import ModelCard, State, WorkerCard
from shared.model_config import ModelConfig
from shared.queues import Operation


def config(name: str, *aliases: str) -> ModelConfig:
    """A configured model."""
    return ModelConfig(name=name, source=f"org/{name}", aliases=aliases)


def card(name: str, model_type: Literal["embedding", "reranker"] = "embedding", **fields: Any) -> ModelCard:
    """What a worker says of a model; an embedding model also reranks."""
    operations = [Operation.RERANK] if model_type == "reranker" else [Operation.EMBED, Operation.RERANK]
    defaults = {
        "operations": operations,
        "max_tokens": 256,
        "dtype": "float32",
        "packed": True,
        "max_batch_tokens": 4096,
        "tokens_per_s": 1000.0,
        "architecture": "BertModel",
    }
    return ModelCard(name=name, model_type=model_type, **{**defaults, **fields})


def fleet_of(*cards: ModelCard, state: State = "ready") -> Fleet:
    """A fleet that has seen one worker per card. Its Redis client never connects."""
    fleet = Fleet(Redis(), Backlog("gw"), Metrics(Owner.GATEWAY), result_ttl_s=10)
    fleet.workers = {
        f"w{number}": WorkerCard(
            worker=f"w{number}", hostname="h", pid=1, device="cpu", state=state, models=[model_card]
        )
        for number, model_card in enumerate(cards)
    }
    fleet.reachable = True
    return fleet
