"""Every example, rendered once."""

import pytest

from tests.helpers.chart import EXAMPLES, Object, example, rendered


@pytest.fixture(scope="session")
def releases() -> dict[str, list[Object]]:
    """The objects of each example, and of the chart as it is."""
    return {"": rendered({}), **{name: rendered(example(name)) for name in EXAMPLES}}
