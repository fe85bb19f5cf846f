"""Scopes: what a key, a tenant or a bulk job may ask for."""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from shared.queues import Lane, Operation


class RouteGroup(StrEnum):
    """Routes that are allowed together."""

    EMBED = "embed"  # vectors: dense, sparse, multi-vectors, of texts and images
    RERANK = "rerank"  # scores of documents, and of pairs
    CLASSIFY = "classify"  # labels of texts
    TOKENIZE = "tokenize"  # token ids of texts, and back
    BULK = "bulk"  # jobs, files, batches, webhook endpoints
    ADMIN = "admin"  # what tells of the whole deployment, and every route that is in no other group


_GROUPS = {
    Operation.EMBED: RouteGroup.EMBED,
    Operation.RERANK: RouteGroup.RERANK,
    Operation.CLASSIFY: RouteGroup.CLASSIFY,
    Operation.TOKENIZE: RouteGroup.TOKENIZE,
    Operation.DECODE: RouteGroup.TOKENIZE,
}

#: What is allowed where nothing is said: all but the routes of operators.
ORDINARY_ROUTES = frozenset(RouteGroup) - {RouteGroup.ADMIN}


class Scope(BaseModel):
    """What may be asked for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Names or aliases of models; None for all.
    models: frozenset[str] | None = None
    routes: frozenset[RouteGroup] = ORDINARY_ROUTES
    lanes: frozenset[Lane] = frozenset(Lane)

    def within(self, other: "Scope") -> "Scope":
        """What both allow. Models are compared by the names that are written down: use the same ones in both."""
        models = [names for names in (self.models, other.models) if names is not None]
        return Scope(
            models=frozenset.intersection(*models) if models else None,
            routes=self.routes & other.routes,
            lanes=self.lanes & other.lanes,
        )


#: Everything.
UNLIMITED = Scope(routes=frozenset(RouteGroup))


def group_of(operation: Operation) -> RouteGroup:
    """The group of the routes that ask for an operation."""
    return _GROUPS[operation]
