"""sentence-transformers' own files in a folder, for families that load its weights by other classes than the library's.

What the library itself loads has the same settings as attributes; here they are read as it reads them.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from shared.model_config import ConfigurationError
from workers.prompts import PROMPT_NAMES
from workers.tail import tail_of


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """The settings of a folder; all at their defaults where it has none of these files."""

    folder: Path
    #: `modules.json`: class name and place of each module, in order.
    modules: list[tuple[str, str]]
    #: `config_sentence_transformers.json`.
    settings: dict[str, Any]
    #: `sentence_bert_config.json`, of the module that reads the inputs.
    transformer: dict[str, Any]

    @classmethod
    def of(cls, folder: Path) -> "SentenceFiles":
        """Read a folder."""
        listed: list[dict[str, str]] = read_json(folder / "modules.json", [])
        modules = [(entry["type"].rpartition(".")[2], entry["path"]) for entry in listed]
        first = folder / (modules[0][1] if modules else "")
        return cls(
            folder,
            modules,
            read_json(folder / "config_sentence_transformers.json", {}),
            read_json(first / "sentence_bert_config.json", {}),
        )

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by name, with those that the library gives every model of its own, empty."""
        return {**dict.fromkeys(PROMPT_NAMES, ""), **(self.settings.get("prompts") or {})} if self.settings else {}

    @property
    def default_prompt_name(self) -> str | None:
        """The prompt of a text for which none was asked."""
        name: str | None = self.settings.get("default_prompt_name")
        return name

    @property
    def truncate_dim(self) -> int | None:
        """How many of a vector's components are kept; None for all."""
        kept: int | None = self.settings.get("truncate_dim")
        return kept

    @property
    def max_seq_length(self) -> int | None:
        """Longest input in tokens, where the folder states one."""
        longest: int | None = self.transformer.get("max_seq_length")
        return longest

    @property
    def processing(self) -> dict[str, dict[str, Any]]:
        """How tokenizer, image processor and chat template are called, by the kind of input."""
        called: dict[str, dict[str, Any]] = self.transformer.get("processing_kwargs") or {}
        return called

    def refuse_other_layers(self, model: str) -> None:
        """For all families: they read the last layer's states.

        Raises:
            ConfigurationError: The folder reads another layer's.
        """
        for kind, options in (self.transformer.get("modality_config") or {}).items():
            if "hidden_states" in (options.get("method_output_name") or ""):
                raise ConfigurationError(
                    f"model {model}: the method_output_name of {kind} in its sentence_bert_config.json is of another layer "
                    "than the last, which is the one that is read here"
                )

    def refuse_image_options(self, model: str) -> None:
        """For families that prepare images by the image processor's own settings.

        Raises:
            ConfigurationError: The folder has others.
        """
        if self.processing.get("image"):
            raise ConfigurationError(
                f"model {model}: the processing_kwargs of images in its sentence_bert_config.json are not done here"
            )

    @property
    def similarity(self) -> str:
        """By what vectors are compared."""
        return str(self.settings.get("similarity_fn_name") or "cosine")

    @property
    def last_module(self) -> str:
        """Class name of the last module; empty where none is listed."""
        return self.modules[-1][0] if self.modules else ""

    def tail(self, model: str, served: tuple[type[nn.Module], ...], *, whole: bool = False) -> list[nn.Module]:
        """The modules behind the first one, as `tail_of` leaves them.

        Args:
            model: What the model is called.
            served: Kinds that may be among them, all of sentence-transformers.
            whole: See `tail_of`.

        Raises:
            ConfigurationError: There is one of another kind.
        """
        known: dict[str, Any] = {kind.__name__: kind for kind in served}
        if foreign := [name for name, _ in self.modules[1:] if name not in known]:
            raise ConfigurationError(f"model {model}: module {foreign[0]} of its modules.json is not supported")
        loaded = [
            known[name].load(str(self.folder), subfolder=place, local_files_only=True)
            for name, place in self.modules[1:]
        ]
        return tail_of(model, loaded, served, whole=whole)


def read_json(path: Path, default: Any) -> Any:
    """The contents of a JSON file; `default` where there is none."""
    return json.loads(path.read_text()) if path.exists() else default
