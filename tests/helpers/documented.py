"""Answers of a service against its OpenAPI document."""

from collections.abc import Mapping
from typing import Any

import httpx

from tests.helpers.json_schema import fits

#: Headers of every HTTP answer, which no document lists.
_OF_HTTP = {"content-type", "content-length", "date", "connection", "vary", "transfer-encoding"}


class Documented:
    """What a document says of answers."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def answer(self, method: str, path: str, status: int) -> dict[str, Any]:
        """The answer with a status, as it is documented, references resolved.

        Raises:
            KeyError: It is not.
        """
        found: dict[str, Any] = self.resolved(self._document["paths"][path][method.lower()]["responses"][str(status)])
        return found

    def resolved(self, node: Any) -> Any:
        """A part of the document with what it refers to in its place."""
        if isinstance(node, list):
            return [self.resolved(entry) for entry in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            found: Any = self._document
            for name in node["$ref"].removeprefix("#/").split("/"):
                found = found[name]
            return self.resolved(found)
        return {name: self.resolved(value) for name, value in node.items()}

    def check(self, path: str, response: httpx.Response) -> None:
        """See that an answer with JSON is as it is documented, no more and no less.

        Args:
            path: As the document has it.
            response: To a request for it.
        """
        told = self.answer(response.request.method, path, response.status_code)
        schema = told["content"]["application/json"]["schema"]
        assert fits(response.json(), schema), response.text
        names = [set(form["properties"]) for form in schema.get("anyOf", [schema])]
        assert set(response.json()) in names, "a field is not documented"
        sent = set(response.headers) - _OF_HTTP
        assert sent <= set(told["headers"]), "a header is not documented"
        assert {name for name, header in told["headers"].items() if header.get("required")} <= sent
