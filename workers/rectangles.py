"""Models that know padded batches only, run in rectangles that change no sequence's numbers.

The code of some models lets padding leak into the tokens beside it: convolutions (ConvBERT), a Fourier transform or hashing
over the row (FNet, YOSO), an attention mask that reaches not every layer (MobileBERT). A classifier's head may read the last
column (XLNet), so that padding has to go in front; another takes no two sequences at all (GPT-2 where `config.json` names no
padding token). No list of model types tells which; so each model is asked once, when it is loaded: what a short sequence
gives alone it has to give beside a longer one.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from shared.logging import get_logger
from shared.model_card import Batching
from workers.packed import upload
from workers.padded import pad, places, similar_lengths
from workers.sequences import Int32Array, Sequences

log = get_logger("millrace.engine")

#: Lengths of the short sequence and of the longer one, in tokens.
_SHORT, _LONG = 7, 40
#: Ids that every vocabulary has.
_ANY_TOKENS = (5, 100)
#: Largest difference, as a share of the numbers' norm, that is rounding: what is promised. In float32 it was 3e-6 at most
#: with some fifty model types, as it is among equal lengths, and the least of the leaks 3e-2.
_ROUNDING = 1e-5
#: In half precision so many times the distance between 1 and the next number.
_HALF_PRECISIONS = 3.0


class Rectangles:
    """One model, and which of its sequences may share a forward pass."""

    def __init__(
        self,
        run: Callable[[dict[str, Tensor]], Tensor],
        device: torch.device,
        *,
        pad_id: int,
        types: bool,
        by_token: bool,
        longest: int,
        end: int | None = None,
    ) -> None:
        """Ask the model what it does with padding: two or more short forward passes.

        Args:
            run: The model; takes what `pad` makes, gives rows of numbers: of the sequences or of their tokens, padding left
                out.
            device: Where it runs.
            pad_id: The tokenizer's padding token.
            types: Whether the model takes segment ids.
            by_token: Whether the rows are tokens.
            longest: Its longest input, in tokens.
            end: A token of which all sequences of a rectangle need equally many, at least one (encoder-decoder classifiers
                read the last one's state); None where the model does not count any.
        """
        self._run = run
        self._device = device
        self._pad_id = pad_id
        self._types = types
        self._by_token = by_token
        self._end = end
        self._left = False
        self.batching: Batching = "any"
        with torch.inference_mode():
            self._find_out(min(_SHORT, longest), min(_LONG, longest))
        if self.batching != "any":
            log.warning("padding_changes_numbers", batching=self.batching)

    def __call__(self, sequences: Sequences) -> Tensor:
        """Rows of numbers of a batch, in its order."""
        apart = None if self._end is None else self._ends(sequences)
        order, groups = similar_lengths(sequences.lengths, self._device, batching=self.batching, apart=apart)
        parts = [self._rows(sequences.only(order[group])) for group in groups]
        if len(parts) == 1 and bool((order[:-1] < order[1:]).all()):
            return parts[0]
        back = places(sequences.lengths, order) if self._by_token else np.argsort(order)
        return torch.cat(parts)[upload(back, self._device)]

    def _rows(self, sequences: Sequences) -> Tensor:
        """Rows of numbers of sequences that share one forward pass."""
        return self._run(pad(sequences, self._pad_id, self._device, types=self._types, left=self._left))

    def _ends(self, sequences: Sequences) -> npt.NDArray[np.int64]:
        """How many ends each sequence has, shape (count,)."""
        seen = np.concatenate(([0], np.cumsum(sequences.ids == self._end)))
        last = np.cumsum(sequences.lengths)
        counts: npt.NDArray[np.int64] = seen[last] - seen[last - sequences.lengths]
        return counts

    def _find_out(self, short: int, long: int) -> None:
        one, other = self._sequence(short, seed=0), self._sequence(long, seed=1)
        alone = self._rows(_together(one))
        for self._left in (False, True):
            if self._agrees(alone, _together(one, other)):
                return
        self._left = False
        equal = self._agrees(alone, _together(one, self._sequence(short, seed=2)))
        self.batching = "equal_lengths" if equal else "none"

    def _sequence(self, length: int, *, seed: int) -> Int32Array:
        ids = np.random.default_rng(seed).integers(*_ANY_TOKENS, length, dtype=np.int32)
        if self._end is not None:
            ids[ids == self._end] += 1
            ids[-1] = self._end
        return ids

    def _agrees(self, alone: Tensor, sequences: Sequences) -> bool:
        """Whether the first of the sequences has the numbers that it has alone."""
        try:
            beside = self._rows(sequences)[: len(alone)]
        except ValueError:  # what transformers' classes raise for what they do not take
            return False
        tolerance = max(_ROUNDING, _HALF_PRECISIONS * torch.finfo(alone.dtype).eps)
        difference = (beside.double() - alone.double()).norm()
        return bool(difference <= tolerance * alone.double().norm().clamp(min=1))


def _together(*ids: Int32Array) -> Sequences:
    return Sequences(np.concatenate(ids), np.array([len(of_one) for of_one in ids], np.int32))
