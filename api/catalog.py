"""Which model a request means, and whether it can do what is asked and may be asked for it."""

from collections.abc import Collection, Mapping, Sequence

from api.cl100k import Cl100k
from api.fleet import Fleet
from shared.errors import Forbidden, ModelNotFound, WrongTask
from shared.model_card import ModelCard
from shared.model_config import ModelConfig, TokenInput
from shared.queues import Operation
from shared.results import Kind

#: Characters of an unknown name that are repeated in an error.
_MOST_SHOWN = 80
#: The kind of model that an operation means where others can do it too.
_MADE_FOR = {Operation.RERANK: "reranker", Operation.CLASSIFY: "classifier"}


class Catalog:
    """Configured models (what should exist) together with the workers' cards (what does)."""

    def __init__(
        self,
        models: Sequence[ModelConfig],
        fleet: Fleet,
        pending_items: Mapping[str, int] | None = None,
        *,
        any_name: bool = False,
        whole: "Catalog | None" = None,
        cl100k: Cl100k | None = None,
    ) -> None:
        """Know what there is.

        Args:
            models: The configured models.
            fleet: The live workers.
            pending_items: Inputs that this gateway holds unanswered, by the models' own names; it changes with time.
            any_name: Whether every name means the model where there is only one.
            whole: The catalog that this is the part of that somebody may use.
            cl100k: OpenAI's token ids, where a model takes them.
        """
        self.cl100k = cl100k
        self.models = list(models)
        self._fleet = fleet
        self._pending_items = {} if pending_items is None else pending_items
        self._by_any_name = self.models[0] if any_name and len(self.models) == 1 else None
        self._whole = whole
        self._parts: dict[frozenset[str], Catalog] = {}
        self._by_name = {name: config for config in models for name in (config.name, *config.aliases)}

    def within(self, models: frozenset[str] | None) -> "Catalog":
        """The part of the catalog that somebody sees who may use some models only.

        Args:
            models: Their names or aliases; None for all.
        """
        if models is None:
            return self
        if (part := self._parts.get(models)) is None:
            allowed = [config for config in self.models if models & {config.name, *config.aliases}]
            part = self._parts[models] = Catalog(
                allowed,
                self._fleet,
                self._pending_items,
                any_name=self._by_any_name is not None,
                whole=self,
                cl100k=self.cl100k,
            )
        return part

    def refuse_none(self) -> None:
        """See that there is a model at all.

        Raises:
            Forbidden: The key allows none of those that are served.
        """
        if not self.models:
            raise Forbidden("this key may use none of the models that are served here")

    def refuse_foreign(self, name: str) -> None:
        """See that a name is not that of a model which is served, but not to the caller.

        Raises:
            Forbidden: It is.
        """
        if self.find(name) is None and self._whole is not None and self._whole.find(name) is not None:
            allowed = ", ".join(config.name for config in self.models) or "none"
            raise Forbidden(f"this key may not use model {name[:_MOST_SHOWN]!r}; it may use: {allowed}", param="model")

    def card(self, model: str) -> ModelCard | None:
        """The card of a model by its own name, or None where no worker has ever run it."""
        return self._fleet.card(model)

    def is_served(self, model: str) -> bool:
        """Whether a live worker has run a model, by its own name."""
        return self._fleet.is_served(model)

    def cold_start_s(self, model: str) -> float:
        """Time in which another worker of a model, by its own name, is started when work waits, in seconds; 0 for never."""
        config = self._by_name.get(model)
        return config.cold_start_s if config is not None else 0.0

    def pending_items(self, model: str) -> int:
        """Inputs for a model, by its own name, that this gateway holds unanswered."""
        return self._pending_items.get(model, 0)

    def find(self, name: str) -> ModelConfig | None:
        """The configured model of a name or alias, or None."""
        return self._by_name.get(name, self._by_any_name)

    def named(self, name: str) -> ModelConfig:
        """The configured model of a name or alias.

        Raises:
            ModelNotFound: There is none.
            Forbidden: There is, but not for the caller.
        """
        config = self.find(name)
        if config is None:
            self.refuse_foreign(name)
            raise self.not_served(name)
        return config

    def not_served(self, name: str) -> ModelNotFound:
        """The error of a name that no model has."""
        served = ", ".join(config.name for config in self.models)
        return ModelNotFound(f"model {name[:_MOST_SHOWN]!r} is not served here; served models: {served}", param="model")

    def main(self, name: str | None) -> ModelCard | None:
        """The card of the model that a request means which does not say what to do.

        Args:
            name: Name or alias in the request; None means the first model that does more than rerank.

        Returns:
            None while no worker has run it.
        """
        if name:
            config = self.find(name)
            return self.card(config.name) if config is not None else None
        cards = self._cards()
        return next((card for card in cards if card.model_type != "reranker"), next(iter(cards), None))

    def kinds(self, name: str | None) -> list[Kind]:
        """The kinds of vectors that are made by a model, or by any of them for None."""
        config = self.find(name) if name else None
        made = {
            kind for card in self._cards() if not name or (config and card.name == config.name) for kind in card.kinds
        }
        return [kind for kind in Kind if kind in made]

    def makers(self, kinds: Sequence[Kind]) -> dict[str | None, list[Kind]]:
        """The models that make these kinds of vectors: one for all of them if there is one, else the first for each.

        Returns:
            Kinds by the models' own names; by None those that no live worker makes, which is for `resolve` to judge.
        """
        cards = self._cards()
        if (card := next((card for card in cards if _makes(card, kinds)), None)) is not None:
            return {card.name: list(kinds)}
        found: dict[str | None, list[Kind]] = {}
        for kind in kinds:
            found.setdefault(next((card.name for card in cards if kind in card.kinds), None), []).append(kind)
        return found

    def _cards(self) -> list[ModelCard]:
        return [card for config in self.models if (card := self.card(config.name)) is not None]

    def resolve(
        self, name: str | None, operation: Operation, kinds: Collection[str] = (), *, images: bool = False
    ) -> str:
        """The own name of the model that a request means.

        Args:
            name: Name or alias in the request; None means the default model for the operation.
            operation: What the request asks for.
            kinds: The kinds of vectors that it wants.
            images: Whether it has images.

        Raises:
            ModelNotFound: No such model is configured.
            Forbidden: It is, but not for the caller.
            WrongTask: The model is known not to do this.
        """
        self.refuse_none()
        if not name:
            return self._default(operation, kinds, images=images)
        config = self.named(name)
        card = self.card(config.name)
        if card is not None and operation not in card.operations:
            does = ", ".join(card.operations)
            raise WrongTask(f"model {config.name} does not {operation}; it does: {does}", param="model")
        if card is not None and not _makes(card, kinds):
            wanted, makes = ", ".join(kinds), ", ".join(card.kinds)
            raise WrongTask(f"model {config.name} makes no {wanted} vectors; it makes: {makes}", param="model")
        if card is not None and images and "image" not in card.modalities:
            raise WrongTask(f"model {config.name} takes no images", param="model")
        return config.name

    def _default(self, operation: Operation, kinds: Collection[str], *, images: bool) -> str:
        """The first model that does `operation`; one that is made for it goes before one that can do it too."""
        cards = [(config.name, self.card(config.name)) for config in self.models]
        able = [
            (name, card)
            for name, card in cards
            if card is not None and operation in card.operations and _makes(card, kinds)
            if not images or "image" in card.modalities
        ]
        if (made_for := _MADE_FOR.get(operation)) is not None:
            able.sort(key=lambda entry: entry[1].model_type != made_for)
        if able:
            return able[0][0]
        if all(card is not None for _, card in cards):
            what = f"makes {', '.join(kinds)} vectors" if kinds else f"can {operation}"
            what += " of images" if images else ""
            raise WrongTask(f"no served model {what}")
        # Some model has no worker yet: it may be the one. Its queue keeps the request until the deadline.
        return next(name for name, card in cards if card is None)

    def token_input(self, model: str) -> TokenInput:
        """What token ids in the place of texts are to a model, by its own name (`resolve`)."""
        return self.named(model).token_input

    def missing(self) -> list[str]:
        """Models that should have a worker and have none."""
        return [config.name for config in self._unserved() if not config.cold_start_s]

    def sleeping(self) -> list[str]:
        """Models without a worker that get one when work waits for them."""
        return [config.name for config in self._unserved() if config.cold_start_s]

    def can_serve(self) -> bool:
        """Whether a request for some model has, or is given, a worker."""
        return any(self.is_served(config.name) or config.cold_start_s for config in self.models)

    def _unserved(self) -> list[ModelConfig]:
        return [config for config in self.models if not self.is_served(config.name)]


def _makes(card: ModelCard, kinds: Collection[str]) -> bool:
    return all(kind in card.kinds for kind in kinds)
