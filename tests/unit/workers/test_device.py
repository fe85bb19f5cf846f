"""Device and dtype: what is chosen, and one sentence when it cannot be had."""

import pytest
import torch

from shared.model_config import ConfigurationError
from workers import device as devices

CPU = torch.device("cpu")


@pytest.mark.parametrize("wanted", ["float32", "bfloat16", "float16"])
def test_a_dtype_that_was_asked_for_is_taken(wanted: str) -> None:
    assert devices.choose_dtype(wanted, CPU) is getattr(torch, wanted)


def test_on_a_cpu_the_numbers_are_float32_unless_asked_otherwise() -> None:
    assert devices.choose_dtype("auto", CPU) is torch.float32


def test_a_number_format_that_is_slow_on_this_cpu_is_found_out() -> None:
    # float64 has half as many numbers in a register, on every processor
    assert devices.speed_beside_float32(torch.float64) < 0.8


def test_a_cpu_is_a_device_by_name() -> None:
    assert devices.choose_device("cpu") == CPU
    assert devices.name(CPU) == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_choice_is_the_cpu() -> None:
    assert devices.choose_device("auto") == CPU


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_with_a_gpu_the_choice_is_the_first_one_in_half_precision() -> None:
    device = devices.choose_device("auto")

    assert device == torch.device("cuda:0")
    assert devices.choose_dtype("auto", device) in {torch.bfloat16, torch.float16, torch.float32}


def test_a_gpu_that_is_not_there_is_refused_in_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"^MILLRACE_DEVICE is cuda:99, but this machine shows \d+ GPUs$"):
        devices.choose_device("cuda:99")


@pytest.mark.parametrize("wanted", ["gpu", "", "cuda:first", "CPU!"])
def test_a_device_that_does_not_exist_is_refused_in_one_sentence(wanted: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        devices.choose_device(wanted)

    assert str(raised.value).startswith("MILLRACE_DEVICE")
    assert "\n" not in str(raised.value)


def test_threads_are_bounded_by_the_setting_or_by_the_cores_of_the_process() -> None:
    before = torch.get_num_threads()
    try:
        devices.set_threads(1)
        assert torch.get_num_threads() == 1
        devices.set_threads(devices.cpu_threads(0))
        assert torch.get_num_threads() >= 1
    finally:
        torch.set_num_threads(before)
