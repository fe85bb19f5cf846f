"""The register of keys: which caller a presented key belongs to. Follows its file while the process runs."""

import asyncio
import hmac
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from api.access.caller import ANYONE, Caller
from api.access.keys import digest_of
from api.access.tenants import DEFAULT_TENANT, Tenant, read_tenants
from shared.access import UNLIMITED, Scope
from shared.errors import Forbidden, Unauthenticated
from shared.logging import get_logger
from shared.model_config import ConfigurationError

log = get_logger("millrace.access")

#: How often the file is looked at, in seconds.
WATCH_S = 1.0
#: Bytes of a digest by which it is looked up; all of it is then compared in constant time.
_LOOKED_UP = 8
#: What is asked of a request that brings no key.
_HOW = "send one as `Authorization: Bearer <key>`, `X-API-Key` or `api-key`"

#: What tells one version of a file from another.
_Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class _Keys:
    """One version of all that is known."""

    tenants: Mapping[str, Scope]
    callers: Mapping[bytes, tuple[bytes, Caller]]


class KeyRegister:
    """All keys of a deployment."""

    def __init__(self, api_key: SecretStr, keys_file: Path | None) -> None:
        """Read what is declared.

        Args:
            api_key: Keys, separated by commas, that may use everything.
            keys_file: YAML file of tenants; None for none.

        Raises:
            ConfigurationError: The file is missing or wrong.
        """
        self._own = [digest_of(key) for key in listed_keys(api_key)]
        self._file = keys_file
        self._stamp = None if keys_file is None else _stamp(keys_file)
        self._keys = self._read()
        #: Set as soon as what is known now is not any more, and replaced by the next version's.
        self.changed = asyncio.Event()

    @property
    def is_on(self) -> bool:
        """Whether requests need a key."""
        return bool(self._own) or self._file is not None

    @property
    def may_change(self) -> bool:
        """Whether keys can be revoked while the process runs."""
        return self._file is not None

    @property
    def tenants(self) -> Sequence[str]:
        """Names of all tenants."""
        return list(self._keys.tenants)

    def authenticate(self, presented: Iterable[bytes]) -> Caller:
        """Whose key a request has brought; where it brings several, one that is known counts.

        Raises:
            Unauthenticated: It has brought none that is known.
        """
        is_wrong = False
        for key in presented:
            digest = digest_of(key)
            found = self._keys.callers.get(digest[:_LOOKED_UP])
            if found is not None and hmac.compare_digest(found[0], digest):
                return found[1]
            is_wrong = True
        if is_wrong:
            raise Unauthenticated(f"the API key is not valid here; it may have been replaced: {_HOW}")
        raise Unauthenticated(f"an API key is needed and none was sent: {_HOW}")

    def owner(self, tenant: str | None, scope: Scope | None) -> Caller:
        """The caller on whose behalf a bulk job runs now.

        Args:
            tenant: Whose job it is; None for a job that was made without a key.
            scope: What the key allowed that it was made with.

        Raises:
            Forbidden: The tenant has gone since.
        """
        if tenant is None or not self.is_on:
            return ANYONE if scope is None else Caller(tenant, "", scope)
        allowed = self._keys.tenants.get(tenant)
        if allowed is None:
            raise Forbidden(f"the job's tenant {tenant!r} is not among the configured tenants any more")
        return Caller(tenant, "", allowed if scope is None else allowed.within(scope))

    async def watch(self) -> None:
        """Follow the file until cancelled; a version that is wrong is logged, and the last right one stays."""
        loop = asyncio.get_running_loop()
        # The loop's own threads are the bulk store's: where that hangs, keys are still revoked.
        thread = ThreadPoolExecutor(1, thread_name_prefix="keys")
        while self._file is not None:
            await asyncio.sleep(WATCH_S)
            stamp = await loop.run_in_executor(thread, _stamp, self._file)
            if stamp == self._stamp:
                continue
            self._stamp = stamp
            try:
                self._keys = await loop.run_in_executor(thread, self._read)
            except ConfigurationError as err:
                log.warning("keys_file_refused", reason=str(err))
            else:
                self.changed.set()
                self.changed = asyncio.Event()
                log.info("keys_file_read", tenants=len(self._keys.tenants), keys=len(self._keys.callers))

    def _read(self) -> _Keys:
        tenants = [] if self._file is None else read_tenants(self._file)
        scopes = {tenant.name: tenant.allowed for tenant in tenants}
        callers = dict(_callers(tenants))
        if self._own:
            scopes[DEFAULT_TENANT] = UNLIMITED
        for number, digest in enumerate(self._own, 1):
            callers[digest[:_LOOKED_UP]] = digest, Caller(DEFAULT_TENANT, f"MILLRACE_API_KEY-{number}", UNLIMITED)
        return _Keys(scopes, callers)


def listed_keys(api_key: SecretStr) -> list[bytes]:
    """The keys of a list with commas."""
    return [key.strip().encode() for key in api_key.get_secret_value().split(",") if key.strip()]


def _callers(tenants: Iterable[Tenant]) -> Iterable[tuple[bytes, tuple[bytes, Caller]]]:
    for tenant in tenants:
        limits = tenant.limits.parsed()
        for key in tenant.keys:
            digest = bytes.fromhex(key.sha256)
            scope = tenant.allowed.within(key.scope(tenant.allowed.routes))
            yield digest[:_LOOKED_UP], (digest, Caller(tenant.name, key.name, scope, limits))


def _stamp(path: Path) -> _Stamp:
    """What changes when a file does; a Kubernetes secret is replaced by another link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
