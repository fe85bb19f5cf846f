"""Devices: what a machine has, and what MILLRACE_DEVICE and CUDA_VISIBLE_DEVICES make of it."""

import os
from pathlib import Path

import pytest

from millrace.devices import Device, find
from shared.model_config import ConfigurationError
from tests.helpers.nvidia_smi import GPU_IDS, SLICE_IDS, TABLE, TREE, install

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with four cards, one of them in slices."""
    monkeypatch.setenv("PATH", f"{install(tmp_path)}:{os.environ['PATH']}")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the driver's tools."""
    monkeypatch.setenv("PATH", str(tmp_path))


def _names(devices: list[Device]) -> list[str]:
    return [device.name for device in devices]


@pytest.mark.usefixtures("machine")
def test_each_card_and_each_slice_is_a_device() -> None:
    devices = find("auto", {})

    assert _names(devices) == ["gpu-0", "gpu-1-mig-0", "gpu-1-mig-1", "gpu-2", "gpu-3"]
    assert [device.uuid for device in devices] == [GPU_IDS[0], *SLICE_IDS, GPU_IDS[2], GPU_IDS[3]]
    assert [device.capability for device in devices] == [(9, 0), (8, 0), (8, 0), (7, 5), (12, 1)]
    assert devices[0].label == f"gpu-0 (NVIDIA H200, {GPU_IDS[0]})"
    assert devices[2].label == f"gpu-1-mig-1 (NVIDIA A100-SXM4-40GB MIG 1g.5gb+me, {SLICE_IDS[1]})"
    assert {device.setting for device in devices} == {"cuda"}


@pytest.mark.usefixtures("machine")
def test_the_memory_that_counts_is_what_is_free() -> None:
    hopper, large, small, busy, shared = (device.memory_bytes for device in find("auto", {}))

    assert hopper == 143_158 << 20
    assert large is not None
    assert 17 * GIB < large < 20 * GIB
    assert small is not None
    assert 4 * GIB < small < 5 * GIB
    assert busy == 2 * GIB
    # The driver cannot say how much of it is the card's.
    assert shared is None


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("0", ["gpu-0"]),
        (" 2 , 0", ["gpu-0", "gpu-2"]),
        ("1", ["gpu-1-mig-0", "gpu-1-mig-1"]),
        ("gpu-1-mig-1", ["gpu-1-mig-1"]),
        (GPU_IDS[2], ["gpu-2"]),
        (SLICE_IDS[0][:12], ["gpu-1-mig-0"]),
        (GPU_IDS[1], ["gpu-1-mig-0", "gpu-1-mig-1"]),
    ],
)
def test_devices_can_be_chosen_by_index_name_and_uuid(wanted: str, expected: list[str]) -> None:
    assert _names(find(wanted, {})) == expected


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("2,0", ["gpu-2", "gpu-0"]),
        (f"{GPU_IDS[0]},{SLICE_IDS[1]}", ["gpu-0", "gpu-1-mig-1"]),
        ("0,-1,2", ["gpu-0"]),
        ("0,17,2", ["gpu-0"]),
        ("-1", ["cpu"]),
        ("", ["cpu"]),
    ],
)
def test_what_cuda_may_not_see_is_no_device(visible: str, expected: list[str]) -> None:
    assert _names(find("auto", {"CUDA_VISIBLE_DEVICES": visible})) == expected


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("wanted", ["9", "gpu", "0,banana", "GPU-ffffffff", "2"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(wanted: str) -> None:
    with pytest.raises(
        ConfigurationError, match=r"^MILLRACE_DEVICE names device '.*', and here there is gpu-0 \(NVIDIA"
    ):
        find(wanted, {"CUDA_VISIBLE_DEVICES": "0"})


@pytest.mark.usefixtures("bare")
def test_without_a_gpu_there_is_the_cpu_and_torch_may_have_another_look() -> None:
    (device,) = find("auto", {})

    assert (device.name, device.setting, device.label, device.uuid) == ("cpu", "auto", "", "")


@pytest.mark.usefixtures("bare")
def test_gpus_that_nobody_can_describe_are_taken_by_their_names() -> None:
    devices = find("auto", {"CUDA_VISIBLE_DEVICES": f"1,{GPU_IDS[0]},-1"})

    assert [(device.name, device.uuid, device.memory_bytes) for device in devices] == [
        ("gpu-0", "1", None),
        ("gpu-1", GPU_IDS[0], None),
    ]


@pytest.mark.usefixtures("bare")
def test_a_list_of_gpus_where_there_are_none_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"and here there is no GPU$"):
        find("0,1", {})


def test_a_driver_that_fails_is_told_of_and_the_cpu_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given the tools without their driver
    said = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."
    monkeypatch.setenv("PATH", f"{install(tmp_path, said, status=9)}:{os.environ['PATH']}")

    # Then
    assert _names(find("auto", {})) == ["cpu"]
    out, err = capsys.readouterr()
    assert said in out + err


_HEALTHY = TABLE.splitlines()[0]
_FALLEN = "Unable to determine the device handle for GPU0000:3B:00.0: Unknown Error"


@pytest.mark.parametrize("status", [0, 15])
@pytest.mark.parametrize(
    "fallen",
    [
        _FALLEN,
        f"1, {GPU_IDS[1]}, NVIDIA H200, [GPU requires reset], [GPU requires reset], 9.0, 00000000:3B:00.0, [N/A]",
    ],
    ids=["of no handle", "to be reset"],
)
def test_a_gpu_that_has_failed_is_told_of_and_the_others_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], fallen: str, status: int
) -> None:
    install(tmp_path, f"{_HEALTHY}\n{fallen}\n", TREE.splitlines()[0], status=status)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert _names(find("auto", {})) == ["gpu-0"]
    assert fallen in "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [0, 15])
def test_where_all_gpus_have_failed_the_cpu_does_not_take_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path, _FALLEN, status=status)}:{os.environ['PATH']}")

    with pytest.raises(ConfigurationError, match=rf"^none of .* GPUs can be used: {_FALLEN}; MILLRACE_DEVICE=cpu does"):
        find("auto", {})
    # Whoever says so gets it.
    assert _names(find("cpu", {})) == ["cpu"]
    assert _names(find("auto", {"CUDA_VISIBLE_DEVICES": ""})) == ["cpu"]


def test_a_card_for_slices_that_has_none_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given two cards, one of which is to be used in slices and has none
    tree = "".join(line for line in TREE.splitlines(keepends=True)[:2])
    install(tmp_path, "".join(TABLE.splitlines(keepends=True)[:2]), tree)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    # Then
    assert _names(find("auto", {})) == ["gpu-0"]
    said = "".join(capsys.readouterr())
    assert "gpu_unusable" in said
    assert "gpu-1 (NVIDIA A100-SXM4-40GB" in said
    assert "MIG on and no slices" in said

    # When it is the only one
    install(tmp_path, TABLE.splitlines()[1], tree.splitlines()[1])

    # Then
    with pytest.raises(
        ConfigurationError, match=r"^none of .* can be used: gpu-1 has MIG on and no slices.* MILLRACE_DEVICE=cpu"
    ):
        find("auto", {})


@pytest.mark.usefixtures("machine")
def test_a_name_in_cuda_visible_devices_that_means_no_device_is_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    assert _names(find("auto", {"CUDA_VISIBLE_DEVICES": "17,0"})) == ["cpu"]

    assert "17 is not here" in "".join(capsys.readouterr())


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("wanted", ["cpu", "cuda", "cuda:1"])
def test_a_single_worker_can_be_asked_for_in_torchs_words(wanted: str) -> None:
    (device,) = find(wanted, {})

    assert (device.setting, device.uuid, device.label, device.memory_bytes) == (wanted, "", "", None)


def test_devices_can_be_simulated() -> None:
    devices = find("simulated:8x24GiB", {})

    assert _names(devices) == [f"sim-{index}" for index in range(8)]
    assert {device.memory_bytes for device in devices} == {24 * GIB}
    assert {device.setting for device in devices} == {"cpu"}
    assert devices[3].label == "sim-3 (simulated, 24 GiB)"


@pytest.mark.parametrize("wanted", ["", " , ", "simulated:0x24GiB", "simulated:8", "simulated:8x24GB", "CPU"])
@pytest.mark.usefixtures("bare")
def test_what_makes_no_sense_is_refused_in_one_sentence_that_names_the_setting(wanted: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^MILLRACE_DEVICE") as raised:
        find(wanted, {})

    assert "\n" not in str(raised.value)
