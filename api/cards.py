"""The cards of workers and models, from workers of any version."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from api.unreadable import Unreadable
from shared.model_card import ModelCard, WorkerCard


class Cards:
    """Reads cards; those that this version does not understand are left out, whatever else is there."""

    def __init__(self) -> None:
        self._models = Unreadable("model_card_unreadable")
        self._workers = Unreadable("worker_card_unreadable")

    def models(self, shown: Mapping[bytes, bytes]) -> dict[str, ModelCard]:
        """The last card of each model, by its name.

        Args:
            shown: JSON by model, as it stands in Redis.
        """
        found: dict[str, ModelCard] = {}
        for model, card in shown.items():
            with self._models.left_out(model.decode(errors="replace")):
                found[model.decode()] = ModelCard.model_validate_json(card)
        self._models.end_of_look()
        return found

    def workers(self, shown: Iterable[tuple[str, bytes | str | None]]) -> dict[str, WorkerCard]:
        """The card of each worker, by its id; with those of its models that can be read.

        Args:
            shown: Id and JSON of each; None for one that has no card.
        """
        found: dict[str, WorkerCard] = {}
        for worker, value in shown:
            if value is not None:
                with self._workers.left_out(worker):
                    found[worker] = self._worker(worker, value)
        self._workers.end_of_look()
        return found

    def _worker(self, worker: str, value: bytes | str) -> WorkerCard:
        told: dict[str, Any] = orjson.loads(value)
        card = WorkerCard.model_validate({**told, "models": []})
        models: list[ModelCard] = []
        for number, model in enumerate(told["models"]):
            with self._workers.left_out(f"{worker} models.{number}"):
                models.append(ModelCard.model_validate(model))
        return card.model_copy(update={"models": models})
