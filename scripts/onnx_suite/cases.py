"""The standard's own suite: every case that the `onnx` package generates or ships, with its data."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx.backend.test
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

Category = Literal["node", "simple", "pytorch-converted", "pytorch-operator", "light"]
CATEGORIES: tuple[Category, ...] = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")

RANDOM = frozenset(
    {
        "Bernoulli",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)
"""Operators whose values no two implementations share; their cases fix shapes and types only."""

TRAINING = "ai.onnx.preview.training"

Value = Any
"""An array, a list of values (a sequence), or None (an empty optional)."""


@dataclass(frozen=True)
class SuiteCase:
    """One case: a model, and what it gives for which inputs within which tolerances."""

    name: str
    category: Category
    test: TestCase

    @property
    def rtol(self) -> float:
        return float(self.test.rtol)

    @property
    def atol(self) -> float:
        return float(self.test.atol)

    @cached_property
    def model(self) -> onnx.ModelProto:
        """The model; that of a light case has weights that its nodes compute."""
        if self.test.model is not None:
            return self.test.model
        return onnx.load(_light_file(self.test) if self.category == "light" else self._folder / "model.onnx")

    @property
    def _folder(self) -> Path:
        return Path(str(self.test.model_dir))

    def data_sets(self) -> Iterator[tuple[list[Value], list[Value]]]:
        """Inputs and expected outputs; light models are fed as ONNX's own runner feeds them."""
        if self.category == "light":
            weights = {each.name for each in self.model.graph.initializer}
            free = [each for each in self.model.graph.input if each.name not in weights]
            inputs: list[Value] = [Runner.generate_dummy_data(each) for each in free]
            file = _light_file(self.test)
            expected = read_value(file.with_name(f"{file.stem}_output_0.pb"), self.model.graph.output[0].type)
            yield inputs, [expected]
        elif self.test.data_sets is not None:
            for given, expected_values in self.test.data_sets:
                yield [_plain(each) for each in given], [_plain(each) for each in expected_values]
        else:
            for folder in sorted(self._folder.glob("test_data_set_*")):
                yield (
                    [
                        read_value(file, each.type)
                        for file, each in _files(folder, "input", self.model.graph.input)
                    ],
                    [
                        read_value(file, each.type)
                        for file, each in _files(folder, "output", self.model.graph.output)
                    ],
                )

    @cached_property
    def operators(self) -> tuple[str, ...]:
        """The operators of the model, those inside functions and subgraphs included, with their domains."""
        found: dict[str, None] = {}

        def visit(nodes: Any) -> None:
            for node in nodes:
                domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
                found[f"{domain}{node.op_type}"] = None
                for attribute in node.attribute:
                    visit(attribute.g.node)
                    for graph in attribute.graphs:
                        visit(graph.node)

        visit(self.model.graph.node)
        for function in self.model.functions:
            visit(function.node)
        return tuple(sorted(found))

    @cached_property
    def is_random(self) -> bool:
        """Whether its outputs are drawn at random: what it draws with, or training with Dropout."""
        return bool(RANDOM & set(self.operators)) or self._drops_elements

    @property
    def _drops_elements(self) -> bool:
        """Whether a Dropout node is in training mode with a ratio above zero."""
        for node in self.model.graph.node:
            if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
                continue
            names = [each.name for each in self.model.graph.input]
            for inputs, _ in self.data_sets():
                known = dict(zip(names, inputs, strict=False))
                ratio = known.get(node.input[1], 0.5) if node.input[1] else 0.5
                if np.any(known.get(node.input[2], False)) and np.any(np.asarray(ratio) > 0):
                    return True
        return False

    @property
    def is_single_node(self) -> bool:
        """Whether its model is one node."""
        return len(self.model.graph.node) == 1 and not self.model.functions

    @property
    def kind(self) -> Literal["tensors", "strings", "sequences", "training"]:
        """What its values are: the suite's groups."""
        if any(domain.domain == TRAINING for domain in self.model.opset_import):
            return "training"
        types = [each.type for each in (*self.model.graph.input, *self.model.graph.output)]
        if any(each.WhichOneof("value") != "tensor_type" for each in types):
            return "sequences"
        if any(each.tensor_type.elem_type == onnx.TensorProto.STRING for each in types):
            return "strings"
        return "tensors"


def collect() -> dict[str, SuiteCase]:
    """All cases by name, in a fixed order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        found = [SuiteCase(each.name, "node", each) for each in collect_testcases(None)]
    for category in CATEGORIES[1:]:
        kind = "real" if category == "light" else category
        tests = sorted(load_model_tests(kind=kind), key=lambda each: each.name)
        found += [SuiteCase(each.name, category, each) for each in tests]
    return {each.name: each for each in found}


def operator_of(case: SuiteCase, known: dict[str, SuiteCase]) -> str:
    """The operator that a case is about, else its category.

    It is that of its only node; for a function written out, that of the case of the function itself; else
    the one that its name begins with.
    """
    if len(case.operators) == 1:
        return case.operators[0]
    whole = known.get(re.sub(r"_expanded.*", "", case.name), case)
    if whole is not case and len(whole.operators) == 1:
        return whole.operators[0]
    if case.category == "light":
        return case.category
    words = case.name.removeprefix("test_").replace("_", "").lower()
    matching = [each for each in _operator_names() if words.startswith(each.rpartition(".")[2].lower())]
    return max(matching, key=len, default=case.category)


def write_value(value: Value, file: Path) -> None:
    """Write a value as ONNX's test data are; `read_value` gives it back."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if value is None:
        message: Any = onnx.OptionalProto()
    elif isinstance(value, list | tuple):
        message = numpy_helper.from_list(list(value))
    else:
        message = numpy_helper.from_array(np.asarray(value))
    file.write_bytes(message.SerializeToString())


def _light_file(test: TestCase) -> Path:
    package = Path(onnx.backend.test.__file__).parent
    return package / Path(str(test.url)).relative_to("onnx/backend/test")


def _operator_names() -> list[str]:
    return [
        schema.name if not schema.domain else f"{schema.domain}.{schema.name}"
        for schema in onnx.defs.get_all_schemas()
    ]


def _files(folder: Path, role: str, values: Any) -> Iterator[tuple[Path, Any]]:
    for index, value in enumerate(values):
        file = folder / f"{role}_{index}.pb"
        if file.is_file():
            yield file, value


def read_value(file: Path, type_: onnx.TypeProto) -> Value:
    """The value of a type that a file of test data holds."""
    data = file.read_bytes()
    match type_.WhichOneof("value"):
        case "sequence_type":
            sequence = onnx.SequenceProto.FromString(data)
            return numpy_helper.to_list(sequence)
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
        case _:
            return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def _plain(value: Any) -> Value:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if value is None else np.asarray(value)
