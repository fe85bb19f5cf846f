"""Device and dtype choice: the only caller of torch.cuda."""

import os

import torch

from shared.model_config import ConfigurationError

#: Token budget of one forward pass. On CPU, with batches beside each other, 1,024 tokens measured best: MiniLM on two cores
#: 8,500 tokens/s against 8,300 with 512, 7,400 with 2,048 and 6,900 with 4,096, which fall out of the cache.
CPU_BATCH_TOKENS = 1024
CUDA_BATCH_TOKENS = 16_384
#: Beginnings of the model types that do not fit into float16.
_OVERFLOWS_FLOAT16 = ("gemma", "qwen", "t5", "mt5", "umt5", "embedding_gemma")


def choose_device(wanted: str) -> torch.device:
    """The device that a setting means.

    Raises:
        ConfigurationError: It names a GPU that is not there.
    """
    if wanted == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as err:
        raise ConfigurationError(f"MILLRACE_DEVICE is {wanted!r}; it can be auto, cpu, cuda or cuda:N") from err
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if (device.index or 0) >= count:
            raise ConfigurationError(f"MILLRACE_DEVICE is {wanted}, but this machine shows {count} GPUs")
    return device


def choose_dtype(wanted: str, device: torch.device, model_type: str = "") -> torch.dtype:
    """The number format that a setting means; `auto` is float32 on CPU and `half_precision` on CUDA."""
    if wanted != "auto":
        dtype: torch.dtype = getattr(torch, wanted)
        return dtype
    if device.type == "cpu":
        return torch.float32
    return half_precision(torch.cuda.get_device_capability(device), model_type)


def half_precision(capability: tuple[int, int], model_type: str) -> torch.dtype:
    """bfloat16 where the card has it (compute capability 8.0), else float16 if the model can bear it, else float32.

    Activations of Gemma, Qwen and T5 leave float16's range and come out as NaN. Pascal (6.x) runs float16 at a sixty-fourth
    of its float32 speed, so below 7.0 everything stays float32.
    """
    if capability >= (8, 0):
        return torch.bfloat16
    overflows = model_type.startswith(_OVERFLOWS_FLOAT16)
    return torch.float16 if capability >= (7, 0) and not overflows else torch.float32


def cpu_threads(wanted: int) -> int:
    """The number that a setting means; 0 is all cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def set_threads(threads: int) -> None:
    """Bound the CPU threads of forward passes on the calling thread, and on threads that have not run one yet."""
    torch.set_num_threads(threads)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that the device's or the host's memory is full. PyTorch's CPU allocator has no class for it."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def give_back_memory(device: torch.device) -> None:
    """Return cached blocks to the device, so that smaller ones can be cut anew."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def name(device: torch.device) -> str:
    """What to call the device in cards and logs."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else "cpu"
