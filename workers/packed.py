"""Packed execution: a batch is the concatenation of its sequences, and linear layers never see a padding token.

One attention function, registered with transformers' attention interface, serves every encoder family that calls that
interface. It reads the cumulative lengths that travel as keyword arguments: on CPU it runs one SDPA call per run of equal
lengths (measured faster than a block-diagonal mask), on CUDA torch's own variable-length kernel. No mask function is
registered under the name, so transformers builds no mask and reads nothing back from the device; a mask that arrives
anyway, or a batch without lengths, is refused rather than computed wrongly.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional
from transformers import AttentionInterface

from workers.sequences import Sequences

#: Without "flash" in it: transformers imports a flash package for names that have it.
ATTENTION = "millrace_packed"

#: Model types whose packed forward is compared with the reference in `tests/parity`.
ENCODERS = frozenset(
    {
        "albert",
        "bert",
        "camembert",
        "data2vec-text",
        "distilbert",
        "electra",
        "embedding_gemma2_text",
        "ernie",
        "eurobert",
        "jina_embeddings_v3",
        "modernbert",
        "nomic_bert",
        "roberta",
        "xlm-roberta",
        "xlm-roberta-xl",
    }
)
#: The same, of classes that were made to generate text: their key-value cache has to be turned off.
DECODERS = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
#: The same, of encoders with a relative position bias on their attention scores; on the CPU only (`workers.relative_bias`).
BIASED = frozenset({"mpnet", "mt5", "t5", "umt5"})
#: Widest attention head that CUDA's variable-length kernel takes; wider ones run by runs of equal lengths there too.
WIDEST_HEAD = 256
#: Longest input in tokens of a model that has no limit and whose files state none ...
LONGEST_UNSTATED = 32_768
#: ... of one whose bias grows with the square of the length (T5 was trained on 512 tokens; T5-base's bias takes 200 MB) ...
_LONGEST_UNSTATED_BIASED = 2048
#: ... which transformers writes as 10 to the power of 30.
_UNSTATED = 10**9
#: Rotary scalings that depend on the longest position in the batch: neighbours would change a text's vector.
_BATCH_DEPENDENT_ROPE = frozenset({"dynamic", "longrope"})


def packs(config: Any) -> bool:
    """Whether a model with this configuration can run packed, with numbers equal to its own on each sequence alone."""
    if config.model_type not in ENCODERS | DECODERS:
        return False
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return False  # no kernel here caps scores
    if not getattr(config, "is_causal", True) and has_windows(config):
        # transformers' own implementations disagree on the last token seen: distance up to the window for SDPA, which is
        # the reference on a CPU, and below it for flash attention and for `packed_attention`.
        return False
    return unscaled_length(config) is None


def has_windows(config: Any) -> bool:
    """Whether some layer sees a window of its input only."""
    if getattr(config, "local_attention", None) is not None:
        return True
    if getattr(config, "sliding_window", None) is None:
        return False
    layers = getattr(config, "layer_types", None)
    return layers is None or "sliding_attention" in layers


def unscaled_length(config: Any) -> int | None:
    """Longest batch, in tokens, for which rotary frequencies stay what they are; None where they never change.

    Beyond it they depend on the longest sequence of the batch, and those of `dynamic` on what ran before as well.
    """
    parameters: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    if not _rope_types(parameters) & _BATCH_DEPENDENT_ROPE:
        return None
    originals = (
        entry.get("original_max_position_embeddings")
        for entry in (parameters, *parameters.values())
        if isinstance(entry, dict)
    )
    return min([int(config.max_position_embeddings), *(int(length) for length in originals if length)])


def is_causal(config: Any) -> bool:
    """Whether each token's state depends on those before it only."""
    if config.model_type not in DECODERS or getattr(config, "use_bidirectional_attention", False):
        return False
    return bool(getattr(config, "is_causal", True))


def _rope_types(parameters: Any) -> set[str]:
    """The kinds of rotary scaling that a configuration names, also where each kind of layer has its own."""
    if not isinstance(parameters, dict):
        return set()
    nested = set().union(*(_rope_types(value) for value in parameters.values()))
    return nested | ({parameters["rope_type"]} if "rope_type" in parameters else set())


@dataclass(frozen=True, slots=True)
class HostBatch:
    """A packed batch before it is on the device."""

    #: Rows: token ids, position ids, segment ids, and which sequence each token belongs to. Shape (4, total).
    values: npt.NDArray[np.int64]
    #: Cumulative lengths, shape (count + 1,).
    ends: npt.NDArray[np.int32]
    max_length: int
    #: (start, count, length) of each run of equal lengths.
    runs: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, sequences: Sequences, *, padding_idx: int | None) -> "HostBatch":
        """Lay out a batch.

        Args:
            sequences: What to pack.
            padding_idx: For position embeddings that count from `padding_idx + 1` and skip padding tokens (RoBERTa,
                XLM-R); None for positions that start at 0.
        """
        lengths = sequences.lengths.astype(np.int64)
        ends = np.cumsum(lengths)
        starts = ends - lengths
        total = int(ends[-1])
        seq_idx = np.repeat(np.arange(len(lengths)), lengths)
        if padding_idx is None:
            positions = np.arange(total) - starts[seq_idx]
        else:
            # transformers: cumsum(ids != pad) * (ids != pad) + pad, per sequence; a literal <pad> does not advance it.
            real = (sequences.ids != padding_idx).astype(np.int64)
            counted = np.cumsum(real)
            before = np.concatenate(([0], counted))[starts]
            positions = (counted - before[seq_idx]) * real + padding_idx
        types = sequences.type_ids if sequences.type_ids is not None else np.zeros(total, dtype=np.int32)
        return cls(
            values=np.stack([sequences.ids.astype(np.int64), positions, types.astype(np.int64), seq_idx]),
            ends=np.concatenate(([0], ends)).astype(np.int32),
            max_length=int(lengths.max()),
            runs=_runs(lengths),
        )

    def on(self, device: torch.device) -> "PackedBatch":
        """The batch on the device: two copies, which nobody waits for."""
        return PackedBatch(upload(self.values, device), upload(self.ends, device), self.max_length, self.runs)


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """A packed batch on the device."""

    #: Like `HostBatch.values`, int64.
    values: Tensor
    #: Cumulative lengths, shape (count + 1,), int32.
    cu_seq_lens: Tensor
    max_length: int
    #: For the CPU.
    runs: tuple[tuple[int, int, int], ...]

    @property
    def input_ids(self) -> Tensor:
        """Shape (1, total)."""
        return self.values[0:1]

    @property
    def position_ids(self) -> Tensor:
        """Shape (1, total)."""
        return self.values[1:2]

    @property
    def token_type_ids(self) -> Tensor:
        """Shape (1, total)."""
        return self.values[2:3]

    @property
    def seq_idx(self) -> Tensor:
        """Which sequence each token belongs to, shape (total,)."""
        return self.values[3]

    def fill(self, host: HostBatch) -> None:
        """Overwrite it with a batch of the same shape."""
        device = self.values.device
        self.values.copy_(_staged(host.values, device), non_blocking=True)
        self.cu_seq_lens.copy_(_staged(host.ends, device), non_blocking=True)

    def first(self, total: int, count: int) -> "PackedBatch":
        """A view of its first tokens and sequences."""
        return PackedBatch(self.values[:, :total], self.cu_seq_lens[: count + 1], self.max_length, ())

    def attention_arguments(self) -> dict[str, Any]:
        """Keyword arguments that travel through the model to the attention function."""
        return {
            "cu_seq_lens_q": self.cu_seq_lens,
            "cu_seq_lens_k": self.cu_seq_lens,
            "max_length_q": self.max_length,
            "max_length_k": self.max_length,
            "packed_runs": self.runs,
        }


def upload(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device. Nobody waits for the copy, so what is computed meanwhile goes on."""
    return _staged(values, device).to(device, non_blocking=True)


def _staged(values: npt.NDArray[Any], device: torch.device) -> Tensor:
    """On the host, in pinned memory where a device copies from it by itself."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory() if device.type == "cuda" else tensor


def learned_position_padding(model: torch.nn.Module) -> int | None:
    """The `padding_idx` that a model's learned positions count from, or None where they start at 0.

    Told as sentence-transformers does: an int `padding_idx` beside an embedding named `position_embeddings`.
    """
    for module in model.modules():
        padding_idx = getattr(module, "padding_idx", None)
        if isinstance(padding_idx, int) and isinstance(
            getattr(module, "position_embeddings", None), torch.nn.Embedding
        ):
            return padding_idx
    return None


def longest_input(model: Any, stated: int) -> int:
    """The longest input in tokens: what the model's files state, but no more than it has learned positions for.

    What they state, `max_seq_length` in `sentence_bert_config.json` for one, sentence-transformers takes as it is, and fails
    on inputs longer than there are positions. Positions that count from `padding_idx + 1` leave fewer than
    `max_position_embeddings`; files that state no maximum of their own make it take all of them, and fail likewise.

    Nor more than its rotary frequencies are the same for: a longer text would change its neighbours' vectors.
    """
    if stated >= _UNSTATED:
        stated = _LONGEST_UNSTATED_BIASED if model.config.model_type in BIASED else LONGEST_UNSTATED
    if (unscaled := unscaled_length(model.config)) is not None:
        stated = min(stated, unscaled)
    padding_idx = learned_position_padding(model)
    if padding_idx is not None:
        return min(stated, int(model.config.max_position_embeddings) - padding_idx - 1)
    tables = (getattr(module, "position_embeddings", None) for module in model.modules())
    return min([stated, *(table.num_embeddings for table in tables if isinstance(table, torch.nn.Embedding))])


def _runs(lengths: npt.NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    runs: list[tuple[int, int, int]] = []
    start = 0
    for length in lengths.tolist():
        if runs and runs[-1][2] == length:
            first, count, _ = runs[-1]
            runs[-1] = (first, count + 1, length)
        else:
            runs.append((start, 1, length))
        start += length
    return tuple(runs)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed_runs: tuple[tuple[int, int, int], ...] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    packed_expand: Tensor | None = None,
    packed_compact: Tensor | None = None,
    packed_visible: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each sequence of a packed batch.

    Args:
        module: The attention layer; its `is_causal` counts when the argument is None.
        query: Shape (1, heads, total, head size).
        key: Shape (1, key heads, total, head size); each key head serves `heads / key heads` query heads.
        value: Like `key`.
        attention_mask: Must be None.
        scaling: Factor on the scores; 1/sqrt(head size) when None.
        is_causal: Whether a token sees only itself and those before it.
        sliding_window: A token sees others at a distance below this, itself included.
        softcap: Must be None: no kernel here has it.
        packed_runs: Runs of equal lengths.
        cu_seq_lens_q: Cumulative lengths, shape (count + 1,).
        max_length_q: Longest sequence.
        packed_expand: Where prefixes are shared: for each token of the batch its node; the states are then the nodes'.
        packed_compact: For each node one token that it stands for.
        packed_visible: Which tokens others see, shape (total,), bool; all when None.
        position_bias: Added to the scores, shape (1, heads, longest or more, the same), by position in the sequence.

    Returns:
        Shape (1, total or nodes, heads, head size), and no attention weights.
    """
    if packed_expand is not None and packed_compact is not None:
        query, key, value = (states.index_select(2, packed_expand) for states in (query, key, value))
    if attention_mask is not None or packed_runs is None or cu_seq_lens_q is None or max_length_q is None:
        raise ValueError("packed attention needs the sequences' lengths and takes no mask")
    if softcap is not None:
        raise ValueError("packed attention has no soft cap on its scores")
    causal = bool(getattr(module, "is_causal", False) if is_causal is None else is_causal)
    has_mask = packed_visible is not None or position_bias is not None
    has_kernel = query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and query.shape[-1] <= WIDEST_HEAD
    if has_kernel and not has_mask:
        attended = _varlen(query, key, value, cu_seq_lens_q, max_length_q, scaling, causal, sliding_window)
    else:
        attended = _by_runs(
            query, key, value, packed_runs, scaling, causal, sliding_window, packed_visible, position_bias
        )
    return attended if packed_compact is None else attended.index_select(1, packed_compact), None


def _by_runs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    runs: Iterable[tuple[int, int, int]],
    scaling: float | None,
    causal: bool,
    sliding_window: int | None,
    visible: Tensor | None,
    bias: Tensor | None,
) -> Tensor:
    """One call for each run of equal lengths."""
    heads, total = query.shape[1:3]
    out = query.new_empty((total, heads, value.shape[-1]))
    for start, count, length in runs:
        end = start + count * length

        def cut(x: Tensor, start: int = start, end: int = end, count: int = count, length: int = length) -> Tensor:
            return x[0, :, start:end].reshape(x.shape[1], count, length, x.shape[-1]).transpose(0, 1)

        mask = None
        if visible is not None or (sliding_window is not None and length > sliding_window):
            mask = _seen(length, sliding_window, causal, query.device)
            if visible is not None:
                mask = mask & visible[start:end].reshape(count, 1, 1, length)
        if bias is not None:
            own = bias[:, :, :length, :length].to(query.dtype)
            mask = own if mask is None else torch.where(mask, own, float("-inf"))
        attended = functional.scaled_dot_product_attention(
            cut(query),
            cut(key),
            cut(value),
            attn_mask=mask,
            is_causal=causal and mask is None,
            scale=scaling,
            enable_gqa=key.shape[1] != heads,
        )
        out[start:end] = attended.transpose(1, 2).reshape(count * length, heads, value.shape[-1])
    return out[None]


def _seen(length: int, window: int | None, causal: bool, device: torch.device) -> Tensor:
    """Which keys (columns) each query (rows) sees, shape (length, length)."""
    at = torch.arange(length, device=device)
    distance = at[:, None] - at[None, :]
    near = distance.abs() < (window or length)
    return near & (distance >= 0) if causal else near


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_lens: Tensor,
    max_length: int,
    scaling: float | None,
    causal: bool,
    window: int | None,
) -> Tensor:
    """Torch's variable-length kernel. The operator's positional part is stable; `varlen_attn`'s signature is not."""
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    # The window counts the token itself; the kernel counts its neighbours on each side, -1 for all.
    left = -1 if window is None else window - 1
    right = 0 if causal else left
    out: Tensor = torch.ops.aten._flash_attention_forward(
        q,
        k,
        v,
        cu_seq_lens,
        cu_seq_lens,
        max_length,
        max_length,
        0.0,
        causal,
        False,
        scale=scaling,
        window_size_left=left,
        window_size_right=right,
    )[0]
    return out[None]


AttentionInterface.register(ATTENTION, packed_attention)
