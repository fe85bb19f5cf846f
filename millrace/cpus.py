"""The CPUs of worker processes: those beside the device, and a fair number of threads."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

_PCI_DEVICES = Path("/sys/bus/pci/devices")


def own_cpus() -> frozenset[int]:
    """The CPUs that this process may use."""
    return frozenset(os.sched_getaffinity(0))


def cpus_near(bus_id: str, pci_devices: Path = _PCI_DEVICES) -> frozenset[int]:
    """The CPUs on the NUMA node of a PCI device that this process may use; all of them where that is not known.

    Args:
        bus_id: Such as `0000:18:00.0`.
        pci_devices: Where the kernel shows them.
    """
    try:
        listed = (pci_devices / bus_id / "local_cpulist").read_text()
    except OSError:
        return own_cpus()  # a virtual machine may show none
    return (_parsed(listed) & own_cpus()) or own_cpus()


def fair_threads(shares: Sequence[frozenset[int]]) -> list[int]:
    """Threads for processes that have these CPUs: of each CPU everybody who has it gets an equal part."""
    users = Counter(cpu for cpus in shares for cpu in cpus)
    # Rounded, because a third of each of three CPUs is one.
    return [max(1, int(round(sum(1 / users[cpu] for cpu in cpus), 6))) for cpus in shares]


def _parsed(listed: str) -> frozenset[int]:
    """The kernel's lists: `0-23,48-71`."""
    cpus: set[int] = set()
    for part in filter(None, listed.strip().split(",")):
        first, _, last = part.partition("-")
        cpus.update(range(int(first), int(last or first) + 1))
    return frozenset(cpus)
