"""Nodes of old opsets mean the same after they are carried to the hub's, by onnxruntime or by numpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from bridge.errors import InputError, UnsupportedOps
from bridge.hub.check import check_model
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET
from bridge.hub.recipe import Array
from bridge.passes.opset import to_hub_opset
from bridge.passes.shapes import infer_shapes
from bridge.passes.upgrades.registry import EXPERIMENTAL, UPGRADES
from bridge.passes.upgrades.run import FAMILIES
from bridge.passes.upgrades.table import COMPATIBLE


def old(text: str, opset: int, constants: Mapping[str, Array] | None = None) -> ir.Model:
    proto = parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\ng {text}')
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return ir.from_proto(proto)


def carried(model: ir.Model) -> ir.Model:
    result = infer_shapes(to_hub_opset(model.clone(deep_copy=True)))
    assert result.graph.opset_imports[""] == HUB_OPSET
    check_model(result, stage="in a test")
    return result


def run(model: ir.Model, *inputs: Array) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    names = [each.name for each in session.get_inputs()]
    results: list[Array] = session.run(None, dict(zip(names, inputs, strict=True)))
    return results


def check(
    text: str,
    opset: int,
    *inputs: Array,
    constants: Mapping[str, Array] | None = None,
    expected: Sequence[Array] | None = None,
) -> ir.Model:
    """The carried model computes what is expected: by default, what onnxruntime computes of the old one."""
    model = old(text, opset, constants)
    result = carried(model)
    wanted = run(model, *inputs) if expected is None else expected
    for actual, right in zip(run(result, *inputs), wanted, strict=True):
        assert actual.dtype == right.dtype
        assert actual.shape == right.shape
        np.testing.assert_allclose(actual, right, rtol=2e-6, atol=2e-6)
    return result


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


SCHEMAS = [each for each in onnx.defs.get_all_schemas_with_history() if each.domain == ""]
VERSIONS = {
    (each.name, each.since_version)
    for each in SCHEMAS
    if each.since_version <= HUB_OPSET
    and any(other.name == each.name and other.since_version < each.since_version for other in SCHEMAS)
}


def test_every_version_is_compatible_or_has_an_upgrade() -> None:
    assert FAMILIES
    compatible = {(op_type, version) for op_type, versions in COMPATIBLE.items() for version in versions}
    own_steps = {("MeanVarianceNormalization", 9), ("Upsample", 11)}
    assert compatible | (set(UPGRADES) - own_steps) == VERSIONS
    assert not compatible & set(UPGRADES)


@pytest.mark.parametrize("op_type", sorted(COMPATIBLE))
def test_compatible_versions_take_all_that_the_one_before_takes(op_type: str) -> None:
    for version in COMPATIBLE[op_type]:
        before, now = onnx.defs.get_schema(op_type, version - 1), onnx.defs.get_schema(op_type, version)
        for name, attribute in before.attributes.items():
            assert name in now.attributes
            assert attribute.type == now.attributes[name].type
            assert attribute.default_value == now.attributes[name].default_value
        for name, attribute in now.attributes.items():
            assert name in before.attributes or not attribute.required
        assert before.min_input >= now.min_input
        assert before.max_input <= now.max_input
        assert before.max_output <= now.max_output
        types = [
            {text for each in schema.type_constraints for text in each.allowed_type_strs}
            for schema in (before, now)
        ]
        assert types[0] <= types[1]


def legacy(op_type: str, first: Array, second: Array, axis: int | None) -> Array:
    """Caffe2's broadcasting: the second operand's axes start at `axis` of the first's."""
    if axis is not None and second.ndim and second.size > 1:
        start = axis % first.ndim
        second = second.reshape(second.shape + (1,) * (first.ndim - start - second.ndim))
    operation = {
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": np.divide,
        "Pow": np.power,
        "Greater": np.greater,
        "Less": np.less,
        "And": np.logical_and,
        "Or": np.logical_or,
        "Xor": np.logical_xor,
        "Equal": np.equal,
    }[op_type]
    result: Array = operation(first, second)
    return result


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Pow", "Greater", "Less"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 4), 1),
        ((2,), 0),
        ((5,), None),
        ((4, 5), None),
        ((3,), -3),
        ((1,), 0),
        ((3, 4, 5), 1),
        ((1, 1), 1),
    ],
)
def test_broadcast_along_an_axis(op_type: str, shape: tuple[int, ...], axis: int | None) -> None:
    opset = 6 if op_type in ("Add", "Sub", "Mul", "Div") else 1
    first, second = np.abs(floats(2, 3, 4, 5)) + 1, np.abs(floats(*shape, seed=1)) + 1
    place = "" if axis is None else f", axis={axis}"
    kind = "bool" if op_type in ("Greater", "Less") else "float"
    text = (
        f"(float[2,3,4,5] a, float{list(shape)} b) => ({kind}[2,3,4,5] y)"
        f" {{ y = {op_type} <broadcast=1{place}> (a, b) }}"
    )
    check(text, opset, first, second, expected=[legacy(op_type, first, second, axis)])


@pytest.mark.parametrize("op_type", ["And", "Or", "Xor", "Equal"])
def test_logic_broadcasts_along_an_axis(op_type: str) -> None:
    first, second = floats(2, 3, 4) > 0, floats(3, seed=1) > 0
    text = f"(bool[2,3,4] a, bool[3] b) => (bool[2,3,4] y) {{ y = {op_type} <broadcast=1, axis=1> (a, b) }}"
    check(text, 1, first, second, expected=[legacy(op_type, first, second, 1)])


def test_operands_that_do_not_fit_are_refused() -> None:
    text = "(float[2,3] a, float[3,1] b) => (float[2,3] y) { y = Add <broadcast=1, axis=1> (a, b) }"
    with pytest.raises(InputError, match="Add of an old ONNX opset"):
        to_hub_opset(old(text, 6))


def test_ranks_behind_old_operators_are_known() -> None:
    text = (
        "(float[2,3,4] x, float[3] b) => (float[2,3,4] y) { h = Relu <consumed_inputs=[0]> (x)"
        " s = Squeeze <axes=[0]> (u) y = Add <broadcast=1, axis=1> (h, s) }"
    )
    x = floats(2, 3, 4)
    u = floats(1, 3, seed=2)
    check(
        text.replace(", float[3] b", ""),
        5,
        x,
        constants={"u": u},
        expected=[np.maximum(x, 0) + u.reshape(3, 1)],
    )


@pytest.mark.parametrize("op_type", ["Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Sqrt", "Floor", "Ceil"])
def test_consumed_inputs_are_forgotten(op_type: str) -> None:
    result = carried(old(f"(float[3] x) => (float[3] y) {{ y = {op_type} <consumed_inputs=[0]> (x) }}", 1))
    assert operators(result) == [op_type]
    assert not result.graph[0].attributes


def test_gemm_broadcasts_its_third_operand() -> None:
    a, b, c = floats(2, 3), floats(3, 4, seed=1), floats(4, seed=2)
    text = "(float[2,3] a, float[3,4] b, float[4] c) => (float[2,4] y) { y = Gemm <broadcast=1> (a, b, c) }"
    for opset in (1, 6):
        check(text, opset, a, b, c, expected=[a @ b + c])


@pytest.mark.parametrize(("shape", "slope"), [((2, 3, 4, 5), (3,)), ((2, 3), (3,)), ((2, 3, 4), (1,))])
def test_slope_is_per_channel(shape: tuple[int, ...], slope: tuple[int, ...]) -> None:
    x, s = floats(*shape), np.abs(floats(*slope, seed=1))
    text = f"(float{list(shape)} x, float{list(slope)} s) => (float{list(shape)} y) {{ y = PRelu(x, s) }}"
    wide = s.reshape(slope + (1,) * (len(shape) - 2)) if slope != (1,) else s
    check(text, 6, x, s, expected=[np.where(x < 0, x * wide, x)])


def test_selu_of_opset_1_has_its_own_constants() -> None:
    x = floats(20)
    right = np.float32(1.0507) * np.where(x > 0, x, np.float32(1.6732) * (np.exp(x) - 1))
    check("(float[20] x) => (float[20] y) { y = Selu(x) }", 1, x, expected=[right.astype(np.float32)])


@pytest.mark.parametrize(
    ("name", "dtype"), [("FLOAT16", np.float16), ("INT64", np.int64), ("BOOL", np.bool_)]
)
def test_cast_by_name(name: str, dtype: type[np.generic]) -> None:
    kind = {"FLOAT16": "float16", "INT64": "int64", "BOOL": "bool"}[name]
    x = 3 * floats(5)
    check(f'(float[5] x) => ({kind}[5] y) {{ y = Cast <to="{name}"> (x) }}', 1, x, expected=[x.astype(dtype)])


@pytest.mark.parametrize("opset", [1, 6, 10])
@pytest.mark.parametrize("bounds", ["", "<min=-0.5>", "<max=0.5>", "<min=-0.5, max=0.5>"])
def test_clip(opset: int, bounds: str) -> None:
    x = np.concatenate([floats(10), np.asarray([np.inf, -np.inf], np.float32)])
    low = -0.5 if "min" in bounds else np.finfo(np.float32).min
    high = 0.5 if "max" in bounds else np.finfo(np.float32).max
    text = f"(float[12] x) => (float[12] y) {{ y = Clip {bounds} (x) }}"
    result = carried(old(text, opset))
    right = np.clip(x, np.float32(low), np.float32(high))
    finite = np.isfinite(x)
    np.testing.assert_array_equal(run(result, x)[0][finite], right[finite])


def test_one_hot_ignores_negative_indices() -> None:
    indices = np.asarray([0, -1, 2, 5], np.int64)
    text = "(int64[4] i) => (float[4,3] y) { y = OneHot(i, d, v) }"
    constants: dict[str, Array] = {"d": np.asarray(3, np.int64), "v": np.asarray([2, 7], np.float32)}
    right = np.full((4, 3), 2, np.float32)
    right[0, 0] = right[2, 2] = 7
    check(text, 9, indices, constants=constants, expected=[right])


def test_one_hot_of_known_indices_stays() -> None:
    constants: dict[str, Array] = {
        "i": np.asarray([0, 2], np.int64),
        "d": np.asarray(3, np.int64),
        "v": np.asarray([0, 1], np.float32),
    }
    result = carried(
        old("(float[2,3] x) => (float[2,3] y) { o = OneHot(i, d, v) y = Add(x, o) }", 9, constants)
    )
    assert operators(result) == ["OneHot", "Add"]


def test_erf_of_integers_is_refused() -> None:
    with pytest.raises(InputError, match="applied to integers"):
        to_hub_opset(old("(int32[3] x) => (int32[3] y) { y = Erf(x) }", 9))


def test_concat_of_opset_1_has_a_default_axis() -> None:
    a, b = floats(2, 3, 4), floats(2, 2, 4, seed=1)
    text = "(float[2,3,4] a, float[2,2,4] b) => (float[2,5,4] y) { y = Concat(a, b) }"
    check(text, 1, a, b, expected=[np.concatenate([a, b], 1)])


@pytest.mark.parametrize("opset", [2, 10])
def test_pad(opset: int) -> None:
    x = floats(2, 3)
    right = np.pad(x, [(0, 1), (2, 0)], constant_values=1.5)
    text = "(float[2,3] x) => (float[3,5] y) { y = Pad <pads=[0,2,1,0], value=1.5> (x) }"
    check(text, opset, x, expected=[right])
    double = text.replace("float", "double")
    check(double, opset, x.astype(np.float64), expected=[right.astype(np.float64)])


def test_pad_of_opset_1_where_its_two_orders_agree() -> None:
    x = floats(2, 3)
    text = "(float[2,3] x) => (float[4,5] y) { y = Pad <paddings=[1,1,1,1]> (x) }"
    check(text, 1, x, expected=[np.pad(x, 1)])
    with pytest.raises(InputError, match="in two ways"):
        to_hub_opset(old(text.replace("[1,1,1,1]", "[0,0,2,0]"), 1))


@pytest.mark.parametrize("opset", [2, 11, 13])
def test_split(opset: int) -> None:
    x = floats(2, 6)
    text = "(float[2,6] x) => (float[2,3] y, float[2,3] z) { y, z = Split <axis=1> (x) }"
    check(text, opset, x, expected=[x[:, :3], x[:, 3:]])
    if opset < 13:
        uneven = "(float[2,6] x) => (float[2,2] y, float[2,4] z) { y, z = Split <axis=1, split=[2,4]> (x) }"
        check(uneven, opset, x, expected=[x[:, :2], x[:, 2:]])


def test_split_of_opset_1_takes_parts_as_input() -> None:
    x = floats(2, 6)
    text = "(float[2,6] x) => (float[2,2] y, float[2,4] z) { y, z = Split <axis=1> (x, p) }"
    check(text, 1, x, constants={"p": np.asarray([2, 4], np.float32)}, expected=[x[:, :2], x[:, 2:]])
    with pytest.raises(InputError, match="axis"):
        to_hub_opset(old("(float[2,6] x) => (float[1,6] y, float[1,6] z) { y, z = Split(x) }", 1))


def test_reshape_of_opset_1() -> None:
    x = floats(2, 6)
    text = "(float[2,6] x) => (float[2,2,3] y) { y = Reshape <shape=[0,-1,3]> (x) }"
    check(text, 1, x, expected=[x.reshape(2, 2, 3)])


def test_tile_of_opset_1() -> None:
    x = floats(2, 3)
    text = "(float[2,3] x) => (float[2,6] y) { y = Tile(x, t, a) }"
    constants = {"t": np.asarray([2], np.float32), "a": np.asarray([1], np.float32)}
    check(text, 1, x, constants=constants, expected=[np.tile(x, (1, 2))])
    computed = "(float[2,3] x, float[1] t) => (float[2,6] y) { y = Tile(x, t, a) }"
    times = np.asarray([2], np.float32)
    check(computed, 1, x, times, constants={"a": constants["a"]}, expected=[np.tile(x, (1, 2))])


def test_slice_topk_squeeze_and_unsqueeze() -> None:
    x = floats(1, 5, 6)
    text = (
        "(float[1,5,6] x) => (float[3,4,1] y, int64[3,4,1] i)"
        " { s = Slice <axes=[1], starts=[1], ends=[-1]> (x)"
        " q = Squeeze <axes=[0]> (s) v, j = TopK <k=4> (q) y = Unsqueeze <axes=[2]> (v)"
        " i = Unsqueeze <axes=[2]> (j) }"
    )
    part = x[0, 1:-1]
    order = np.argsort(-part, axis=-1, kind="stable")[:, :4]
    right = [np.take_along_axis(part, order, -1)[..., None], order[..., None]]
    for opset in (1, 9):
        check(text, opset, x, expected=right)


def test_scatter() -> None:
    x, updates = floats(3, 4), floats(2, 2, seed=1)
    text = "(float[3,4] x, float[2,2] u) => (float[3,4] y) { y = Scatter <axis=1> (x, i, u) }"
    check(text, 9, x, updates, constants={"i": np.asarray([[0, 2], [3, 1]], np.int64)})


@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL2", "ReduceLogSumExp"])
@pytest.mark.parametrize("attributes", ["", "<axes=[1], keepdims=0>", "<axes=[0,2]>"])
@pytest.mark.parametrize("opset", [1, 11, 17])
def test_reductions(op_type: str, attributes: str, opset: int) -> None:
    if op_type == "ReduceSum" and opset > 12:
        attributes = ""
    sizes = {"": "1,1,1", "<axes=[1], keepdims=0>": "2,4"}.get(attributes, "1,3,1")
    text = f"(float[2,3,4] x) => (float[{sizes}] y) {{ y = {op_type} {attributes} (x) }}"
    check(text, opset, floats(2, 3, 4))


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((2, 3, 4), 1), ((2, 3, 4), 0), ((2, 3, 4), 2), ((2, 3), None), ((2, 3, 1, 1), 1), ((2, 3, 4), None)],
)
def test_softmax_of_matrices(op_type: str, shape: tuple[int, ...], axis: int | None) -> None:
    attributes = "" if axis is None else f"<axis={axis}>"
    text = f"(float{list(shape)} x) => (float{list(shape)} y) {{ y = {op_type} {attributes} (x) }}"
    for opset in (1, 11):
        check(text, opset, floats(*shape))


def test_softmax_along_one_wide_axis_stays_one_operator() -> None:
    text = "(float[N,3,1,1] x) => (float[N,3,1,1] y) { y = Softmax <axis=1> (x) }"
    assert operators(carried(old(text, 9))) == ["Softmax"]
    free = carried(old("(float[N,M,K] x) => (float[N,M,K] y) { y = Softmax(x) }", 9))
    assert operators(free) == ["Shape", "Flatten", "Softmax", "Reshape"]


def test_softmax_of_an_unknown_rank() -> None:
    text = "(float[2,3,4] x, int64[3] s) => (float y) { r = Reshape(x, s) y = Softmax <axis=2> (r) }"
    model = old(text, 9)
    model.graph.outputs[0].shape = None
    x, shape = floats(2, 3, 4), np.asarray([2, 3, 4], np.int64)
    np.testing.assert_allclose(run(carried(model), x, shape)[0], run(model, x, shape)[0], rtol=1e-6)


def test_dft_takes_its_axis_as_input() -> None:
    x = floats(2, 8, 3, 1)
    check("(float[2,8,3,1] x) => (float[2,8,3,2] y) { y = DFT(x) }", 17, x)


def test_group_norm_of_opset_18() -> None:
    x, scale, bias = floats(2, 4, 3), floats(2, seed=1), floats(2, seed=2)
    groups = x.reshape(2, 2, 2, 3)
    normal = (groups - groups.mean((2, 3), keepdims=True)) / np.sqrt(groups.var((2, 3), keepdims=True) + 1e-5)
    right = (normal * scale.reshape(1, 2, 1, 1) + bias.reshape(1, 2, 1, 1)).reshape(x.shape)
    body = "{ y = GroupNormalization <num_groups=2> (x, s, b) }"
    for sizes in ("2,4,3", "N,C,L"):
        text = f"(float[{sizes}] x, float[2] s, float[2] b) => (float[{sizes}] y) {body}"
        check(text, 18, x, scale, bias, expected=[right])


NORM = "(float[2,3,4] x, float[3] s, float[3] b, float[3] m, float[3] v) => (float[2,3,4] y)"


def norm_inputs() -> list[Array]:
    return [floats(2, 3, 4), *(np.abs(floats(3, seed=seed)) for seed in range(1, 5))]


def normalised(x: Array, s: Array, b: Array, m: Array, v: Array) -> Array:
    s, b, m, v = (each.reshape(-1, 1) if each.ndim == 1 else each for each in (s, b, m, v))
    result: Array = (x - m) / np.sqrt(v + np.float32(1e-5)) * s + b
    return result


@pytest.mark.parametrize("opset", [1, 6])
def test_batch_norm_in_inference(opset: int) -> None:
    consumed = ", consumed_inputs=[0,0,0,0,0]" if opset == 1 else ""
    text = f"{NORM} {{ y = BatchNormalization <is_test=1{consumed}> (x, s, b, m, v) }}"
    inputs = norm_inputs()
    result = check(text, opset, *inputs, expected=[normalised(*inputs)])
    assert operators(result) == ["BatchNormalization"]


def test_batch_norm_before_opset_7_trains_unless_told() -> None:
    x, s, b, m, v = norm_inputs()
    mean, var = x.mean((0, 2)), x.var((0, 2))
    result = check(
        f"{NORM} {{ y = BatchNormalization(x, s, b, m, v) }}", 6, x, s, b, m, v,
        expected=[normalised(x, s, b, mean, var)],
    )  # fmt: skip
    assert result.graph[0].attributes.get_int("training_mode") == 1


@pytest.mark.parametrize("opset", [6, 7])
def test_batch_norm_that_is_not_spatial(opset: int) -> None:
    x, (s, b, m, v) = floats(2, 3, 4), (np.abs(floats(3, 4, seed=seed)) for seed in range(1, 5))
    text = NORM.replace("float[3]", "float[3,4]")
    test = ", is_test=1" if opset == 6 else ""
    text += f" {{ y = BatchNormalization <spatial=0{test}> (x, s, b, m, v) }}"
    check(text, opset, x, s, b, m, v, expected=[normalised(x, s, b, m, v)])


def test_batch_norm_with_statistics_trains() -> None:
    text = NORM.replace("(float[2,3,4] y)", "(float[2,3,4] y, float[3] n, float[3] w)")
    text += " { y, n, w = BatchNormalization(x, s, b, m, v) }"
    x, s, b, m, v = norm_inputs()
    mean, var = x.mean((0, 2)), x.var((0, 2))
    right = [normalised(x, s, b, mean, var), 0.9 * m + 0.1 * mean, 0.9 * v + 0.1 * var]
    check(text, 9, x, s, b, m, v, expected=[each.astype(np.float32) for each in right])


def test_batch_norm_whose_saved_statistics_are_read_is_refused() -> None:
    text = NORM.replace("(float[2,3,4] y)", "(float[2,3,4] y, float[3] w)")
    text += " { y, a, b2, w = BatchNormalization(x, s, b, m, v) }"
    with pytest.raises(InputError, match="saved statistics"):
        to_hub_opset(old(text, 9))


@pytest.mark.parametrize(("opset", "attributes"), [(1, "<is_test=1>"), (6, "<is_test=1>"), (7, ""), (10, "")])
def test_dropout_in_inference(opset: int, attributes: str) -> None:
    text = f"(float[3] x) => (float[3] y) {{ y = Dropout {attributes} (x) }}"
    result = check(text, opset, floats(3), expected=[floats(3)])
    (node,) = result.graph
    ratio = node.inputs[1]
    assert ratio is not None
    assert ratio.const_value is not None
    assert float(ratio.const_value.numpy()) == 0.5
    assert len(node.inputs) == 2


def test_dropout_before_opset_7_trains_unless_told() -> None:
    result = carried(old("(float[N] x) => (float[N] y) { y = Dropout <ratio=0.25> (x) }", 6))
    (node,) = result.graph
    training = node.inputs[2]
    assert training is not None
    assert training.const_value is not None
    assert bool(training.const_value.numpy())


def test_mask_of_dropout_had_the_type_of_the_data() -> None:
    text = "(float[3] x) => (float[3] y, float[3] m) { y, m = Dropout(x) }"
    result = check(text, 7, floats(3), expected=[floats(3), np.ones(3, np.float32)])
    assert [value.name for value in result.graph.outputs] == ["y", "m"]


@pytest.mark.parametrize("opset", [1, 7, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(opset: int, mode: str) -> None:
    x = floats(1, 2, 3, 4)
    spelled = "bilinear" if (mode, opset) == ("linear", 1) else mode
    attributes, second, constants = {
        1: (", height_scale=2.0, width_scale=3.0", "", {}),
        7: (", scales=[1.0,1.0,2.0,3.0]", "", {}),
        9: ("", ", s", {"s": np.asarray([1, 1, 2, 3], np.float32)}),
    }[opset]
    body = f'y = Upsample <mode="{spelled}"{attributes}> (x{second})'
    text = f"(float[1,2,3,4] x) => (float[1,2,6,12] y) {{ {body} }}"
    # onnxruntime runs Upsample of opset 7 and 9; what opset 1 says is the same.
    reference = '(float[1,2,3,4] x) => (float[1,2,6,12] y) { y = Upsample <mode="M"> (x, s) }'
    scales = {"s": np.asarray([1, 1, 2, 3], np.float32)}
    right = run(old(reference.replace("M", mode), 9, scales), x)
    check(text, opset, x, constants=constants, expected=right)


def test_upsample_with_computed_scales() -> None:
    x, scales = floats(1, 1, 2, 3), np.asarray([1, 1, 2, 2], np.float32)
    text = "(float[1,1,2,3] x, float[4] s) => (float[1,1,4,6] y) { y = Upsample(x, s) }"
    check(text, 9, x, scales, expected=[x.repeat(2, 2).repeat(2, 3)])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.6, 0.5), (1, 1, 1.5, 0.7), (1, 1, 1, 1)])
def test_resize_of_opset_10(mode: str, scales: tuple[float, ...]) -> None:
    x = floats(1, 2, 5, 6)
    size = [int(np.floor(np.float32(a) * np.float32(b))) for a, b in zip(x.shape, scales, strict=True)]
    text = f'(float[1,2,5,6] x) => (float{size} y) {{ y = Resize <mode="{mode}"> (x, s) }}'
    check(text, 10, x, constants={"s": np.asarray(scales, np.float32)})


def test_resize_of_opset_10_with_computed_scales() -> None:
    text = "(float[1,1,2,2] x, float[4] s) => (float[1,1,A,B] y) { y = Resize (x, s) }"
    with pytest.raises(InputError, match="scales are computed"):
        to_hub_opset(old(text, 10))
    x, scales = floats(1, 1, 4, 4), np.asarray([1, 1, 0.5, 2], np.float32)
    check(text.replace("Resize", 'Resize <mode="linear">').replace("2,2] x", "4,4] x"), 10, x, scales)


@pytest.mark.parametrize("rounding", ["floor", "round_prefer_floor"])
@pytest.mark.parametrize("scales", [(1, 1, 2, 3), (1, 1, 0.6, 0.5)])
def test_resize_with_the_coordinates_of_opset_11(rounding: str, scales: tuple[float, ...]) -> None:
    x = floats(1, 2, 5, 6)
    size = [int(np.floor(np.float32(a) * np.float32(b))) for a, b in zip(x.shape, scales, strict=True)]
    text = (
        f'(float[1,2,5,6] x) => (float{size} y) {{ y = Resize <mode="nearest", nearest_mode="{rounding}",'
        ' coordinate_transformation_mode="tf_half_pixel_for_nn"> (x, r, s) }'
    )
    constants = {"r": np.zeros(0, np.float32), "s": np.asarray(scales, np.float32)}
    result = check(text, 11, x, constants=constants)
    assert result.graph[0].inputs[1] is None
    with pytest.raises(InputError, match="tf_half_pixel_for_nn"):
        to_hub_opset(old(text.replace('"nearest"', '"linear"'), 11, constants))


def test_roi_align_and_grid_sample_say_their_modes() -> None:
    x = floats(1, 2, 8, 8)
    text = (
        "(float[1,2,8,8] x, float[2,4] r) => (float[2,2,3,3] y)"
        " { y = RoiAlign <output_height=3, output_width=3, sampling_ratio=2> (x, r, b) }"
    )
    (node,) = carried(old(text, 10, {"b": np.zeros(2, np.int64)})).graph
    assert node.attributes.get_string("coordinate_transformation_mode") == "output_half_pixel"
    grid = np.clip(floats(1, 3, 3, 2), -1, 1)
    for mode in ("bilinear", "nearest", "bicubic"):
        body = f'{{ y = GridSample <mode="{mode}"> (x, g) }}'
        check(f"(float[1,2,8,8] x, float[1,3,3,2] g) => (float[1,2,3,3] y) {body}", 16, x, grid)


def test_lp_pool_of_opset_1() -> None:
    text = "(float[1,2,4,4] x) => (float[1,2,1,1] y) { y = GlobalLpPool <p=3.0> (x) }"
    (node,) = carried(old(text, 1)).graph
    assert node.attributes.get_int("p") == 3
    with pytest.raises(InputError, match=r"2\.5"):
        to_hub_opset(old(text.replace("3.0", "2.5"), 1))


@pytest.mark.parametrize("op_type", ["RNN", "GRU", "LSTM"])
def test_recurrences_forget_output_sequence(op_type: str) -> None:
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op_type]
    x, w, r = floats(5, 2, 3), floats(1, 4 * gates, 3, seed=1), floats(1, 4 * gates, 4, seed=2)
    attributes = "hidden_size=4, output_sequence=1"
    text = (
        f"(float[5,2,3] x, float[1,{4 * gates},3] w, float[1,{4 * gates},4] r) => (float[5,1,2,4] y)"
        f" {{ y = {op_type} <{attributes}> (x, w, r) }}"
    )
    right = run(old(text.replace(", output_sequence=1", ""), 14), x, w, r)
    check(text, 3, x, w, r, expected=right)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("direction", [0, 1])
def test_scan_of_opset_8_runs_over_a_batch(batch: int, direction: int) -> None:
    sizes = f"float[{batch},2]"
    text = (
        f"({sizes} i, float[{batch},3,2] x) => ({sizes} y, float[{batch},3,2] z) {{"
        f" y, z = Scan <num_scan_inputs=1, directions=[{direction}],"
        " body = b (float[2] s, float[2] n) => (float[2] t, float[2] o) { t = Add(s, n) o = Mul(s, n) }>"
        ' ("", i, x) }'
    )
    start, x = floats(batch, 2), floats(batch, 3, 2, seed=1)
    state, outs = start, []
    for step in range(3)[:: -1 if direction else 1]:
        outs.append(state * x[:, step])
        state = state + x[:, step]
    check(text, 8, start, x, expected=[state, np.stack(outs, 1)])


EXPERIMENTAL_CASES = {
    "Affine": ("float[2,3] y", "Affine <alpha=2.0, beta=0.5> (x)", (2, 3)),
    "Scale": ("float[2,3] y", "Scale <scale=3.0> (x)", (2, 3)),
    "ImageScaler": ("float[2,3,2,2] y", "ImageScaler <scale=2.0, bias=[1.0,2.0,3.0]> (x)", (2, 3, 2, 2)),
    "ScaledTanh": ("float[2,3] y", "ScaledTanh <alpha=2.0, beta=0.5> (x)", (2, 3)),
    "ParametricSoftplus": ("float[2,3] y", "ParametricSoftplus <alpha=2.0, beta=0.5> (x)", (2, 3)),
    "Crop": ("float[1,2,4,2] y", "Crop <border=[1,0,2,1]> (x)", (1, 2, 5, 5)),
    "Crop to a size": ("float[1,2,2,3] y", "Crop <border=[1,2,0,0], scale=[2,3]> (x)", (1, 2, 5, 5)),
    "MeanVarianceNormalization": ("float[2,3,4,5] y", "MeanVarianceNormalization (x)", (2, 3, 4, 5)),
    "across channels": ("float[2,3,4,5] y", "MeanVarianceNormalization<across_channels=1>(x)", (2, 3, 4, 5)),
    "mean only": ("float[2,3,4,5] y", "MeanVarianceNormalization <normalize_variance=0> (x)", (2, 3, 4, 5)),
}


@pytest.mark.parametrize("opset", [5, 8])
@pytest.mark.parametrize("case", EXPERIMENTAL_CASES)
def test_experimental_operators(case: str, opset: int) -> None:
    output, call, shape = EXPERIMENTAL_CASES[case]
    text = f"(float{list(shape)} x) => ({output}) {{ y = {call} }}"
    # onnxruntime still has these operators in the opsets from 7 on.
    right = run(old(text, 8), floats(*shape))
    result = check(text, opset, floats(*shape), expected=right)
    assert not set(operators(result)) & (set(EXPERIMENTAL) - {"MeanVarianceNormalization"})


def test_dynamic_slice_and_thresholded_relu() -> None:
    x = floats(4, 5)
    text = "(float[4,5] x, int64[1] s, int64[1] e) => (float[A,5] y) { y = DynamicSlice(x, s, e) }"
    check(text, 8, x, np.asarray([1], np.int64), np.asarray([3], np.int64), expected=[x[1:3]])
    check("(float[4,5] x) => (float[4,5] y) { y = ThresholdedRelu <alpha=0.5> (x) }", 8, x)


def test_fills() -> None:
    text = (
        "(float[2] x) => (float[2] y) { f = GivenTensorFill <values=[1.0,2.0], shape=[2]> () y = Add(x, f) }"
    )
    check(text, 8, floats(2), expected=[floats(2) + np.asarray([1, 2], np.float32)])
    constant = "(float[2] x) => (int64[2,3] y) { y = ConstantFill <value=4.0, dtype=7, extra_shape=[3]> (x) }"
    check(constant, 8, floats(2), expected=[np.full((2, 3), 4, np.int64)])
    given = "(int64[2] x) => (float[A,B] y) { y = ConstantFill <value=4.0, input_as_shape=1> (x) }"
    check(given, 8, np.asarray([2, 3], np.int64), expected=[np.full((2, 3), 4, np.float32)])


def test_operators_that_an_opset_does_not_have() -> None:
    with pytest.raises(UnsupportedOps, match="Gelu x1: ONNX opset 13 has no such operator"):
        to_hub_opset(old("(float[N] x) => (float[N] y) { y = Gelu(x) }", 13))
    with pytest.raises(UnsupportedOps, match="ATen x1"):
        to_hub_opset(old('(float[N] x) => (float[N] y) { y = ATen <operator="embedding"> (x) }', 6))


def test_nodes_in_bodies_are_carried() -> None:
    text = (
        "(bool c, float[N,4] x) => (float[N,4] y) {"
        " y = If(c) <then_branch = t () => (float[N,4] z) { z = Clip <max=1.0> (x) },"
        " else_branch = e () => (float[N,4] z) { z = Pad <pads=[0,0,0,0]> (x) }> }"
    )
    result = check(text, 9, np.asarray(True), floats(2, 4))
    (clip, *_) = [node for node in all_nodes(result) if node.op_type == "Clip"]
    assert len(clip.inputs) == 3
