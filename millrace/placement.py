"""Placement: which models each device of a machine has. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.model_config import ConfigurationError, Placement

_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Wanted:
    """A model that is to be placed."""

    name: str
    placement: Placement
    #: Bytes that it needs, by device, for each device that it may be on.
    needs: Mapping[str, int]


def plan(models: Sequence[Wanted], free: Mapping[str, int | None]) -> dict[str, list[str]]:
    """Place models on devices.

    A model that is replicated or pinned is on every device that it may be on. One that is spread is on the one with the most
    room left, the largest first, so that the devices are shared out. Nothing is split over devices.

    Args:
        models: What is wanted; their order is that of each device's models.
        free: Bytes by device; None where memory is not counted.

    Returns:
        The models by device; a device may have none.

    Raises:
        ConfigurationError: A model does not fit; the sentence says what it needs and what there is.
    """
    left = {device: math.inf if room is None else room for device, room in free.items()}
    placed: dict[str, list[str]] = {device: [] for device in free}

    def put(model: Wanted, device: str) -> None:
        if model.needs[device] > left[device]:
            raise ConfigurationError(_refusal(model, device, left, placed))
        left[device] -= model.needs[device]
        placed[device].append(model.name)

    spread = [model for model in models if model.placement == "spread"]
    for model in models:
        if model not in spread:
            for device in model.needs:
                put(model, device)
    for model in sorted(spread, key=lambda model: -max(model.needs.values())):
        # Of devices with equal room the one that has fewer models.
        put(model, max(model.needs, key=lambda device: (left[device] - model.needs[device], -len(placed[device]))))
    order = [model.name for model in models]
    return {device: sorted(names, key=order.index) for device, names in placed.items()}


def _refusal(model: Wanted, device: str, left: Mapping[str, float], placed: Mapping[str, Sequence[str]]) -> str:
    rooms = [
        f"{name} has {max(0.0, left[name]) / _GIB:.1f} GiB free"
        + (f" beside {', '.join(placed[name])}" if placed[name] else "")
        for name in (model.needs if model.placement == "spread" else [device])
    ]
    where = "on one device" if model.placement == "spread" else f"on {device}"
    ways = {
        "replicate": "`placement: spread` puts it on one device only, MILLRACE_DEVICE leaves devices out",
        "spread": "serve fewer models, or `placement: pin` others together",
        "pin": "pin it to another device",
    }
    return (
        f"model {model.name} needs {model.needs[device] / _GIB:.1f} GiB {where}, and {'; '.join(rooms)}: "
        f"{ways[model.placement]}; `memory_gib` in the models file overrules the estimate"
    )
