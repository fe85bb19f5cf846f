"""Number formats of weights, by name: which one a card is given. No torch: who places models asks too."""

from collections.abc import Mapping

#: Bytes of a number.
BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Beginnings of the model types that do not fit into float16.
_OVERFLOWS_FLOAT16 = ("gemma", "qwen", "t5", "mt5", "umt5", "embedding_gemma")
#: Model types whose code knows float32 only.
_ONLY_FLOAT32 = frozenset({"fnet", "xlnet"})


def chosen(wanted: str, capability: tuple[int, int] | None, model_type: str = "") -> str:
    """The format that a setting means; `auto` is float32 on a CPU and `half_precision` on a GPU.

    Args:
        wanted: MILLRACE_DTYPE, or a model's own `dtype`.
        capability: The GPU's compute capability; None for a CPU.
        model_type: As `config.json` says it.
    """
    if wanted != "auto":
        return wanted
    return "float32" if capability is None else half_precision(capability, model_type)


def half_precision(capability: tuple[int, int], model_type: str) -> str:
    """bfloat16 where the card has it (compute capability 8.0), else float16 if the model can bear it, else float32.

    Activations of Gemma, Qwen and T5 leave float16's range and come out as NaN. Pascal (6.x) runs float16 at a sixty-fourth
    of its float32 speed, so below 7.0 everything stays float32.
    """
    if model_type in _ONLY_FLOAT32:
        return "float32"
    if capability >= (8, 0):
        return "bfloat16"
    overflows = model_type.startswith(_OVERFLOWS_FLOAT16)
    return "float16" if capability >= (7, 0) and not overflows else "float32"
