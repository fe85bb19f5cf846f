"""Workers of a machine: one per device, each with its models, its CPUs and a port of its own."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from millrace.model_sizes import GIB, ModelSize, measured, needed_bytes
from millrace.models import list_models
from millrace.pinned_workers import PinnedWorker, _environment, pinned_workers
from shared.model_config import DEFAULT_MODEL, ConfigurationError, ModelConfig
from tests.helpers.nvidia_smi import GPU_IDS, SLICE_IDS, install
from workers.settings import WorkerSettings

#: all-MiniLM-L6-v2's.
PARAMETERS = 22_713_728


def _settings(device: str, models: str = "", **more: object) -> WorkerSettings:
    return WorkerSettings.model_validate({"device": device, "model": models, **more})


def _models_file(folder: Path, *lines: str) -> Path:
    path = folder / "models.yaml"
    path.write_text("\n".join(["models:", *(f"  - {{{line}}}" for line in lines)]))
    return path


def _folder(path: Path, model_type: str = "bert", *, parameters: int = 1024, files: int = 1) -> Path:
    """A model's folder, as far as placing it goes."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    part = np.zeros(parameters // files, np.float32)
    if files == 1:
        save_file({"w": part}, path / "model.safetensors")
        return path
    names = {f"w{n}": f"model-{n:05}-of-{files:05}.safetensors" for n in range(files)}
    for name, file in names.items():
        save_file({name: part}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return path


def _models(workers: list[PinnedWorker]) -> dict[str, tuple[str, ...]]:
    return {worker.device.name: worker.models for worker in workers}


def test_without_a_gpu_there_is_one_worker_with_all_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    (worker,) = pinned_workers(_settings("auto"))

    assert (worker.name, worker.threads, worker.metrics_port) == ("worker", 0, 9808)
    assert worker.models == (DEFAULT_MODEL.name,)


def test_there_is_a_worker_per_device_with_a_port_and_threads_of_its_own() -> None:
    workers = pinned_workers(_settings("simulated:8x24GiB"))

    assert [worker.name for worker in workers] == [f"sim-{n}" for n in range(8)]
    assert [worker.metrics_port for worker in workers] == list(range(9808, 9816))
    assert {worker.threads for worker in workers} == {max(1, len(os.sched_getaffinity(0)) // 8)}
    assert {worker.models for worker in workers} == {(DEFAULT_MODEL.name,)}


def test_threads_and_ports_that_were_asked_for_are_taken() -> None:
    workers = pinned_workers(_settings("simulated:2x24GiB", threads=3, worker_metrics_port=0))

    assert {(worker.threads, worker.metrics_port) for worker in workers} == {(3, 0)}


def test_a_gpus_worker_sees_that_gpu_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path)}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    settings = _settings("0,1", worker_name="rack7")

    environments = [_environment(worker, settings) for worker in pinned_workers(settings)]

    assert [one["CUDA_VISIBLE_DEVICES"] for one in environments] == [GPU_IDS[0], *SLICE_IDS]
    assert {one["MILLRACE_DEVICE"] for one in environments} == {"cuda"}
    names = [one["MILLRACE_WORKER_NAME"] for one in environments]
    assert names == ["rack7-gpu-0", "rack7-gpu-1-mig-0", "rack7-gpu-1-mig-1"]
    assert environments[0]["MILLRACE_DEVICE_LABEL"] == f"gpu-0 (NVIDIA H200, {GPU_IDS[0]})"


def test_models_are_replicated_spread_and_pinned_as_the_file_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given
    folders = {name: _folder(tmp_path / name) for name in ("everywhere", "one", "other", "pinned")}
    file = _models_file(
        tmp_path,
        f"name: everywhere, source: {folders['everywhere']}",
        f"name: one, source: {folders['one']}, placement: spread, memory_gib: 8",
        f"name: other, source: {folders['other']}, placement: spread, memory_gib: 6",
        f"name: pinned, source: {folders['pinned']}, placement: pin, devices: [2, sim-0]",
    )
    settings = _settings("simulated:3x12GiB", models_file=file)

    # When
    workers = pinned_workers(settings)

    # Then
    assert _models(workers) == {
        "sim-0": ("everywhere", "other", "pinned"),
        "sim-1": ("everywhere", "one"),
        "sim-2": ("everywhere", "pinned"),
    }
    assert list_models(settings) == 0
    listed = capsys.readouterr().out
    assert "on sim-0 (simulated, 12 GiB), sim-2 (simulated, 12 GiB)" in listed


def test_a_device_without_a_model_has_no_worker_and_is_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = _models_file(tmp_path, f"name: m, source: {_folder(tmp_path / 'm')}, placement: pin, devices: [1]")

    (worker,) = pinned_workers(_settings("simulated:2x12GiB", models_file=file))

    assert (worker.name, worker.device.name) == ("worker", "sim-1")
    out, err = capsys.readouterr()
    assert "device_unused" in out + err


def test_a_model_pinned_to_a_device_that_is_not_here_is_refused(tmp_path: Path) -> None:
    file = _models_file(tmp_path, "name: m, source: org/m, placement: pin, devices: [7]")

    with pytest.raises(ConfigurationError, match=r"^model m names device '7', and here there is sim-0 \(simulated"):
        pinned_workers(_settings("simulated:2x12GiB", models_file=file))


def test_a_model_that_does_not_fit_is_listed_and_the_reason_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_models(_settings("simulated:2x0.5GiB")) == 1

    listed, reason = capsys.readouterr()
    assert DEFAULT_MODEL.name in listed
    assert reason.startswith(f"millrace: model {DEFAULT_MODEL.name} needs 1.0 GiB on sim-0, and sim-0 has 0.5 GiB free")


def test_the_size_of_a_model_is_counted_in_its_files() -> None:
    assert measured(DEFAULT_MODEL).parameters == PARAMETERS


def test_a_model_in_several_files_is_counted_whole_and_once(tmp_path: Path) -> None:
    # Given one of four files, beside which there lies another that is none of its parts
    folder = _folder(tmp_path / "m", parameters=4096, files=4)
    save_file({"other": np.zeros(7, np.float32)}, folder / "consolidated.safetensors")

    assert measured(ModelConfig(name="m", source=str(folder))).parameters == 4096


def test_the_modules_beside_a_transformer_count_too(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m", parameters=1000)
    _folder(folder / "2_Dense", parameters=24)
    modules = [{"path": path, "type": "sentence_transformers.models.X"} for path in ("", "1_Pooling", "2_Dense")]
    (folder / "modules.json").write_text(json.dumps(modules))

    assert measured(ModelConfig(name="m", source=str(folder))).parameters == 1024


def test_weights_that_cannot_be_read_are_one_sentence(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "m")
    (folder / "model.safetensors").write_bytes(b"no safetensors at all")

    with pytest.raises(ConfigurationError, match=r"^model m: the weights in .* cannot be read: "):
        measured(ModelConfig(name="m", source=str(folder)))


@pytest.mark.parametrize(
    ("capability", "model_type", "dtype", "gibibytes"),
    [
        ((9, 0), "bert", "auto", 2 * 1.25),
        ((7, 5), "bert", "auto", 2 * 1.25),
        # no bfloat16 on a T4, and Qwen does not fit into float16
        ((7, 5), "qwen3", "auto", 4 * 1.25),
        ((6, 1), "bert", "auto", 4 * 1.25),
        (None, "bert", "auto", 4 * 1.25),
        ((9, 0), "bert", "float32", 4 * 1.25),
    ],
)
def test_what_a_model_needs_depends_on_the_number_format_of_its_device(
    capability: tuple[int, int] | None, model_type: str, dtype: str, gibibytes: float
) -> None:
    # Given four billion numbers or so
    size = ModelSize(4 * GIB, model_type)

    assert needed_bytes(size, dtype, capability) == int(gibibytes * 4 * GIB)


def test_what_the_file_says_a_model_needs_is_believed_and_nothing_is_measured(tmp_path: Path) -> None:
    file = _models_file(tmp_path, "name: m, source: nobody/has-this-model, memory_gib: 5")

    with pytest.raises(ConfigurationError, match=r"^model m needs 5\.0 GiB on sim-0"):
        pinned_workers(_settings("simulated:2x4GiB", models_file=file))
