"""Small hub graphs from ONNX's text form, and what tests ask of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnx import numpy_helper, parser

from bridge.hub import metadata, recipe
from bridge.hub.check import check_model
from bridge.hub.metadata import ScopeEntry, SourceInfo, WeightInfo
from bridge.hub.recipe import Array
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes
from bridge.passes.unused import drop_unused

Pass = Callable[[ir.Model], ir.Model]


def floats(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> Array:
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def number(value: float, *shape: int) -> Array:
    return np.full(shape, value, np.float32)


def ints(*values: int) -> Array:
    return np.asarray(values, np.int64)


def hub(
    text: str,
    *,
    trained: Mapping[str, Array] | None = None,
    constants: Mapping[str, Array] | None = None,
    buffers: Collection[str] = (),
    opset: int = 23,
    framework: str = "onnx",
) -> ir.Model:
    """A model as a reader delivers it: `(inputs) => (outputs) { nodes }` with trained tensors and constants.

    The tensors named in `buffers` are buffers, the other trained ones parameters. Recipes are not
    attached. The shape of an output `float y` is left to inference.
    """
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\nagraph {text}')
    for name, array in {**(trained or {}), **(constants or {})}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    model = ir.from_proto(proto)
    for name in trained or {}:
        kind = "buffer" if name in buffers else "parameter"
        info = WeightInfo(path=name, kind=kind, trainable=kind == "parameter")  # type: ignore[arg-type]
        metadata.set_weight_info(model.graph.initializers[name], info)
    metadata.set_source_info(
        model,
        SourceInfo(
            framework,  # type: ignore[arg-type]
            "test",
            inputs=tuple(str(value.name) for value in model.graph.inputs),
            outputs=tuple(str(value.name) for value in model.graph.outputs),
        ),
    )
    for value in model.graph.outputs:
        if value.shape is not None and len(value.shape) == 0:
            value.shape = None
    for node in model.graph:
        metadata.set_scope(node, [ScopeEntry("block", "Block"), ScopeEntry("layer", "Layer")])
        metadata.set_source_value(node.outputs[0], f"source of {node.outputs[0].name}")
    return model


def apply(model: ir.Model, *passes: Pass) -> ir.Model:
    """Run passes on a clone that has recipes and shapes; the result is tidied and checked."""
    model = infer_shapes(attach_recipes(model.clone(deep_copy=True)))
    for each in passes:
        model = each(model)
    model = infer_shapes(drop_unused(model))
    check_model(model, stage="in a test")
    return model


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def node_of(model: ir.Model, op_type: str) -> ir.Node:
    """The only node of an operator."""
    (node,) = [node for node in model.graph if node.op_type == op_type]
    return node


def feeds_for(model: ir.Model, seed: int = 0, batch: int = 3) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        assert value.dtype is not None
        shape = [axis if isinstance(axis, int) else batch for axis in value.shape]
        kind = value.dtype.numpy()
        if kind == np.bool_:
            feeds[str(value.name)] = random.integers(0, 2, shape).astype(np.bool_)
        elif np.issubdtype(kind, np.integer):
            feeds[str(value.name)] = random.integers(0, 3, shape).astype(kind)
        else:
            feeds[str(value.name)] = (3 * random.standard_normal(shape)).astype(kind)
    return feeds


def outputs(model: ir.Model, feeds: Mapping[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    results: list[Array] = session.run(None, dict(feeds))
    return results


def assert_equivalent(before: ir.Model, after: ir.Model, *, batches: Sequence[int] = (3, 1)) -> None:
    """Both compute the same under onnxruntime, on random inputs of several batches, under the same names."""
    for attribute in ("inputs", "outputs"):
        names = [[value.name for value in getattr(each.graph, attribute)] for each in (before, after)]
        assert names[0] == names[1]
    for seed, batch in enumerate(batches):
        feeds = feeds_for(before, seed, batch)
        for expected, actual in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
            assert actual.dtype == expected.dtype
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-5)


def recipes_of(model: ir.Model) -> dict[str, recipe.Recipe]:
    """The recipes of the initializers that have one, by name."""
    return {
        name: recipe.from_json(record)
        for name, value in model.graph.initializers.items()
        if (record := metadata.recipe_record(value)) is not None
    }


def assert_recipes_follow(before: ir.Model, after: ir.Model) -> None:
    """Running the recipes on the source's tensors gives the tensors of the graph, bit for bit."""
    sources = {
        info.path: value.const_value.numpy()
        for value in before.graph.initializers.values()
        if (info := metadata.weight_info(value)) is not None and value.const_value is not None
    }
    for name, each in recipes_of(after).items():
        tensor = after.graph.initializers[name].const_value
        assert tensor is not None
        np.testing.assert_array_equal(recipe.run(each, sources), tensor.numpy())
