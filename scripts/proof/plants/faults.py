"""A fault: its kind, the node it is planted in, and the questions that a definition asks about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, order=True)
class Fault:
    """One wrong thing. `kind` is a key of KINDS, `node` the layer or value that it is planted in."""

    kind: str
    node: str

    @property
    def label(self) -> str:
        """A name for files."""
        safe = "".join(each if each.isalnum() or each in "_-" else "-" for each in self.node)
        return f"{self.kind}@{safe}"


KINDS: Mapping[str, str] = {
    "activation_half": "an activation rounded to float16 on its way",
    "activation_slope": "another slope of a leaky activation",
    "argmax_axis": "argmax along another axis",
    "attention_scale": "attention scores scaled by 1/sqrt(d) of another d",
    "batch_norm_momentum": "another momentum of BatchNorm's running statistics",
    "ceil_mode": "pooling rounds its output size down for up, or up for down",
    "clipped_range": "a bound of a clip is moved or missing",
    "concat_order": "parts concatenated in another order",
    "count_include_pad": "average pooling counts its padding, or does not where it should",
    "detached_gradient": "no gradient flows back through a node",
    "dilations_swapped": "dilation of height and width swapped",
    "dropout_active": "dropout drops in inference",
    "embedding_shift": "a table of embeddings shifted by a row",
    "epsilon": "a wrong epsilon of a normalisation",
    "float16_weight": "one weight tensor rounded to float16",
    "gelu_tanh": "GELU by tanh for GELU by erf",
    "group_order": "the groups of a convolution in another order",
    "gru_reset_after": "the reset gate before the recurrent product for after it",
    "integer_division": "integer division rounds towards zero for down, or down for towards zero",
    "lost_nan": "NaN becomes a number",
    "lstm_gates": "two gates of a recurrent layer swapped",
    "missing_bias": "a bias left out",
    "padding_shift": "padding off by one: one less before, one more after",
    "perturbed_weight": "one element of a weight off by 1e-4 relative",
    "reshape_order": "a reshape reads its axes in another order",
    "resize_mode": "a wrong coordinate mode of a resize",
    "rounding": "halves rounded away from zero for to even",
    "softmax_axis": "softmax along another axis",
    "stale_statistics": "running statistics from before training",
    "swapped_channels": "two channels swapped",
    "swapped_outputs": "two outputs swapped",
    "transposed_dense": "a square dense kernel transposed",
    "transposed_kernel": "a square convolution kernel transposed",
    "variance_unbiased": "variance by n - 1 for n",
}
"""Every kind of fault, in words."""


@dataclass
class Faults:
    """What a definition asks while it builds a model: is this the place, is this the kind?

    With no fault planted it answers no to everything, and `asked` ends up as the list of all faults that
    could be planted there.
    """

    planted: Fault | None = None
    asked: dict[Fault, None] = field(default_factory=dict)

    def at(self, kind: str, node: str) -> bool:
        """Whether the planted fault is of this kind and in this node."""
        if kind not in KINDS:
            raise KeyError(kind)
        fault = Fault(kind, node)
        self.asked[fault] = None
        return fault == self.planted


def chosen(available: Sequence[Fault], count: int) -> list[Fault]:
    """At most `count` faults of each kind, spread over the nodes that they apply to."""
    kinds: dict[str, list[Fault]] = {}
    for each in available:
        kinds.setdefault(each.kind, []).append(each)
    result = []
    for of_kind in kinds.values():
        taken = min(count, len(of_kind))
        offset = sum(map(ord, of_kind[0].kind)) % len(of_kind)
        positions = {(offset + index * len(of_kind) // taken) % len(of_kind) for index in range(taken)}
        result += [of_kind[position] for position in sorted(positions)]
    return result
