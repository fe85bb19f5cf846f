"""The dialect of a path, known before the body is."""

import re
from collections.abc import Collection, Mapping, Sequence

from api.dialect import Dialect, Route, prefixes_of, view_paths

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
                for path in view_paths(dialect, view, prefixes_of(dialects)):
                    served.setdefault(path.rstrip("/") or "/", dialect)
        self._by_path = {path: dialect for path, dialect in served.items() if "{" not in path}
        self._by_pattern = [
            (re.compile(_PARAMETER.sub(".+", path)), dialect) for path, dialect in served.items() if "{" in path
        ]
        self._by_start = _by_start(dialects, served)

    def find(self, path: str) -> Dialect | None:
        """The first dialect that serves a path, or None.

        Args:
            path: Without a slash at its end.
        """
        found = self._by_path.get(path)
        if found is not None:
            return found
        return next((dialect for pattern, dialect in self._by_pattern if pattern.fullmatch(path)), None)

    def nearest(self, path: str) -> Dialect | None:
        """The dialect in which somebody speaks who asks for a path, be it served or not; None where several may be meant.

        Args:
            path: Without a slash at its end.
        """
        return self.find(path) or self._by_start.get(path.split("/")[1])


def _by_start(dialects: Collection[Dialect], served: Mapping[str, Dialect]) -> dict[str, Dialect]:
    """Dialects by the first part of paths: a prefix, or a part under which no other dialect has paths."""
    under: dict[str, set[str]] = {}
    for path, dialect in served.items():
        under.setdefault(path.split("/")[1], set()).add(dialect.name)
    lone = {start: names for start, names in under.items() if len(names) == 1}
    found = {start: dialect for dialect in dialects for start, names in lone.items() if names == {dialect.name}}
    return {**found, **{dialect.prefix: dialect for dialect in dialects if dialect.prefix is not None}}
