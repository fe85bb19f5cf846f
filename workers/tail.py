"""The modules that follow a model's first one in a folder of sentence-transformers."""

from collections.abc import Iterable

from sentence_transformers.sentence_transformer.modules import Normalize
from torch import nn

from shared.model_config import ConfigurationError


def tail_of(
    model: str, modules: Iterable[nn.Module], served: tuple[type[nn.Module], ...], *, whole: bool = False
) -> list[nn.Module]:
    """The modules in float32, without those at the end that only normalise: that is asked for per request.

    Args:
        model: What the model is called.
        modules: All but the first one.
        served: Kinds that may be among them.
        whole: Whether to keep those at the end too.

    Raises:
        ConfigurationError: There is one of another kind.
    """
    tail = list(modules)
    while tail and isinstance(tail[-1], Normalize) and not whole:
        tail.pop()
    if foreign := [type(module).__name__ for module in tail if not isinstance(module, served)]:
        raise ConfigurationError(f"model {model}: module {foreign[0]} of its modules.json is not supported")
    return [module.float() for module in tail]
