"""The dialect of a path, known before the body is."""

import re
from collections.abc import Collection, Mapping, Sequence

from api.dialect import Dialect, Route

_PARAMETER = re.compile(r"\{\w+(?::\w+)?\}")


class DialectPaths:
    """Paths that run a model or show one."""

    def __init__(
        self, dialects: Collection[Dialect], contenders: Mapping[str, Sequence[tuple[Dialect, Route]]]
    ) -> None:
        """Look at what the dialects serve.

        Args:
            dialects: For their views.
            contenders: Their routes by path (`api.routing.contenders_by_path`).
        """
        served = {path: routes[0][0] for path, routes in contenders.items()}
        for dialect in dialects:
            for view in dialect.views:
                for path in (view.path, *view.aliases):
                    served.setdefault(path.rstrip("/") or "/", dialect)
        self._by_path = {path: dialect for path, dialect in served.items() if "{" not in path}
        self._by_pattern = [
            (re.compile(_PARAMETER.sub(".+", path)), dialect) for path, dialect in served.items() if "{" in path
        ]

    def find(self, path: str) -> Dialect | None:
        """The first dialect that serves a path, or None.

        Args:
            path: Without a slash at its end.
        """
        found = self._by_path.get(path)
        if found is not None:
            return found
        return next((dialect for pattern, dialect in self._by_pattern if pattern.fullmatch(path)), None)
