"""The chart, rendered: what Kubernetes would be given."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import helm_python

CHART = Path(__file__).parents[2] / "helm" / "millrace"
#: Whole examples: a file of values each.
EXAMPLES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Object = dict[str, Any]


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Values with others over them, as Helm lays files over each other."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return result


def example(name: str) -> dict[str, Any]:
    """The values of an example."""
    loaded: dict[str, Any] = yaml.safe_load((CHART / "ci" / f"{name}-values.yaml").read_text())
    return loaded


def rendered(values: Mapping[str, Any], *, release: str = "m", namespace: str = "search") -> list[Object]:
    """All objects of a release."""
    with helm_python.Chart.load(str(CHART)) as chart:
        text = chart.render(values=dict(values), name=release, namespace=namespace)
    return documents(text)


def notes(values: Mapping[str, Any]) -> str:
    """What an operator reads after the installation."""
    with helm_python.Chart.load(str(CHART)) as chart:
        texts = chart.render(values=dict(values), name="m", namespace="search")
    (found,) = [text for path, text in texts.items() if path.endswith("NOTES.txt")]
    return str(found)


def documents(text: str | Mapping[str, str]) -> list[Object]:
    """The objects in rendered YAML, without the notes."""
    texts = [text] if isinstance(text, str) else [part for path, part in text.items() if path.endswith(".yaml")]
    return [document for part in texts for document in yaml.safe_load_all(part) if document]


def find(objects: list[Object], kind: str, name: str) -> Object:
    """The object of this kind whose name ends so.

    Raises:
        LookupError: There is none, or several.
    """
    found = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    if len(found) != 1:
        there = sorted(f"{each['kind']}/{each['metadata']['name']}" for each in objects)
        raise LookupError(f"{len(found)} of {kind} {name!r} in {there}")
    return found[0]


def pod_specs(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """The pods that would run, by what makes them."""
    for each in objects:
        name = f"{each['kind']}/{each['metadata']['name']}"
        if each["kind"] == "Pod":
            yield name, each["spec"]
        elif "template" in each.get("spec", {}):
            yield name, each["spec"]["template"]["spec"]


def environment(container: Object) -> dict[str, str | None]:
    """A container's variables; None for those that come from elsewhere."""
    return {entry["name"]: entry.get("value") for entry in container.get("env", [])}
