"""The caller of a request: whose key it came with, and what that allows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItem
from starlette.requests import Request

from shared.access import UNLIMITED, RouteGroup, Scope
from shared.errors import Forbidden
from shared.queues import Lane


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a tenant may ask for; None for any amount."""

    #: Requests per interval.
    requests: RateLimitItem | None = None
    #: Tokens per interval.
    tokens: RateLimitItem | None = None
    #: Requests under way at a time.
    concurrency: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks."""

    #: None where no keys are asked for.
    tenant: str | None
    #: What the key is called in logs.
    key: str
    scope: Scope
    limits: Limits = NO_LIMITS

    def owned(self) -> dict[str, Any]:
        """The fields of a `JobSpec` that say whose it is."""
        return {} if self.tenant is None else {"tenant": self.tenant, "scope": self.scope}

    def require(self, group: RouteGroup) -> None:
        """See that a group of routes is allowed.

        Raises:
            Forbidden: It is not.
        """
        if group not in self.scope.routes:
            raise Forbidden(
                f"this key may not use the routes of `{group}`; it may use those of: {_listed(self.scope.routes)}"
            )

    def require_lane(self, lane: Lane) -> None:
        """See that a lane is allowed.

        Raises:
            Forbidden: It is not.
        """
        if lane not in self.scope.lanes:
            raise Forbidden(f"this key may not use the lane `{lane}`; it may use: {_listed(self.scope.lanes)}")


#: Where no keys are asked for.
ANYONE = Caller(None, "", UNLIMITED)


def caller_of(request: Request) -> Caller:
    """Who sent a request."""
    caller: Caller = request.scope["state"].get("caller", ANYONE)
    return caller


def _listed(allowed: Iterable[str]) -> str:
    return ", ".join(sorted(allowed)) or "none"
