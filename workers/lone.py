"""A lone sequence on the CPU: the model's forward pass as a TorchScript trace, without Python between its operators.

At idle every request is a batch of one, and of the 5.4 ms that six layers take on two cores, 1 ms is Python between a
hundred small operators. The trace is of the stock model, runs the same kernels, and gives bit-identical results; it is
compared with the eager model at other lengths before it is used, and left out if it differs or cannot be made.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shared.errors import first_line
from shared.logging import get_logger

log = get_logger("millrace.engine")

#: Length of the traced example, and the lengths at which the trace is checked.
_TRACED_LENGTH = 16
_CHECKED_LENGTHS = (1, 7, 40)
_TOLERANCE = 1e-6


class _Positional(torch.nn.Module):
    """The model with positional arguments, as tracing wants them."""

    def __init__(self, model: torch.nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = list(names)

    def forward(self, *values: Tensor) -> Tensor:
        """The last hidden state, shape (1, length, hidden size)."""
        hidden: Tensor = self.model(**dict(zip(self.names, values, strict=True))).last_hidden_state
        return hidden


class LoneSequence:
    """The traced forward pass of one model."""

    def __init__(self, trace: Any, names: Sequence[str]) -> None:
        self._trace = trace
        self._names = list(names)

    def __call__(self, inputs: dict[str, Any]) -> Tensor:
        """The last hidden state for inputs of shape (1, length) each, int64."""
        hidden: Tensor = self._trace(*(inputs[name] for name in self._names))
        return hidden


def trace_lone_sequence(model: Any, names: Sequence[str], *, first_position: int) -> LoneSequence | None:
    """Trace a model for batches of one sequence.

    Args:
        model: A stock transformers encoder in evaluation mode on the CPU, its attention set to `sdpa`.
        names: The inputs that it is given: `input_ids`, `position_ids`, perhaps `token_type_ids`.
        first_position: Where its positions start.

    Returns:
        The trace, or None if it cannot be made or does not give the model's own numbers.
    """
    wrapped = _Positional(model, names).eval()
    try:
        with torch.no_grad(), warnings.catch_warnings():
            # Deprecated in favour of torch.compile, whose start-up (and compiler) this service should not need.
            warnings.simplefilter("ignore")
            trace = torch.jit.trace(wrapped, _example(names, _TRACED_LENGTH, first_position), check_trace=False)
            for length in _CHECKED_LENGTHS:
                example = _example(names, length, first_position)
                difference = (trace(*example) - wrapped(*example)).abs().max().item()
                if difference > _TOLERANCE:
                    log.info("trace_not_used", reason=f"differs by {difference:.1e} at length {length}")
                    return None
    except Exception as err:  # noqa: BLE001 - what a model does under tracing is up to it; the eager path always works
        log.info("trace_not_used", reason=first_line(err))
        return None
    return LoneSequence(trace, names)


def _example(names: Sequence[str], length: int, first_position: int) -> tuple[Tensor, ...]:
    values = {
        "input_ids": torch.arange(10, 10 + length)[None],
        "position_ids": torch.arange(first_position, first_position + length)[None],
        "token_type_ids": torch.zeros((1, length), dtype=torch.int64),
    }
    return tuple(values[name] for name in names)
