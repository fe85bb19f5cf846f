"""Reference implementations print progress bars; nobody reads them here."""

import pytest
from transformers.utils import logging as transformers_logging


@pytest.fixture(scope="session", autouse=True)
def _no_progress_bars() -> None:
    transformers_logging.disable_progress_bar()
