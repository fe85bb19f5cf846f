"""Worker processes of one machine: which device each is pinned to, which models it has, and how it is started."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from millrace.cpus import fair_threads
from millrace.devices import Device, find, named
from millrace.model_sizes import GIB, measured, needed_bytes
from millrace.placement import Wanted, plan
from millrace.ports import liveness_url
from millrace.processes import Part
from shared.logging import get_logger
from shared.model_config import ModelConfig
from shared.settings import PREFIX
from workers.settings import WorkerSettings

log = get_logger("millrace.devices")


@dataclass(frozen=True, slots=True)
class PinnedWorker:
    """A worker process that is to be."""

    #: In its log lines.
    name: str
    device: Device
    models: tuple[str, ...]
    #: 0 where it takes what it finds.
    threads: int
    #: 0 where it has none.
    metrics_port: int


def placed(settings: WorkerSettings, *, fetch: bool = True) -> list[tuple[Device, list[str]]]:
    """The devices, each with the models that belong on it.

    Args:
        settings: What to serve, and where.
        fetch: Whether to fetch models from the hub whose size has to be known.

    Raises:
        ConfigurationError: A device or a model is not there, or a model fits nowhere.
    """
    devices, models = find(settings.device), settings.models()
    wanted = [_wanted(model, devices, settings.dtype, fetch=fetch) for model in models]
    models_of = plan(wanted, {device.name: device.memory_bytes for device in devices})
    return [(device, models_of[device.name]) for device in devices]


def pinned_workers(settings: WorkerSettings) -> list[PinnedWorker]:
    """A worker for each device that has models.

    Raises:
        ConfigurationError: As of `placed`.
    """
    used: list[tuple[Device, list[str]]] = []
    for device, models in placed(settings):
        if models:
            used.append((device, models))
        else:
            log.warning("device_unused", device=device.label, reason="no model is placed on it")
    alone = len(used) == 1
    threads = [0] if alone or settings.threads else fair_threads([device.cpus for device, _ in used])
    first_port = settings.worker_metrics_port
    return [
        PinnedWorker(
            name="worker" if alone else device.name,
            device=device,
            models=tuple(models),
            threads=settings.threads or threads[index],
            metrics_port=first_port + index if first_port else 0,
        )
        for index, (device, models) in enumerate(used)
    ]


def worker_parts(
    workers: Sequence[PinnedWorker], settings: WorkerSettings, environment: Mapping[str, str], *, plain_log: bool
) -> list[Part]:
    """The processes, not started yet.

    Args:
        workers: Who they are.
        settings: What they have in common.
        environment: What they are given beside this process's own.
        plain_log: Whether their lines are printed as they are.
    """
    for worker in workers:
        if worker.device.label:
            cpus = len(worker.device.cpus)
            log.info(
                "worker_pinned",
                device=worker.device.label,
                models=list(worker.models),
                cpus=cpus,
                threads=worker.threads or cpus,
            )
    ports = ",".join(str(worker.metrics_port) for worker in workers if worker.metrics_port)
    return [
        Part(
            worker.name,
            [sys.executable, "-m", "workers"],
            {**environment, **_environment(worker, settings), f"{PREFIX}WORKER_METRICS_PORTS": ports},
            plain_log=plain_log,
            liveness_url=liveness_url(settings.worker_metrics_host, worker.metrics_port),
            cpus=worker.device.cpus,
        )
        for worker in workers
    ]


def _wanted(model: ModelConfig, devices: Sequence[Device], dtype: str, *, fetch: bool) -> Wanted:
    allowed = named(model.devices, devices, f"model {model.name}") if model.devices else devices
    needs = dict.fromkeys((device.name for device in allowed), 0)
    if model.memory_gib is not None:
        needs = dict.fromkeys(needs, int(model.memory_gib * GIB))
    elif counted := [device for device in allowed if device.memory_bytes is not None]:
        size = measured(model, fetch=fetch)
        needs |= {device.name: needed_bytes(size, model.dtype or dtype, device.capability) for device in counted}
    return Wanted(model.name, model.placement, needs)


def _environment(worker: PinnedWorker, settings: WorkerSettings) -> dict[str, str]:
    device = worker.device
    # The name is part of worker ids, which people look for in Flower.
    default = WorkerSettings.model_fields["worker_name"].default
    names = [settings.worker_name] if settings.worker_name != default else []
    names += [device.name] if device.label else []
    own = {
        "DEVICE": device.setting,
        "DEVICE_LABEL": device.label,
        "THREADS": str(worker.threads),
        "WORKER_NAME": "-".join(names) or str(default),
        "WORKER_METRICS_PORT": str(worker.metrics_port),
    }
    if len(worker.models) < len(settings.models()):
        own["ONLY_MODELS"] = ",".join(worker.models)
    visible = {"CUDA_VISIBLE_DEVICES": device.uuid} if device.uuid else {}
    return {PREFIX + name: value for name, value in own.items()} | visible
