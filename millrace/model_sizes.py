"""What a model needs on a device: its weights, counted in its files, and room for batches, estimated."""

import math
from dataclasses import dataclass

from shared.errors import first_line
from shared.model_config import ConfigurationError, ModelConfig
from workers import number_formats
from workers.weights import architecture, local_folder, weights_files

GIB = 1 << 30
#: Room beside the weights. Batches are sized by the memory that is free when the models have been loaded, so this is the
#: least that is worth starting with: CUDA's context and libraries take about half of the first number.
_LEAST_ROOM_BYTES = 1 * GIB
_ROOM_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What its files say."""

    #: Numbers in its weights.
    parameters: int
    #: As `config.json` says it.
    model_type: str


def measured(config: ModelConfig, *, fetch: bool = True) -> ModelSize:
    """Count a model's weights.

    Args:
        config: The model.
        fetch: Whether to fetch from the hub what is not here yet.

    Raises:
        ConfigurationError: Its files cannot be had or read.
    """
    from safetensors import SafetensorError, safe_open  # with the extra `worker` only; a gateway lists models too

    folder = local_folder(config, fetch=fetch)
    try:
        parameters = 0
        for path in weights_files(folder):
            with safe_open(path, "np") as weights:
                parameters += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
        return ModelSize(parameters, str(architecture(folder).get("model_type", "")))
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as err:
        raise ConfigurationError(
            f"model {config.name}: the weights in {folder} cannot be read: {first_line(err)}"
        ) from err


def needed_bytes(size: ModelSize, dtype: str, capability: tuple[int, int] | None) -> int:
    """Memory that a model takes on a device, weights and batches together.

    Args:
        size: What its files say.
        dtype: Its number format, or `auto`.
        capability: The device's.
    """
    number_format = number_formats.chosen(dtype, capability, size.model_type)
    weights = size.parameters * number_formats.BYTES[number_format]
    return weights + max(_LEAST_ROOM_BYTES, int(_ROOM_SHARE * weights))
