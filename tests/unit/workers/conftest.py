"""Tiny tensors are computed on one thread: on cores that others use too, threads that wait for each other are slow."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _single_threaded() -> None:
    torch.set_num_threads(1)
