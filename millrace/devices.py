"""The devices that models are placed on: GPUs and MIG slices, the CPU, or simulated ones."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile

from millrace import nvidia
from millrace.cpus import cpus_near, own_cpus
from shared.logging import get_logger
from shared.model_config import ConfigurationError
from shared.settings import PREFIX

_SETTING = f"{PREFIX}DEVICE"
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_SIMULATED = re.compile(r"simulated:([1-9]\d?)x(\d+(?:\.\d+)?)GiB")
#: A simulated device takes models in the number formats of Ampere and later cards.
_SIMULATED_CAPABILITY = (8, 0)
_NO_SLICES = "has MIG on and no slices: make some (`nvidia-smi mig -cgi`), or turn MIG off"
_GIB = 1 << 30

log = get_logger("millrace.devices")


@dataclass(frozen=True, slots=True)
class Device:
    """What one worker process is pinned to."""

    #: `gpu-0`, `gpu-0-mig-1`, `sim-3`: in names of workers, in logs, and in `devices` of the models file.
    name: str
    #: MILLRACE_DEVICE of its worker process.
    setting: str
    #: CUDA_VISIBLE_DEVICES of its worker process; empty where that is left as it is.
    uuid: str = ""
    #: What it is.
    product: str = ""
    #: Other names of it: its index, the card that it is a slice of.
    aliases: frozenset[str] = frozenset()
    #: Free memory; None where it is not counted.
    memory_bytes: int | None = None
    #: Compute capability; None where it is not known.
    capability: tuple[int, int] | None = None
    #: CPUs of its worker process.
    cpus: frozenset[int] = field(default_factory=own_cpus)

    @property
    def label(self) -> str:
        """What people are told; empty where the worker knows better."""
        about = ", ".join(filter(None, [self.product, self.uuid]))
        return f"{self.name} ({about})" if about else ""

    def answers_to(self, wanted: str) -> bool:
        """Whether a name, an index, a UUID or the beginning of a UUID means this device."""
        is_beginning = wanted.startswith(("GPU-", "MIG-")) and any(
            name.startswith(wanted) for name in (self.uuid, *self.aliases)
        )
        return wanted == self.name or wanted in self.aliases or is_beginning


def find(wanted: str, environment: Mapping[str, str] = os.environ) -> list[Device]:
    """The devices that MILLRACE_DEVICE means, at least one.

    Args:
        wanted: Its value.
        environment: Where CUDA_VISIBLE_DEVICES may be, which hides others.

    Raises:
        ConfigurationError: It names one that is not here.
    """
    if wanted == "cpu" or wanted.partition(":")[0] == "cuda":
        return [Device(wanted.replace(":", "-"), setting=wanted)]
    if (simulated := _SIMULATED.fullmatch(wanted)) is not None:
        return _simulated(int(simulated[1]), float(simulated[2]))
    gpus = _visible(environment.get(_VISIBLE))
    if wanted == "auto":
        # Torch may still find what nvidia-smi does not.
        return gpus or [Device("cpu", setting="auto")]
    names = _names(wanted)
    if not names:
        raise ConfigurationError(f"{_SETTING} is empty; leave it out, or say `auto`, `cpu` or which GPUs")
    return named(names, gpus, _SETTING)


def named(names: Iterable[str], devices: Sequence[Device], where: str) -> list[Device]:
    """The devices that are named, in their own order, each once.

    Args:
        names: Names, indices, UUIDs.
        devices: What there is.
        where: Who names them, for the error.

    Raises:
        ConfigurationError: A name means none of them.
    """
    meant: set[str] = set()
    for name in names:
        found = [device.name for device in devices if device.answers_to(name)]
        if not found:
            here = ", ".join(device.label or device.name for device in devices) or "no GPU"
            raise ConfigurationError(f"{where} names device {name!r}, and here there is {here}")
        meant.update(found)
    return [device for device in devices if device.name in meant]


def _names(listed: str) -> list[str]:
    return [name.strip() for name in listed.split(",") if name.strip()]


def _simulated(count: int, gibibytes: float) -> list[Device]:
    return [
        Device(
            f"sim-{index}",
            setting="cpu",
            product=f"simulated, {gibibytes:g} GiB",
            aliases=frozenset({str(index)}),
            memory_bytes=int(gibibytes * _GIB),
            capability=_SIMULATED_CAPABILITY,
        )
        for index in range(count)
    ]


def _visible(visible: str | None) -> list[Device]:
    """The GPUs that CUDA would show: all, or those that CUDA_VISIBLE_DEVICES names before the first that is not here."""
    entries = list(takewhile(lambda entry: entry != "-1", _names(visible or "")))
    if visible is not None and not entries:
        return []
    gpus = _listed()
    if gpus is None:
        return [
            Device(f"gpu-{index}", setting="cuda", uuid=entry, aliases=frozenset({entry}))
            for index, entry in enumerate(entries)
        ]
    devices = [device for gpu in gpus for device in _devices_of(gpu)]
    if visible is None:
        _refuse_if_useless(gpus, devices)
        return devices
    shown: list[Device] = []
    for entry in entries:
        meant = [device for device in devices if device.answers_to(entry)]
        if not meant:
            log.warning(
                "gpus_hidden", visible=visible, reason=f"{entry} is not here, and hides itself and what follows it"
            )
            break  # as CUDA reads it: what follows is hidden too
        shown += [device for device in meant if device not in shown]
    return shown


def _listed() -> list[nvidia.Gpu] | None:
    """The machine's GPUs. Those that cannot be used are told of; the CPU in their place would be many times slower."""
    try:
        return nvidia.listed()
    except nvidia.GpusLost as err:
        raise ConfigurationError(
            f"none of this machine's GPUs can be used: {err}; {_SETTING}=cpu does without them"
        ) from err


def _refuse_if_useless(gpus: Sequence[nvidia.Gpu], devices: Sequence[Device]) -> None:
    if gpus and not devices:
        unusable = ", ".join(f"gpu-{gpu.index}" for gpu in gpus)
        raise ConfigurationError(
            f"none of this machine's GPUs can be used: {unusable} {_NO_SLICES}; {_SETTING}=cpu does without them"
        )


def _devices_of(gpu: nvidia.Gpu) -> list[Device]:
    name, cpus = f"gpu-{gpu.index}", cpus_near(gpu.bus_id)
    if not gpu.is_sliced:
        return [
            Device(
                name,
                setting="cuda",
                uuid=gpu.uuid,
                product=gpu.name,
                aliases=frozenset({str(gpu.index)}),
                memory_bytes=gpu.free_bytes,
                capability=gpu.capability,
                cpus=cpus,
            )
        ]
    if not gpu.slices:
        log.warning("gpu_unusable", device=f"{name} ({gpu.name}, {gpu.uuid})", reason=f"it {_NO_SLICES}")
    return [
        Device(
            f"{name}-mig-{part.index}",
            setting="cuda",
            uuid=part.uuid,
            product=f"{gpu.name} MIG {part.profile}",
            aliases=frozenset({str(gpu.index), name, gpu.uuid}),
            memory_bytes=part.memory_bytes,
            capability=gpu.capability,
            cpus=cpus,
        )
        for part in gpu.slices
    ]
