from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from bridge_converters.tf_to_onnx.reader import read

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.hub import metadata

from .conftest import KERAS_FORMATS, KERAS_MODELS, read_and_compare, scopes, weights


@pytest.mark.parametrize("name", KERAS_MODELS)
@pytest.mark.parametrize("kind", KERAS_FORMATS)
def test_keras_models_of_every_format(
    keras_files: Callable[[str, str], ReadRequest], name: str, kind: str
) -> None:
    request = keras_files(name, kind)
    model = read_and_compare(request)
    info = metadata.source_info(model)
    assert info.framework == "tf"
    assert info.format == request.format
    assert info.exporter_seconds > 0
    assert info.unused_weights == ()
    assert all(str(value.shape[0]) == "batch" for value in model.graph.inputs if value.shape)
    expected = {
        each.path: (each.kind, each.trainable) for each in weights(read(keras_files(name, "keras"))).values()
    }
    found = {each.path: (each.kind, each.trainable) for each in weights(model).values()}
    if kind == "saved_model":
        assert found.keys() == expected.keys()
        assert {path: role[0] for path, role in found.items()} == {
            path: role[0] for path, role in expected.items()
        }
    else:
        assert found == expected
    assert scopes(model) <= scopes(read(keras_files(name, "keras"))) | {""}


def test_paths_kinds_and_frozen_layers(keras_files: Callable[[str, str], ReadRequest]) -> None:
    found = weights(read(keras_files("digits_like", "keras")))
    assert list(found) == [
        "conv/kernel",
        "conv/bias",
        "norm/gamma",
        "norm/beta",
        "norm/moving_mean",
        "norm/moving_variance",
        "classes/kernel",
        "classes/bias",
    ]
    assert (found["conv/kernel"].kind, found["conv/kernel"].trainable) == ("parameter", False)
    assert (found["norm/gamma"].kind, found["norm/gamma"].trainable) == ("parameter", True)
    assert (found["norm/moving_mean"].kind, found["norm/moving_mean"].trainable) == ("buffer", False)


def test_layers_arrive_whole(keras_files: Callable[[str, str], ReadRequest]) -> None:
    model = read(keras_files("digits_like", "keras"))
    by_type = {node.op_type: node for node in model.graph}
    norm, dropout = by_type["BatchNormalization"], by_type["Dropout"]
    assert norm.attributes["epsilon"].as_float() == pytest.approx(1e-4)
    assert norm.attributes["momentum"].as_float() == pytest.approx(0.9)
    ratio = dropout.inputs[1]
    assert ratio is not None
    assert ratio.const_value is not None
    assert float(ratio.const_value.numpy()) == pytest.approx(0.4)
    assert metadata.scope_of(norm) == (("norm", "BatchNormalization", 0),)


def test_calls_of_one_module_are_counted(keras_files: Callable[[str, str], ReadRequest]) -> None:
    for kind, classes in (("keras", ("Functional", "Conv2D")), ("exported", ("Layer", "Layer"))):
        model = read(keras_files("nested", kind))
        convs = [metadata.scope_of(node) for node in model.graph if node.op_type == "Conv"]
        assert [scope and scope[-1].name for scope in convs] == ["conv"] * 3
        assert [scope and scope[0][:1] for scope in convs] == [("block",), ("block",), ("other",)]
        assert [scope and scope[0].call for scope in convs] == [0, 1, 0]
        assert convs[0] is not None
        assert tuple(entry.type for entry in convs[0]) == classes
        shared = [
            scope[-1].call
            for node in model.graph
            if node.op_type == "Tanh" and (scope := metadata.scope_of(node))
        ]
        assert shared == [0, 1]


def test_interface_names(keras_files: Callable[[str, str], ReadRequest]) -> None:
    info = metadata.source_info(read(keras_files("two_ends", "keras")))
    assert info.inputs == ("first", "second")
    assert info.outputs == ("raw", "score")
    info = metadata.source_info(read(keras_files("digits_like", "keras")))
    assert (info.inputs, info.outputs, info.root_type) == (("image",), ("classes",), "digits")


def test_no_name_comes_from_a_counter(keras_files: Callable[[str, str], ReadRequest]) -> None:
    for kind in ("keras", "exported"):
        model = read(keras_files("rare", kind))
        names = [node.name or "" for node in model.graph]
        names += [value.name or "" for node in model.graph for value in node.outputs]
        names += list(model.graph.initializers)
        assert not [name for name in names if "__" in name]
        assert len(set(names[: len(model.graph)])) == len(model.graph)


def test_source_values_name_tensorflow_tensors(keras_files: Callable[[str, str], ReadRequest]) -> None:
    model = read(keras_files("digits_like", "keras"))
    conv = next(node for node in model.graph if node.op_type == "Conv")
    value = conv.outputs[0]
    assert metadata.source_value(value) == "digits_1/conv_1/BiasAdd:0"
    assert metadata.source_permutation(value) == (0, 3, 1, 2)
    dense = next(node for node in model.graph if node.op_type == "MatMul")
    assert metadata.source_value(dense.outputs[0]) == "digits_1/classes_1/MatMul:0"
    assert metadata.source_permutation(dense.outputs[0]) is None


def test_result_survives_a_file(keras_files: Callable[[str, str], ReadRequest], tmp_path: Path) -> None:
    model = read(keras_files("digits_like", "keras"))
    ir.save(model, tmp_path / "hub.onnx", external_data="hub.data")
    again = ir.load(tmp_path / "hub.onnx")
    assert weights(again) == weights(model)
    assert metadata.source_info(again) == metadata.source_info(model)


_READ = """
import sys, onnx_ir as ir
from bridge.formats.request import ReadRequest
from bridge_converters.tf_to_onnx.reader import read
from bridge.hub import metadata
import dataclasses
for path in sys.argv[2:]:
    model = read(ReadRequest(path, "keras"))
info = dataclasses.replace(metadata.source_info(model), exporter_seconds=0.0)
metadata.set_source_info(model, info)
open(sys.argv[1], "wb").write(ir.to_proto(model).SerializeToString(deterministic=True))
"""


def test_reading_is_deterministic(keras_files: Callable[[str, str], ReadRequest], tmp_path: Path) -> None:
    wanted = keras_files("digits_like", "keras").path
    other = keras_files("two_ends", "keras").path
    results = []
    for position, paths in enumerate(([wanted], [other, wanted])):
        folder = tmp_path / str(position)
        folder.mkdir()
        subprocess.run(
            [sys.executable, "-c", _READ, str(folder / "hub"), *paths],
            check=True,
            cwd=folder,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            capture_output=True,
        )
        results.append((folder / "hub").read_bytes())
    assert results[0] == results[1]
    assert str(tmp_path).encode() not in results[0]


def test_fixed_batch_stays_and_is_told(tmp_path: Path) -> None:
    import keras

    x = keras.Input(batch_shape=(2, 3), name="x")
    model = keras.Model(x, keras.layers.Dense(2, name="d")(x))
    model.get_layer("d").bias.assign([1.0, 2.0])
    model.save(tmp_path / "fixed.keras")
    hub = read_and_compare(ReadRequest(str(tmp_path / "fixed.keras"), "keras"), batches=(2,))
    assert hub.graph.inputs[0].shape == ir.Shape([2, 3])
    assert metadata.source_info(hub).notes == ("axis 0 of the input 'x' is fixed to 2 in the source",)


def test_static_batch_on_request(keras_files: Callable[[str, str], ReadRequest]) -> None:
    request = keras_files("digits_like", "keras")
    hub = read(ReadRequest(request.path, request.format, static_batch=True))
    assert hub.graph.inputs[0].shape == ir.Shape([1, 8, 8, 3])


def test_unknown_format() -> None:
    with pytest.raises(InputError, match="'pt2' is not a TensorFlow format"):
        read(ReadRequest("model.pt2", "pt2"))


def test_values_are_untouched(keras_files: Callable[[str, str], ReadRequest]) -> None:
    import keras

    request = keras_files("nested", "keras")
    hub = read(request)
    source = keras.models.load_model(request.path)
    kernel = hub.graph.initializers["other/conv/kernel"].const_value
    assert kernel is not None
    np.testing.assert_array_equal(kernel.numpy(), source.get_layer("other").get_layer("conv").kernel)
