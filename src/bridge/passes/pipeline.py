"""The passes in order: what happens to a graph between the reader and the writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.hub.metadata import Layout
from bridge.passes.attention import (
    lower_attention,
    recognise_attention,
    simplify_masks,
    straighten_attention,
)
from bridge.passes.attention_masks import recognise_causal_masks, shrink_masks
from bridge.passes.batch_norm import recognise_batch_norm
from bridge.passes.branches import capture_invariants, simplify_loops
from bridge.passes.broadcasts import drop_broadcasts
from bridge.passes.classical import express_classical
from bridge.passes.constants import lift_constants
from bridge.passes.contrib.names import take_in_runtime_names
from bridge.passes.contrib.run import expand_contrib
from bridge.passes.conv1d import lower_rank_of_windows
from bridge.passes.conv_bias import fuse_conv_bias
from bridge.passes.conv_transpose_crop import fuse_crop
from bridge.passes.counted_loops import count_steps
from bridge.passes.duplicates import drop_duplicates
from bridge.passes.einsum import write_projections_as_products
from bridge.passes.fold_trained import fold_buffers, fold_moves
from bridge.passes.gathers import recognise_gathers
from bridge.passes.gelu import recognise_gelu
from bridge.passes.gemm import order_operands, recognise_gemm
from bridge.passes.global_pool import recognise_global_pool
from bridge.passes.group_norm import recognise_group_norm
from bridge.passes.hard_activations import recognise_clip, recognise_hard_activations
from bridge.passes.held_rows import hold_rows
from bridge.passes.hoist import hoist_moves
from bridge.passes.identity import drop_identities
from bridge.passes.inline import inline_functions
from bridge.passes.layer_norm import recognise_layer_norm
from bridge.passes.layout import assign_layout
from bridge.passes.linear import fuse_linear
from bridge.passes.loop_shapes import find_loop_shapes
from bridge.passes.lowest_opset import take_lowest_opset
from bridge.passes.matmul_rank import restore_matmul_rank
from bridge.passes.moves import simplify_moves
from bridge.passes.multihead import fuse_multihead_layers
from bridge.passes.naming import name_values
from bridge.passes.opset import to_hub_opset
from bridge.passes.order import order_nodes
from bridge.passes.padding import merge_padding, split_padding
from bridge.passes.positions import simplify_positions
from bridge.passes.recipes import attach_recipes
from bridge.passes.recurrent import fuse_recurrent_layers, recognise_cells, recognise_recurrences
from bridge.passes.resize import fix_resized_axes
from bridge.passes.rotary import fuse_rotations
from bridge.passes.scalars import give_range_scalars
from bridge.passes.sequences import split_without_sequences
from bridge.passes.shapes import infer_shapes
from bridge.passes.sizes import write_sizes
from bridge.passes.smooth_activations import fuse_swish, recognise_smooth_activations
from bridge.passes.split_weights import transpose_before_splits
from bridge.passes.static import fold_static
from bridge.passes.stopped import drop_idle_stops, stop_gradients
from bridge.passes.sums import write_sums_as_additions
from bridge.passes.time_major import bring_time_first
from bridge.passes.torch_norms import prepare_group_norms
from bridge.passes.unused import drop_unused
from bridge.passes.whole_slices import drop_whole_slices
from bridge.passes.windows import resolve_auto_pad
from bridge.passes.zero_bias import drop_zero_bias

Target = Literal["torch", "tf"]
IoLayout = Literal["source", "native"]


@dataclass(frozen=True)
class Pass:
    """A named step, model to model; it may change the model it is given and returns the one to go on with."""

    name: str
    run: Callable[[ir.Model], ir.Model]


PASSES: tuple[Pass, ...] = (
    Pass("give trained tensors their recipes", attach_recipes),
    Pass("inline functions", inline_functions),
    Pass("lift constants to initializers", lift_constants),
    Pass("take in onnxruntime's names", take_in_runtime_names),
    Pass("bring to the hub's opset", to_hub_opset),
    Pass("drop what is unused", drop_unused),
    Pass("write onnxruntime's operators in the standard's", expand_contrib),
    Pass("bring time first in recurrences", bring_time_first),
    Pass("give ranges scalars", give_range_scalars),
    Pass("infer shapes and fold what is static", fold_static),
    Pass("split without sequences", split_without_sequences),
    Pass("take the lowest opset", take_lowest_opset),
    Pass("simplify loops", simplify_loops),
    Pass("capture what loops do not change", capture_invariants),
    Pass("count the steps of loops", count_steps),
    Pass("drop slices of whole axes", drop_whole_slices),
    Pass("find the shapes that loops keep", find_loop_shapes),
    Pass("move what reorders trained tensors out of loops", hoist_moves),
    Pass("write sums of two as additions", write_sums_as_additions),
    Pass("drop stops of gradients that there are not", drop_idle_stops),
    Pass("drop identities", drop_identities),
    Pass("simplify what follows from positions", simplify_positions),
    Pass("drop duplicates", drop_duplicates),
    Pass("recognise gathers", recognise_gathers),
    Pass("write projections as matrix products", write_projections_as_products),
    Pass("transpose trained tensors before they are split", transpose_before_splits),
    Pass("fold moves of trained tensors", fold_moves),
    Pass("simplify moves", simplify_moves),
    Pass("restore the rank of matrix products", restore_matmul_rank),
    Pass("recognise batch normalisation", recognise_batch_norm),
    Pass("recognise group normalisation", recognise_group_norm),
    Pass("recognise layer normalisation", recognise_layer_norm),
    Pass("recognise GELU", recognise_gelu),
    Pass("recognise bounds", recognise_clip),
    Pass("recognise hard activations", recognise_hard_activations),
    Pass("recognise smooth activations", recognise_smooth_activations),
    Pass("recognise attention", recognise_attention),
    Pass("recognise causal masks", recognise_causal_masks),
    Pass("straighten attention", straighten_attention),
    Pass("resolve automatic padding", resolve_auto_pad),
    Pass("crop transposed convolutions by padding", fuse_crop),
    Pass("lower the rank of windows", lower_rank_of_windows),
    Pass("simplify moves again", simplify_moves),
    Pass("join biases to convolutions", fuse_conv_bias),
    Pass("join biases to matrix products", recognise_gemm),
    Pass("recognise recurrent cells", recognise_cells),
    Pass("recognise recurrences", recognise_recurrences),
    Pass("recognise global pooling", recognise_global_pool),
    Pass("drop broadcasts", drop_broadcasts),
    Pass("drop biases of zeros", drop_zero_bias),
    Pass("order operands", order_operands),
    Pass("fold what the recognised forms left", fold_buffers),
    Pass("fold what has become static", fold_static),
    Pass("drop identities again", drop_identities),
    Pass("drop what has become unused", drop_unused),
    Pass("infer the final shapes", infer_shapes),
    Pass("leave axes out that are not resized", fix_resized_axes),
    Pass("drop what computed their sizes", drop_unused),
    Pass("order nodes", order_nodes),
    Pass("name values", name_values),
)
"""What `canonicalise` does, in order."""


@dataclass(frozen=True)
class PassTime:
    """How long a pass took."""

    name: str
    seconds: float


def canonicalise(model: ir.Model, *, timings: list[PassTime] | None = None) -> ir.Model:
    """The canonical form of what a reader delivered, independent of the target.

    Works on a clone; weights are shared with the reader's model, not copied. `timings` receives the
    time of each pass. Raises BridgeError on a graph that is not valid.
    """
    model = run_passes(model.clone(deep_copy=True), PASSES, timings)
    check_model(model, stage="after canonicalisation")
    return model


def preparation(target: Target, io_layout: IoLayout) -> tuple[Pass, ...]:
    """What `prepare` does for a target, in order."""
    layout: Layout = "channels_first" if target == "torch" else "channels_last"
    split = Pass("split padding", partial(split_padding, target=target))
    choose = Pass("choose the layout", partial(assign_layout, layout=layout, io_layout=io_layout))
    merge = Pass("merge padding", merge_padding)
    clean = Pass("drop what has become unused", drop_unused)
    return (split, choose, merge, clean) if target == "torch" else (split, choose, clean)


def prepare(
    model: ir.Model,
    *,
    target: Target,
    io_layout: IoLayout = "source",
    exact_training: bool = False,
    timings: list[PassTime] | None = None,
) -> ir.Model:
    """The canonical model as one target's native layers express it: padding, layout, biases, recurrences,
    `ai.onnx.ml`.

    Works on a clone. `io_layout` says whether inputs and outputs keep the source's layout or take the
    target's. `exact_training` keeps the source's tensors and rules of training where the target's own layers
    have others. Values keep the names they have in the canonical model.
    """
    prepared = run_passes(model.clone(deep_copy=True), preparation(target, io_layout), timings)
    if target == "torch":
        check_model(prepared, stage="after preparation")
    framework = metadata.source_info(prepared).framework
    if exact_training and framework != "onnx" and framework != target:
        metadata.set_trains_as(prepared, framework)
    prepared = fuse_multihead_layers(simplify_masks(prepared), target)
    prepared = fuse_recurrent_layers(fuse_linear(prepared), target, exact_training=exact_training)
    prepared = lower_attention(shrink_masks(hold_rows(stop_gradients(prepared), target)), target)
    prepared = prepare_group_norms(prepared) if target == "torch" else prepared
    prepared = drop_unused(fuse_rotations(fuse_swish(write_sizes(prepared))))
    return express_classical(prepared, text=target == "tf")


def run_passes(model: ir.Model, passes: Sequence[Pass], timings: list[PassTime] | None = None) -> ir.Model:
    """Run passes in order and record their times."""
    for each in passes:
        start = time.perf_counter()
        model = each.run(model)
        if timings is not None:
            timings.append(PassTime(each.name, time.perf_counter() - start))
    return model
