"""A worker process on each GPU of this machine, pinned to it; on the CPU the same with two simulated devices."""

from collections.abc import Iterator

import psutil
import pytest
import torch

from millrace.devices import Device, find
from tests.helpers.service import Service
from tests.helpers.waiting import wait_until

pytestmark = pytest.mark.gpu

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def wanted(device: str) -> str:
    """MILLRACE_DEVICE."""
    return "simulated:2x8GiB" if device == "cpu" else "auto"


@pytest.fixture(scope="module")
def found(wanted: str) -> list[Device]:
    """The devices of this machine."""
    return find(wanted)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, wanted: str) -> Iterator[Service]:
    """The service on all of them."""
    service = Service(
        tmp_path_factory.mktemp("machine"), {"MILLRACE_DEVICE": wanted, "MILLRACE_WORKER_METRICS_PORT": "0"}
    )
    service.start()
    yield service
    service.stop()


def test_the_driver_tells_the_devices_that_torch_sees(found: list[Device], device: str) -> None:
    if device == "cpu":
        assert [one.name for one in found] == ["sim-0", "sim-1"]
        return
    seen = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    # Of slices CUDA shows one at a time.
    if whole := {one.uuid for one in found if one.uuid.startswith("GPU-")}:
        assert {f"GPU-{one.uuid}" for one in seen} == whole
    assert {(one.major, one.minor) for one in seen} <= {one.capability for one in found}
    for one in found:
        assert one.memory_bytes is None or one.memory_bytes > 0
        assert one.cpus


def test_each_device_has_a_worker_that_sees_it_alone_and_all_of_them_answer(
    machine: Service, found: list[Device]
) -> None:
    labels = sorted(device.label for device in found)
    with machine.client() as client:
        wait_until(
            lambda: sorted(client.get("/stats").json()["placement"][MODEL]) == labels,
            timeout_s=300,
            what="a worker on each device",
        )
        answer = client.post("/embed", json={"inputs": [f"text {n}" for n in range(2048)]})

    assert answer.status_code == 200
    engines = [process for process in machine.processes() if "workers.engine" in process.cmdline()]
    by_uuid = {device.uuid: device for device in found}
    assert len(engines) == len(found)
    for engine in engines:
        device = by_uuid[engine.environ().get("CUDA_VISIBLE_DEVICES", "")]
        assert set(psutil.Process(engine.pid).cpu_affinity()) == device.cpus
