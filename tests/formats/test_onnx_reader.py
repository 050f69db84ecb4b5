import os
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir
import pytest
from onnx import TensorProto, TypeProto, helper, numpy_helper

from bridge.errors import InputError, UnsupportedOps
from bridge.formats.onnx_reader import read
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.passes.opset import to_hub_opset


def save(path: Path, text: str, **initializers: np.ndarray) -> Path:
    """A model in ONNX's text form, with initializers added."""
    model = onnx.parser.parse_model(text)
    for name, array in initializers.items():
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.save(model, path)
    return path


def graph(body: str, *, opset: int = 20, ir_version: int = 10) -> str:
    """A graph `(inputs) => (outputs) { nodes }` as a whole model."""
    return f'<ir_version: {ir_version}, opset_import: ["": {opset}]> g {body}'


def load(path: Path, **options: object) -> ir.Model:
    return read(ReadRequest(str(path), "onnx", **options))  # type: ignore[arg-type]


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


NETWORK = """<ir_version: 10, opset_import: ["": 20]>
    net (float[N, 3, 8, 8] image) => (float[N, 4] scores) {
        h = Conv <pads: ints = [1, 1, 1, 1]> (image, conv_w, conv_b)
        n = BatchNormalization (h, scale, offset, mean, var)
        r = Resize <mode = "nearest"> (n, , sizes)
        c = Clip (r, low, high)
        p = ReduceMean (c, axes)
        f = Flatten (c)
        scores = Gemm (f, fc_w, fc_b)
    }"""


def network(path: Path) -> Path:
    return save(
        path,
        NETWORK.replace("        p = ReduceMean (c, axes)\n", ""),
        conv_w=floats(2, 3, 3, 3),
        conv_b=floats(2),
        scale=floats(2),
        offset=floats(2),
        mean=floats(2),
        var=np.abs(floats(2)),
        sizes=np.array([1, 1, 0.5, 0.5], np.float32),
        low=np.float32(-1),
        high=np.float32(1),
        fc_w=floats(32, 4),
        fc_b=floats(4),
    )


def test_weights_are_told_from_statistics_and_settings(tmp_path: Path) -> None:
    model = load(network(tmp_path / "net.onnx"))
    check_model(model, stage="after reading")
    kinds = {
        name: info.kind if (info := metadata.weight_info(value)) else None
        for name, value in model.graph.initializers.items()
    }
    parameters = {"conv_w", "conv_b", "scale", "offset", "fc_w", "fc_b"}
    assert {name for name, kind in kinds.items() if kind == "parameter"} == parameters
    assert {name for name, kind in kinds.items() if kind == "buffer"} == {"mean", "var"}
    assert {name for name, kind in kinds.items() if kind is None} == {"sizes", "low", "high"}


def test_the_record_of_the_source_is_complete(tmp_path: Path) -> None:
    model = load(network(tmp_path / "net.onnx"))
    info = metadata.source_info(model)
    assert (info.framework, info.format, info.inputs, info.outputs) == (
        "onnx",
        "onnx",
        ("image",),
        ("scores",),
    )
    assert info.notes == ()
    assert metadata.source_value(model.graph[0].outputs[0]) == "h"


def test_a_weight_is_a_weight_even_with_one_number(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        graph("(float[N, 2] x) => (float[N, 1] y) { y = Gemm (x, w, b) }"),
        w=floats(2, 1),
        b=floats(1),
    )
    model = load(path)
    assert all(metadata.weight_info(value) for value in model.graph.initializers.values())


def test_a_fixed_batch_stays_and_is_said(tmp_path: Path) -> None:
    text = graph("(float[2, 3] x) => (float[2, 3] y) { y = Relu (x) }")
    model = load(save(tmp_path / "m.onnx", text))
    assert model.graph.inputs[0].shape == ir.Shape([2, 3])
    assert "x (2)" in metadata.source_info(model).notes[0]
    assert load(tmp_path / "m.onnx", static_batch=True).graph.inputs[0].shape == ir.Shape([2, 3])


def test_a_free_axis_gets_a_name_or_the_size_asked_for(tmp_path: Path) -> None:
    text = graph("(float[?, ?, 3] x) => (float[?, ?, 3] y) { y = Relu (x) }")
    path = save(tmp_path / "m.onnx", text)
    assert load(path).graph.inputs[0].shape == ir.Shape(["batch", "x_axis1", 3])
    spec = (InputSpec((4, "T", 3)),)
    assert load(path, inputs=spec, static_batch=True).graph.inputs[0].shape == ir.Shape([4, "x_axis1", 3])
    with pytest.raises(InputError, match="gives 1 axes"):
        load(path, inputs=(InputSpec((4,)),))
    with pytest.raises(InputError, match="no input 'z'"):
        load(path, inputs=(InputSpec((4,), name="z"),))


def test_an_input_without_a_shape_needs_one(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), tmp_path / "m.onnx")
    with pytest.raises(InputError, match="shape of the input 'x'") as caught:
        load(tmp_path / "m.onnx")
    assert "--input 'x=" in str(caught.value.hint)
    model = load(tmp_path / "m.onnx", inputs=(InputSpec(("N", 3), name="x"),))
    assert model.graph.inputs[0].shape == ir.Shape(["N", 3])


def test_weights_that_are_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    path = save(
        tmp_path / "m.onnx",
        graph(
            "(float[N, 2] x, float[2, 2] w) => (float[N, 2] y) { y = MatMul (x, w) }", opset=9, ir_version=3
        ),
        w=floats(2, 2),
    )
    model = load(path)
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert metadata.weight_info(model.graph.initializers["w"])


def test_functions_are_inlined(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "mine": 1]>
        g (float[N] x) => (float[N] y) { y = mine.twice (x) }
        <domain: "mine", opset_import: ["": 20]> twice (a) => (b) { b = Add (a, a) }"""
    model = load(save(tmp_path / "m.onnx", text))
    assert [node.op_type for node in model.graph] == ["Add"]


def test_a_custom_domain_is_named_with_every_operator(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "com.acme": 1]>
        g (float[N] x) => (float[N] y) { a = com.acme.Foo (x) b = com.acme.Foo (a) y = com.acme.Bar (b) }"""
    with pytest.raises(UnsupportedOps) as caught:
        load(save(tmp_path / "m.onnx", text))
    assert [(op.domain, op.op_type, op.count) for op in caught.value.ops] == [
        ("com.acme", "Foo", 2),
        ("com.acme", "Bar", 1),
    ]


def test_text_sequences_and_optionals_are_read(tmp_path: Path) -> None:
    text = graph(
        "(string[N] s, seq(float[N]) q, optional(float[3]) o) => (string[N] t, seq(float[N]) r, bool b)"
        " { t = Identity (s) r = Identity (q) b = OptionalHasElement (o) }"
    )
    model = load(save(tmp_path / "m.onnx", text))
    kinds = [type(value.type) for value in model.graph.inputs]
    assert kinds == [ir.TensorType, ir.SequenceType, ir.OptionalType]
    check_model(model, stage="after reading")


def test_maps_are_refused(tmp_path: Path) -> None:
    proto = onnx.parser.parse_model(graph("(float[N] m) => (float[N] t) { t = Identity (m) }"))
    kind = TypeProto()
    kind.sparse_tensor_type.elem_type = TensorProto.FLOAT
    proto.graph.input[0].type.CopyFrom(kind)
    proto.graph.output[0].type.CopyFrom(kind)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="'m' is no tensor"):
        load(tmp_path / "m.onnx")


def test_operators_of_other_domains_are_read(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "com.microsoft": 1, "ai.onnx.ml": 3]>
        g (float[N, 2] x) => (float[N, 2] y) { a = com.microsoft.QuickGelu (x)
        y = ai.onnx.ml.Scaler <offset = [0.0], scale = [2.0]> (a) }"""
    model = load(save(tmp_path / "m.onnx", text))
    check_model(model, stage="after reading")
    unknown = text.replace("QuickGelu", "SlowGelu")
    with pytest.raises(UnsupportedOps, match=r"com\.microsoft::SlowGelu x1: onnxruntime has no such"):
        load(save(tmp_path / "m.onnx", unknown))


def test_models_without_standard_operators_need_no_standard_opset(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["ai.onnx.ml": 3]>
        g (float[N, 2] x) => (float[N, 2] y) { y = ai.onnx.ml.Binarizer (x) }"""
    model = load(save(tmp_path / "m.onnx", text))
    assert model.graph.opset_imports[""] == 23
    check_model(model, stage="after reading")


def external(path: Path, location: str, *, offset: int = 0, length: int | None = None) -> Path:
    """A model whose one weight of 24 bytes is said to lie in another file."""
    text = graph("(float[N, 2] x) => (float[N, 3] y) { y = MatMul (x, w) }")
    model = onnx.parser.parse_model(text)
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3])
    tensor.data_location = TensorProto.EXTERNAL
    entries = {"location": location, "offset": str(offset)}
    if length is not None:
        entries["length"] = str(length)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_model_is_mapped(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(bytes(8) + np.arange(6, dtype=np.float32).tobytes())
    model = load(external(tmp_path / "m.onnx", "parts/w.bin", offset=8, length=24))
    weight = model.graph.initializers["w"].const_value
    assert isinstance(weight, ir.ExternalTensor)
    np.testing.assert_array_equal(weight.numpy(), np.arange(6, dtype=np.float32).reshape(2, 3))


@pytest.mark.parametrize(
    "location", ["../../etc/passwd", "/etc/passwd", "a/../../x", "..\\x", "C:\\x", "link", "linked/w.bin", ""]
)
def test_data_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(24))
    (home / "link").symlink_to(tmp_path / "w.bin")
    (home / "linked").symlink_to(tmp_path)
    with pytest.raises(InputError, match="outside the model's directory"):
        load(external(home / "m.onnx", location))


def test_data_that_ends_too_early_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(24))
    with pytest.raises(InputError, match="ends before"):
        load(external(tmp_path / "m.onnx", "w.bin", offset=1))
    with pytest.raises(InputError, match="needs 24 bytes and has 23"):
        load(external(tmp_path / "m.onnx", "w.bin", length=23))
    with pytest.raises(InputError, match="is missing"):
        load(external(tmp_path / "m.onnx", "other.bin"))


def test_a_tensor_cannot_claim_more_than_it_has(tmp_path: Path) -> None:
    text = graph("(float[N] x) => (float[N] y) { y = Add (x, w) }")
    for tensor in (
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], raw_data=b"1234"),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 40], float_data=[1.0]),
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[-1], raw_data=b"1234"),
        TensorProto(name="w", data_type=99, dims=[1], raw_data=b"1234"),
    ):
        model = onnx.parser.parse_model(text)
        model.graph.initializer.append(tensor)
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(InputError, match="damaged"):
            load(tmp_path / "m.onnx")


def test_the_modules_of_pytorchs_exporter_are_known(tmp_path: Path) -> None:
    text = graph("(float[N] x) => (float[N] y) { y = Relu (x) }")
    model = onnx.parser.parse_model(text)
    node = model.graph.node[0]
    for key, value in {
        "pkg.torch.onnx.name_scopes": "['', 'layers', 'layers.0', 'layers.0.act', 'relu']",
        "pkg.torch.onnx.class_hierarchy": "['a.Net', 'torch.nn.Sequential', 'a.Block', 'nn.ReLU', 'relu']",
    }.items():
        node.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "m.onnx")
    (read_node,) = load(tmp_path / "m.onnx").graph
    assert metadata.scope_of(read_node) == (
        ("layers", "Sequential", 0),
        ("0", "Block", 0),
        ("act", "ReLU", 0),
    )


@pytest.mark.parametrize(
    "literal", ["__import__('os').system('true')", "['a'", "[1, 2]", "'" * 9, "[" * 5000]
)
def test_text_in_the_file_is_not_run(tmp_path: Path, literal: str) -> None:
    text = graph("(float[N] x) => (float[N] y) { y = Relu (x) }")
    model = onnx.parser.parse_model(text)
    for key in ("pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"):
        model.graph.node[0].metadata_props.add(key=key, value=literal)
    onnx.save(model, tmp_path / "m.onnx")
    (node,) = load(tmp_path / "m.onnx").graph
    assert metadata.scope_of(node) is None


@pytest.mark.parametrize("cut", [1, 10, 60])
def test_a_cut_file_is_damaged(tmp_path: Path, cut: int) -> None:
    path = network(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="damaged"):
        load(path)


def test_a_newer_opset_is_kept(tmp_path: Path) -> None:
    newest = onnx.defs.onnx_opset_version()
    text = graph("(float[N, 4] x) => (float[N, 4] y) { y = Swish (x) }", opset=newest, ir_version=11)
    model = load(save(tmp_path / "m.onnx", text))
    assert model.graph.opset_imports[""] == newest
    check_model(model, stage="after reading")


def test_an_opset_of_the_future_says_so(tmp_path: Path) -> None:
    text = graph("(float[N, 4] x) => (float[N, 4] y) { y = Relu (x) }", opset=99, ir_version=11)
    with pytest.raises(InputError, match="opset 99"):
        load(save(tmp_path / "m.onnx", text))


def test_unused_weights_are_listed(tmp_path: Path) -> None:
    text = graph("(float[N] x) => (float[N] y) { y = Relu (x) }")
    model = load(save(tmp_path / "m.onnx", text, extra=floats(3)))
    assert metadata.source_info(model).unused_weights == ("extra",)


def test_reading_needs_no_framework(tmp_path: Path) -> None:
    import subprocess
    import sys

    path = network(tmp_path / "net.onnx")
    program = (
        "import sys; from bridge.formats.onnx_reader import read; "
        "from bridge.formats.request import ReadRequest; "
        f"read(ReadRequest({os.fspath(path)!r}, 'onnx')); "
        "assert not {'torch', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_functions_of_other_opsets(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "mine": 1]>
        g (float[N, 4] x) => (float[N, 4] y) { a = mine.old (x) b = mine.new (a) y = ReduceSum (b, w) }
        <domain: "mine", opset_import: ["": 11]> old (a) => (b)
        { s = Squeeze <axes = [0]> (a) u = Unsqueeze <axes = [0]> (a) b = Softmax <axis = 1> (u) }
        <domain: "mine", opset_import: ["": 24]> new (a) => (b) { b = Swish (a) }"""
    model = load(save(tmp_path / "m.onnx", text.replace("ReduceSum (b, w)", "Squeeze (b)")))
    assert not model.functions
    assert model.graph.opset_imports[""] == 24
    old = next(node for node in model.graph if node.op_type == "Unsqueeze")
    assert len(old.inputs) == 2


def test_functions_whose_opset_means_something_else_are_refused(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 23, "mine": 1]>
        g (float[1, 2, 3, 4] x) => (float[1, 2, 3, 4] y) { a = Attention (x, x, x) y = mine.new (a) }
        <domain: "mine", opset_import: ["": 24]> new (a) => (b) { b = Swish (a) }"""
    with pytest.raises(InputError, match="Attention of opset 23 has another meaning in opset 24"):
        load(save(tmp_path / "m.onnx", text))


def test_recursive_functions_are_refused(tmp_path: Path) -> None:
    text = """<ir_version: 10, opset_import: ["": 20, "mine": 1]>
        g (float[N] x) => (float[N] y) { y = mine.f (x) }
        <domain: "mine", opset_import: ["": 20, "mine": 1]> f (a) => (b) { b = mine.f (a) }"""
    with pytest.raises(InputError, match="cannot be inlined"):
        load(save(tmp_path / "m.onnx", text))


@pytest.mark.parametrize("ir_version", range(1, 14))
def test_every_ir_version(tmp_path: Path, ir_version: int) -> None:
    proto = onnx.parser.parse_model(graph("(float[N, 2] x) => (float[N, 2] y) { y = Relu (x) }", opset=7))
    proto.ir_version = ir_version
    if ir_version < 3:
        del proto.opset_import[:]
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    model = load(tmp_path / "m.onnx")
    assert model.graph.opset_imports[""] == (1 if ir_version < 3 else 7)
    check_model(to_hub_opset(model), stage="in a test")


@pytest.mark.parametrize(("ir_version", "notes"), [(3, 0), (8, 1)])
def test_inputs_with_defaults_are_weights(tmp_path: Path, ir_version: int, notes: int) -> None:
    text = graph(
        "(float[N, 2] x, float[2, 2] w) => (float[N, 2] y) <float[2, 2] w = {1, 2, 3, 4}>"
        " { y = MatMul (x, w) }",
        opset=9,
        ir_version=ir_version,
    )
    model = load(save(tmp_path / "m.onnx", text))
    assert [value.name for value in model.graph.inputs] == ["x"]
    info = metadata.weight_info(model.graph.initializers["w"])
    assert info is not None
    assert info.kind == "parameter"
    found = [note for note in metadata.source_info(model).notes if "default" in note]
    assert len(found) == notes


def test_initializers_of_branches(tmp_path: Path) -> None:
    text = graph(
        "(bool c, float[N, 2] x) => (float[N, 2] y) { y = If (c) <"
        " then_branch = t () => (float[N, 2] z) <float[2] w = {1, 2}> { z = Mul (x, w) },"
        " else_branch = e () => (float[N, 2] z) <float[2] w = {3, 4}> { z = Mul (x, w) }> }"
    )
    model = load(save(tmp_path / "m.onnx", text))
    check_model(model, stage="after reading")
    tensors = [value.const_value for value in model.graph.initializers.values()]
    values = sorted(tuple(tensor.numpy()) for tensor in tensors if tensor is not None)
    assert values == [(1, 2), (3, 4)]
    assert all(metadata.weight_info(value) is not None for value in model.graph.initializers.values())


@pytest.mark.parametrize("flat", [True, False])
def test_sparse_initializers_are_written_out(tmp_path: Path, flat: bool) -> None:
    proto = onnx.parser.parse_model(graph("(float[N, 2] x) => (float[N, 3] y) { y = MatMul (x, w) }"))
    indices = np.asarray([1, 5], np.int64) if flat else np.asarray([[0, 1], [1, 2]], np.int64)
    values = numpy_helper.from_array(np.asarray([7, 8], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "i"), [2, 3])
    proto.graph.sparse_initializer.append(sparse)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    weight = load(tmp_path / "m.onnx").graph.initializers["w"].const_value
    assert weight is not None
    np.testing.assert_array_equal(weight.numpy(), [[0, 7, 0], [0, 0, 8]])


@pytest.mark.parametrize(("dims", "indices"), [((1 << 20, 1 << 20), [1, 2]), ((2, 3), [1, 6]), ((2, 3), [1])])
def test_damaged_sparse_initializers(tmp_path: Path, dims: tuple[int, int], indices: list[int]) -> None:
    proto = onnx.parser.parse_model(graph("(float[N, 2] x) => (float[N, A] y) { y = MatMul (x, w) }"))
    values = numpy_helper.from_array(np.asarray([7, 8], np.float32), "w")
    places = numpy_helper.from_array(np.asarray(indices, np.int64), "i")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(InputError, match="sparse tensor 'w'"):
        load(tmp_path / "m.onnx")


def test_weights_filled_by_nodes_are_weights(tmp_path: Path) -> None:
    text = graph(
        "(float[N, 3, 8, 8] x) => (float[N, 2, 6, 6] y) <int64[4] s = {2, 3, 3, 3}, int64[1] t = {54}> {"
        " w = ConstantOfShape <value = float[1] {0.5}> (t) r = Reshape (w, s) z = Conv (x, r)"
        " u = ConstantOfShape (s) y = Identity (z) }"
    )
    model = load(save(tmp_path / "m.onnx", text))
    assert "t" not in model.graph.initializers
    weight = model.graph.initializers["w"]
    assert metadata.weight_info(weight) is not None
    assert weight.const_value is not None
    assert weight.const_value.numpy().shape == (54,)
    assert weight.const_value.numpy().strides == (0,)
