"""Device and dtype choice, memory, streams, graphs: the only caller of torch.cuda."""

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from shared.model_config import ConfigurationError
from workers import number_formats
from workers.memory import Memory, host_memory

#: Token budget of one forward pass. On CPU, with batches beside each other, 1,024 tokens measured best: MiniLM on two cores
#: 8,500 tokens/s against 8,300 with 512, 7,400 with 2,048 and 6,900 with 4,096, which fall out of the cache.
CPU_BATCH_TOKENS = 1024
#: Longest time that a calibrated batch takes on CUDA, in seconds: what a request waits for that has just missed one.
CUDA_BATCH_S = 0.025
#: Part of the memory that is free after loading which all models' batches together may take.
_MEMORY_SHARE = 0.85

#: Side of the square matrices whose product is timed, and how often: some milliseconds all together.
_PROBE_SIDE, _PROBES = 512, 5


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
    """The number format that a setting means on a device."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    dtype: torch.dtype = getattr(torch, number_formats.chosen(wanted, capability, model_type))
    return dtype


def cpu_threads(wanted: int) -> int:
    """The number that a setting means; 0 is all cores that this process may use."""
    return wanted or len(os.sched_getaffinity(0))


def set_threads(threads: int) -> None:
    """Bound the CPU threads of forward passes on the calling thread, and on threads that have not run one yet."""
    torch.set_num_threads(threads)


def speed_beside_float32(dtype: torch.dtype) -> float:
    """How fast this CPU multiplies matrices of a number format, over how fast it does those of float32.

    A processor may have instructions for bfloat16 and be slower with them: a Xeon whose AMX the hypervisor hides makes 82
    GFLOP/s of them, and 152 in float32.
    """
    formats = torch.float32, dtype
    matrices = [torch.ones(_PROBE_SIDE, _PROBE_SIDE, dtype=number_format) for number_format in formats]
    best_s = [math.inf, math.inf]
    with torch.inference_mode():
        for _ in range(_PROBES):
            for index, matrix in enumerate(matrices):
                started = time.perf_counter()
                functional.linear(matrix, matrix)
                best_s[index] = min(best_s[index], time.perf_counter() - started)
    return best_s[0] / best_s[1]


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


def memory(device: torch.device) -> Memory:
    """How much of the device's memory is whose."""
    if device.type != "cuda":
        return host_memory()
    free, total = torch.cuda.mem_get_info(device)
    return Memory(torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device), free, total)


def batch_memory(device: torch.device) -> int:
    """Bytes that batches may take, all models together, as much as is free now. CUDA only."""
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(_MEMORY_SHARE * (free + cached))


def peak_memory(device: torch.device) -> int:
    """Most bytes allocated since `reset_peak_memory`, beyond what was allocated then. CUDA only."""
    return torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)


def reset_peak_memory(device: torch.device) -> None:
    """Begin to watch the memory."""
    torch.cuda.reset_peak_memory_stats(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done all that it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Stream:
    """An order of work on a device; what is on different streams may run at the same time."""

    def __init__(self, device: torch.device) -> None:
        self._stream: Any = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self) -> AbstractContextManager[Any]:
        """Everything launched in this context goes onto the stream."""
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)


class GraphCapture:
    """Captures work as graphs that share one memory, so that only one of them runs at a time. CUDA only."""

    #: Ordinary passes before a capture: libraries choose kernels and take workspaces in the first ones.
    _WARM_UP = 3

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self, launch: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """What replays the work and gives its result, which the next replay overwrites."""
        for _ in range(self._WARM_UP):
            launch()
        torch.cuda.synchronize(self._device)
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            result = launch()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


NameT = TypeVar("NameT")


class HostCopies(Generic[NameT]):
    """float32 copies of tensors on their way to the host, behind what the current stream was told before.

    Nobody waits until `wait`, so that the device has its next batch while the last one's results travel.
    """

    def __init__(self, tensors: Mapping[NameT, Tensor]) -> None:
        self._event: Any = None
        self._copies: dict[NameT, Tensor] = {}
        for name, tensor in tensors.items():
            if tensor.is_cuda:
                copy = torch.empty(tensor.shape, dtype=torch.float32, pin_memory=True)
                self._copies[name] = copy.copy_(tensor.float(), non_blocking=True)
                self._event = self._event or torch.cuda.Event()
            else:
                self._copies[name] = tensor.float()
        if self._event is not None:
            self._event.record()

    def wait(self) -> dict[NameT, npt.NDArray[np.float32]]:
        """The arrays, when they have arrived."""
        if self._event is not None:
            self._event.synchronize()
        return {name: copy.numpy() for name, copy in self._copies.items()}
