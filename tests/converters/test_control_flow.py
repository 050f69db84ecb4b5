"""Control flow, sequences and optionals: what is emitted for small models, on both targets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from operator_cases.control import MODELS, ModelCase

from bridge.emit import preflight, registry
from bridge.emit.imported import load_emitted
from bridge.emit.registry import TargetName
from bridge.emit.writer import Emitted, emit
from bridge.formats import onnx_reader
from bridge.formats.request import ReadRequest
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors

TARGETS: tuple[TargetName, ...] = ("torch", "tf")


class AsPrinted:
    """A formatter that leaves the text as it is printed."""

    def format(self, text: str) -> str:
        return text


def convert(case: ModelCase, target: TargetName, directory: Path) -> Emitted:
    file = directory / "model.onnx"
    file.write_bytes(case.model.SerializeToString())
    hub = pipeline.canonicalise(onnx_reader.read(ReadRequest(str(file), "onnx")))
    prepared = pipeline.prepare(hub, target=target)
    table = registry.table(target)
    preflight.check(prepared, table)
    emitted = emit(prepared, table, registry.dialect(target), AsPrinted())
    (directory / "model.py").write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, np.ascontiguousarray)
    return emitted


def mapped(function: Any, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [mapped(function, each) for each in value]
    return None if value is None else function(value)


def assert_same(actual: list[Any], expected: list[Any]) -> None:
    assert len(actual) == len(expected)
    for mine, right in zip(actual, expected, strict=True):
        if isinstance(right, list):
            assert_same(mine, right)
            continue
        assert mine.dtype == right.dtype
        assert mine.shape == right.shape
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)


def outputs_of(results: Any, emitted: Emitted) -> list[Any]:
    return list(results) if len(emitted.outputs.names) > 1 else [results]


@pytest.mark.parametrize("case", MODELS, ids=lambda each: each.name)
def test_torch_gives_what_the_standard_says(case: ModelCase, tmp_path: Path) -> None:
    import torch

    emitted = convert(case, "torch", tmp_path)
    model = load_emitted(tmp_path)
    arguments = mapped(lambda each: torch.from_numpy(np.array(each)), case.inputs)
    results = outputs_of(model(*arguments), emitted)
    assert_same(mapped(lambda each: each.detach().numpy(), results), case.answer())


@pytest.mark.parametrize("case", MODELS, ids=lambda each: each.name)
def test_tensorflow_gives_what_the_standard_says(case: ModelCase, tmp_path: Path) -> None:
    import tensorflow as tf

    emitted = convert(case, "tf", tmp_path)
    model = load_emitted(tmp_path)
    arguments = mapped(tf.constant, case.inputs)
    results = outputs_of(model(*arguments), emitted)
    assert_same(mapped(lambda each: each.numpy(), results), case.answer())
    if emitted.inputs.others or emitted.outputs.others:
        return
    specs = [
        tf.TensorSpec([None if isinstance(size, str) else size for size in shape or ()], dtype)
        for shape, dtype in zip(emitted.inputs.shapes, emitted.inputs.dtypes, strict=True)
    ]
    traced = tf.function(lambda *given: model(*given), input_signature=specs, autograph=False)
    results = outputs_of(traced(*arguments), emitted)
    assert_same(mapped(lambda each: each.numpy(), results), case.answer())


STATIC = [each for each in MODELS if each.exported]
PLAIN = [each for each in STATIC if all(isinstance(value, np.ndarray) for value in each.inputs)]


@pytest.mark.parametrize("case", PLAIN, ids=lambda each: each.name)
def test_torch_exports_what_has_known_sizes(case: ModelCase, tmp_path: Path) -> None:
    import torch

    emitted = convert(case, "torch", tmp_path)
    arguments = tuple(torch.from_numpy(np.array(each)) for each in case.inputs)
    program = torch.export.export(load_emitted(tmp_path), arguments, strict=False)
    results = outputs_of(program.module()(*arguments), emitted)
    assert_same(mapped(lambda each: each.detach().numpy(), results), case.answer())


@pytest.mark.parametrize("name", ["for", "scan", "scan-axes"])
def test_tensorflow_compiles_what_has_known_sizes(name: str, tmp_path: Path) -> None:
    import tensorflow as tf

    case = next(each for each in MODELS if each.name == name)
    emitted = convert(case, "tf", tmp_path)
    model = load_emitted(tmp_path)
    compiled = tf.function(lambda *given: model(*given), jit_compile=True, autograph=False)
    results = outputs_of(compiled(*map(tf.constant, case.inputs)), emitted)
    assert_same(mapped(lambda each: each.numpy(), results), case.answer())


DIFFERENTIABLE = ["if-then", "nested-then", "while", "for", "growing", "scan", "scan-axes", "map", "split"]


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients_agree_between_the_targets(name: str, tmp_path: Path) -> None:
    import tensorflow as tf
    import torch

    case = next(each for each in MODELS if each.name == name)
    for target in TARGETS:
        (tmp_path / target).mkdir()
        convert(case, target, tmp_path / target)

    given = mapped(lambda each: torch.from_numpy(np.array(each)), case.inputs)
    leaves = [each for each in flat(given) if each.is_floating_point()]
    for each in leaves:
        each.requires_grad_()
    loss = sum(
        each.square().sum() for each in flat(load_emitted(tmp_path / "torch")(*given)) if each.requires_grad
    )
    right = [each.numpy() for each in torch.autograd.grad(loss, leaves)]

    variables = mapped(lambda each: tf.Variable(each), case.inputs)
    leaves = [each for each in flat(variables) if each.dtype.is_floating]
    model = load_emitted(tmp_path / "tf")
    with tf.GradientTape() as tape:
        results = flat(model(*mapped(tf.convert_to_tensor, variables)))
        loss = tf.add_n([tf.reduce_sum(each**2) for each in results if each.dtype.is_floating])
    assert_same([tf.convert_to_tensor(each).numpy() for each in tape.gradient(loss, leaves)], right)


def flat(value: Any) -> list[Any]:
    return [leaf for each in value for leaf in flat(each)] if isinstance(value, list | tuple) else [value]
