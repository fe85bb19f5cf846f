"""The memory of the engine's device, and how the worker shows it."""

import os
from dataclasses import astuple, dataclass
from pathlib import Path

from shared.metrics import Metrics

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Limit and use of the container that a process is in, by control groups of version 2.
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Memory:
    """Of a device, in bytes."""

    #: By tensors; on the CPU all that the engine process takes.
    allocated: int
    #: By the engine process, with what it keeps for later.
    reserved: int
    #: By nobody.
    free: int
    total: int


def host_memory() -> Memory:
    """What this process takes of the machine's memory, or of its container's."""
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    kib = {fields[0].rstrip(":"): int(fields[1]) for fields in lines}
    free, total = kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024
    limit = _cgroup("memory.max")
    if limit is not None and limit < total:
        free, total = min(free, limit - (_cgroup("memory.current") or 0)), limit
    return Memory(allocated=resident, reserved=resident, free=free, total=total)


def _cgroup(name: str) -> int | None:
    """A number of the container's; None where there is none."""
    try:
        text = (_CGROUP / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def show(metrics: Metrics, memory: Memory) -> None:
    """Set the gauges."""
    for kind, size in zip(Memory.__slots__, astuple(memory), strict=True):
        metrics.gauge("millrace_device_memory_bytes", kind=kind).set(size)
