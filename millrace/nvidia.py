"""The NVIDIA GPUs and MIG slices of this machine, as `nvidia-smi` tells them. No CUDA context is made, no torch loaded.

`nvidia-smi` comes with the driver and is in every container that has NVML's library, so NVML's bindings would see no more.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from shared.logging import get_logger

log = get_logger("millrace.devices")

_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "compute_cap", "pci.bus_id", "mig.mode.current")
#: A driver that is asleep takes some seconds to wake up; one that hangs never answers.
_TIMEOUT_S = 60.0
_LISTED_GPU = re.compile(r"GPU (\d+): ")
_LISTED_SLICE = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (\S+)\)")
_SLICE_GB = re.compile(r"(\d+)gb")
#: Of a slice's nominal gigabytes the driver keeps some: 4.75 GiB of a `1g.5gb` can be used, about 10.8 of a `1g.12gb`.
_SLICE_SHARE = 0.9
#: Its exit status where a GPU has fallen off the bus, and what it says of one that does not work.
_LOST_STATUS = 15
_LOST = re.compile(r"device handle|GPU is lost|GPU requires reset", re.IGNORECASE)
_MIB, _GIB = 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class MigSlice:
    """A part of a GPU that is a device of its own."""

    index: int
    uuid: str
    #: Such as `1g.10gb`.
    profile: str
    #: Memory that can be used, roughly; None where the profile does not say.
    memory_bytes: int | None


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card."""

    index: int
    uuid: str
    name: str
    #: None where the driver does not say, as of memory that the card shares with the CPU.
    total_bytes: int | None
    free_bytes: int | None
    #: None where the driver does not say.
    capability: tuple[int, int] | None
    #: As sysfs names it.
    bus_id: str
    #: Whether it can only be used in slices.
    is_sliced: bool
    slices: tuple[MigSlice, ...] = ()


class GpusLost(Exception):
    """The driver knows of GPUs and can use none of them; the message is what it said."""


def listed() -> list[Gpu] | None:
    """All GPUs that the driver shows to this process; None where nobody can be asked.

    Raises:
        GpusLost: There are some, and all have failed.
    """
    answer = _ask(f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits")
    if answer is None:
        return None
    # What it cannot say of one GPU it says between the lines of the others, with status 0 or another.
    said = f"{answer.stdout}\n{answer.stderr}" if answer.returncode != 0 else answer.stdout
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    rows = [line for line in lines if _is_usable(line)]
    others = [line for line in lines if not _is_usable(line)]
    if not rows and (answer.returncode == _LOST_STATUS or any(map(_LOST.search, others))):
        raise GpusLost("; ".join(others))
    if not rows and answer.returncode != 0:
        log.warning("gpus_not_listed", reason=" ".join(said.split()))
        return None
    for line in others:
        log.warning("gpu_unusable", reason=line)
    tree = _ask("-L") if rows else None
    return parsed("\n".join(rows), tree.stdout if tree else "")


def parsed(table: str, tree: str) -> list[Gpu]:
    """What `nvidia-smi` said.

    Args:
        table: A line per GPU, with `_FIELDS`.
        tree: The output of `nvidia-smi -L`, where slices are.
    """
    slices = _slices(tree)
    return [_gpu(_cells(line), slices) for line in table.splitlines() if line.strip()]


def _ask(*arguments: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(  # the operator's PATH says which
            ["nvidia-smi", *arguments],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except FileNotFoundError:
        return None
    except (OSError, subprocess.TimeoutExpired) as err:
        log.warning("gpus_not_listed", reason=str(err))
        return None


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _is_usable(line: str) -> bool:
    """Whether a line of the table describes a GPU, and one that works."""
    cells = _cells(line)
    is_gpu = len(cells) >= len(_FIELDS) and cells[0].isdecimal() and cells[1].startswith("GPU-")
    return is_gpu and not _LOST.search(line)


def _gpu(cells: Sequence[str], slices: dict[int, list[MigSlice]]) -> Gpu:
    # A product's name has no comma; if one ever has, only the name is cut short.
    index, uuid, name, *_ = cells
    total, free, capability, bus_id, mig = cells[-5:]
    return Gpu(
        index=int(index),
        uuid=uuid,
        name=name,
        total_bytes=_mebibytes(total),
        free_bytes=_mebibytes(free),
        capability=_capability(capability),
        # sysfs has four digits of the domain, the driver eight.
        bus_id=bus_id[-len("0000:00:00.0") :].lower(),
        is_sliced=mig == "Enabled",
        slices=tuple(slices.get(int(index), ())),
    )


def _mebibytes(cell: str) -> int | None:
    return int(cell) * _MIB if cell.isdecimal() else None


def _capability(cell: str) -> tuple[int, int] | None:
    major, _, minor = cell.partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _slices(tree: str) -> dict[int, list[MigSlice]]:
    """Slices by the index of their GPU."""
    found: dict[int, list[MigSlice]] = {}
    gpu = -1
    for line in tree.splitlines():
        if (parent := _LISTED_GPU.match(line)) is not None:
            gpu = int(parent[1])
        elif (part := _LISTED_SLICE.match(line)) is not None:
            profile, index, uuid = part.groups()
            size = _SLICE_GB.search(profile)
            memory = int(int(size[1]) * _GIB * _SLICE_SHARE) if size else None
            found.setdefault(gpu, []).append(MigSlice(int(index), uuid, profile, memory))
    return found
