"""Reference implementations print progress bars and start threads; nobody reads the former or waits for the latter."""

import pytest
import torch
from transformers.utils import logging as transformers_logging


@pytest.fixture(scope="session", autouse=True)
def _quiet_and_single_threaded() -> None:
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
