"""Tenants and their keys as they are declared: MILLRACE_API_KEY, and the YAML file of MILLRACE_KEYS_FILE.

```yaml
tenants:
  - name: search
    models: [all-MiniLM-L6-v2]      # names or aliases; all when absent
    routes: [embed, rerank]         # embed, rerank, classify, tokenize, bulk, admin; all but admin when absent
    lanes: [interactive]            # both when absent
    limits: {requests: 600/minute, tokens: 2000000/hour, concurrency: 32}   # none when absent
    keys:
      - name: backend
        sha256: 9f86d081884c7d65...
        routes: [embed]             # a key may have less than its tenant
```
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import yaml
from limits import RateLimitItem, parse_many
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from api.access.caller import NO_LIMITS, Limits
from shared.access import ORDINARY_ROUTES, RouteGroup, Scope
from shared.model_config import ConfigurationError
from shared.queues import Lane

#: The tenant of the keys in MILLRACE_API_KEY.
DEFAULT_TENANT = "default"
#: Letters that are safe in Redis keys and metric labels.
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
#: Which the library takes for one.
_NO_INTERVAL = re.compile(r"(per|/)\s*0+(?!\d)", re.IGNORECASE)


class _Scoped(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    models: frozenset[str] | None = None
    routes: frozenset[RouteGroup] | None = None
    lanes: frozenset[Lane] | None = None

    def scope(self, routes: frozenset[RouteGroup]) -> Scope:
        """What is allowed.

        Args:
            routes: Those that are allowed where none are named.
        """
        return Scope(
            models=self.models,
            routes=routes if self.routes is None else self.routes,
            lanes=frozenset(Lane) if self.lanes is None else self.lanes,
        )


def _interval(written: str) -> RateLimitItem:
    """An amount per interval, such as `600/minute` or `10 per 5 minutes`.

    Raises:
        ValueError: It is none.
    """
    try:
        (found,) = parse_many(written)
    except ValueError as err:
        raise ValueError("must be an amount per interval, one of them, such as 600/minute or 10 per 5 minutes") from err
    if _NO_INTERVAL.search(written):
        raise ValueError("must have an interval longer than nothing")
    return found


class LimitsEntry(BaseModel):
    """How much all keys of a tenant may ask for together."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: str | None = None
    tokens: str | None = None
    concurrency: int | None = Field(None, ge=1)

    @field_validator("requests", "tokens")
    @classmethod
    def _is_an_interval(cls, written: str | None) -> str | None:
        if written is not None:
            _interval(written)
        return written

    def parsed(self) -> Limits:
        """The same, understood."""
        if self == LimitsEntry():
            return NO_LIMITS  # this very object, by which the gate knows that there is nothing to count
        requests, tokens = (None if one is None else _interval(one) for one in (self.requests, self.tokens))
        return Limits(requests, tokens, self.concurrency)


class KeyEntry(_Scoped):
    """A key."""

    #: What it is called in logs.
    name: str = Field(pattern=_NAME)
    #: SHA-256 of the key, in hexadecimal digits.
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")


class Tenant(_Scoped):
    """Somebody with keys: a team, an application, a customer."""

    #: In logs, metrics and Redis keys.
    name: str = Field(pattern=_NAME)
    keys: tuple[KeyEntry, ...] = ()
    limits: LimitsEntry = LimitsEntry()

    @model_validator(mode="after")
    def _keys_have_names_of_their_own(self) -> Self:
        if len({key.name for key in self.keys}) != len(self.keys):
            raise ValueError(f"tenant {self.name} has two keys of one name")
        return self

    @model_validator(mode="after")
    def _keys_have_no_more(self) -> Self:
        for key in self.keys:
            for what in ("models", "routes", "lanes"):
                allowed = self.allowed.routes if what == "routes" else getattr(self, what)
                if allowed is not None and (more := (getattr(key, what) or frozenset()) - allowed):
                    raise ValueError(f"key {key.name} names {min(more)!s} in {what}, which its tenant does not have")
        return self

    @property
    def allowed(self) -> Scope:
        """What all its keys together may ask for."""
        return self.scope(ORDINARY_ROUTES)


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    tenants: tuple[Tenant, ...]


def read_tenants(path: Path) -> Sequence[Tenant]:
    """The tenants of a keys file.

    Raises:
        ConfigurationError: It cannot be read, or is wrong; the sentence repeats no value of it.
    """
    try:
        tenants = _KeysFile.model_validate(yaml.safe_load(path.read_text())).tenants
    except yaml.MarkedYAMLError as err:
        where = f" in line {err.problem_mark.line + 1}" if err.problem_mark else ""
        raise ConfigurationError(f"{path} is not valid YAML{where}: {err.problem}") from None
    except OSError as err:
        raise ConfigurationError(f"{path} (MILLRACE_KEYS_FILE) cannot be read: {err.strerror}") from err
    except ValidationError as err:
        first = err.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from None
    except (yaml.YAMLError, ValueError, RecursionError):  # the latter two of its constructors: a 30th of February, say
        raise ConfigurationError(f"{path} is not valid YAML, or has a date or a number that is none") from None
    _refuse_repetitions(path, tenants)
    return tenants


def _refuse_repetitions(path: Path, tenants: Sequence[Tenant]) -> None:
    names = [tenant.name for tenant in tenants]
    if DEFAULT_TENANT in names:
        raise ConfigurationError(
            f"{path}: the tenant of MILLRACE_API_KEY is called {DEFAULT_TENANT!r}; take another name"
        )
    if len(set(names)) != len(names):
        raise ConfigurationError(f"{path}: two tenants have one name")
    seen: dict[str, str] = {}
    for tenant in tenants:
        for key in tenant.keys:
            other = seen.setdefault(key.sha256.lower(), f"{tenant.name}/{key.name}")
            if other != f"{tenant.name}/{key.name}":
                raise ConfigurationError(f"{path}: the keys {other} and {tenant.name}/{key.name} are the same")
