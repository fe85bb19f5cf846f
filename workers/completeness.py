"""A folder is loaded whole or not at all: what transformers fills in by chance is another model in each process."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch.nn import ModuleList
from transformers import modeling_utils

#: Files of which a tokenizer has at least one.
_TOKENIZER_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "spm.model",
    "tokenizer.model",
)


class IncompleteModel(Exception):
    """A folder lacks something that its model cannot do without."""


@contextmanager
def complete_weights() -> Iterator[None]:
    """Within it, loading a checkpoint that lacks weights fails, where transformers only writes a table into the log.

    It writes that table by one function, which also knows what is missing; there is no option that makes it an error.
    Weights of other shapes than `config.json` asks for do fail there, by a sentence that only points to the table. Layers
    beyond those that it asks for are in the table, and left out.
    """
    report = modeling_utils.log_state_dict_report

    def refuse(*arguments: Any, model: Any, loading_info: Any, **options: Any) -> None:
        missing = sorted(key for key in loading_info.missing_keys if not _is_spare(key, model))
        if missing:
            others = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise IncompleteModel(f"its weights lack {missing[0]}{others}, which {type(model).__name__} needs")
        if loading_info.mismatched_keys:
            name, stored, asked = min(loading_info.mismatched_keys)
            raise IncompleteModel(
                f"its weights are not those of its config.json: {name} has shape {tuple(stored)}, and with this "
                f"configuration {type(model).__name__} has {tuple(asked)}"
            )
        if surplus := next(filter(None, (_surplus(key, model) for key in sorted(loading_info.unexpected_keys))), None):
            raise IncompleteModel(
                f"its weights are not those of its config.json: they have {surplus[0]}, and with this configuration "
                f"{type(model).__name__} has {surplus[1]} of them; if no more are meant, load the folder with "
                "transformers and save it by save_pretrained, which leaves the others out"
            )
        report(*arguments, model=model, loading_info=loading_info, **options)

    modeling_utils.log_state_dict_report = refuse
    try:
        yield
    finally:
        modeling_utils.log_state_dict_report = report


def _surplus(key: str, model: Any) -> tuple[str, int] | None:
    """The layer that a weight belongs to and how many the model has, where it is one beyond the last.

    Other weights that a model has no use for are in many good checkpoints: heads, poolers, a decoder.
    """
    depths = {name: len(module) for name, module in model.named_modules() if isinstance(module, ModuleList)}
    base = f"{model.base_model_prefix}."
    parts = key.split(".")
    for at, part in enumerate(parts):
        if part.isdecimal():
            path = ".".join(parts[:at])
            depth = next(
                (depths[name] for name in (path, path.removeprefix(base), base + path) if name in depths), None
            )
            if depth is not None and int(part) >= depth:
                return f"{path}.{part}", depth
    return None


def _is_spare(key: str, model: Any) -> bool:
    """Poolers that a masked language model's checkpoint has no use for: only a classifier's head reads them."""
    return "pooler." in key and not type(model).__name__.endswith("ForSequenceClassification")


def require_safetensors(places: Iterable[Path]) -> None:
    """Refuse weights that are only there as pickles, which are programs.

    Args:
        places: Folders in which the weights may lie.

    Raises:
        IncompleteModel: There is a pickle in them, and no safetensors.
    """
    files = [path.name for place in places if place.is_dir() for path in sorted(place.iterdir())]
    if any(name.endswith(".safetensors") for name in files):
        return
    if pickled := next((name for name in files if name.endswith((".bin", ".pt", ".pth", ".ckpt"))), None):
        raise IncompleteModel(
            f"its weights are a pickle ({pickled}), which may run code when it is read, and only safetensors are read here; "
            'docs/models.md, "Pickled weights", has the line that converts them'
        )


def require_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer: transformers makes one up that knows no word.

    Raises:
        IncompleteModel: There is none, here or in the folder of a module.
    """
    places = [folder, *(entry for entry in folder.iterdir() if entry.is_dir())]
    if not any((place / name).exists() for place in places for name in _TOKENIZER_FILES):
        raise IncompleteModel(f"it has no tokenizer ({', '.join(_TOKENIZER_FILES[:3])}, …)")
