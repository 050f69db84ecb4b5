"""The evidence about planted faults: where faults apply, what they change, and how reports are judged."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from bridge.hub import metadata, recipe
from bridge.hub.metadata import WeightInfo
from bridge.verification.localise import Localisation
from bridge.verification.localise.result import Place
from bridge.verification.report import Report, SideReport
from scripts.proof import planted_faults
from scripts.proof.plants import effects, graph_faults
from scripts.proof.plants.architectures import Input
from scripts.proof.plants.catalog import MODELS, Plant
from scripts.proof.plants.faults import KINDS, Fault, Faults, chosen


def _hub() -> ir.Model:
    """A convolution with BatchNorm, then a clip; the kernel is trained."""
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["": 23]>
        net (float[n,2,6,5] x, float[3,2,3,3] w, float[3] b, float[3] s, float low, float high)
            => (float[n,3,6,5] y)
        {
            c = Conv <pads = [1, 1, 1, 1], kernel_shape = [3, 3]> (x, w, b)
            r = BatchNormalization <epsilon = 1e-5> (c, s, s, s, s)
            y = Clip (r, low, high)
        }"""
    )
    generator = np.random.default_rng(0)
    for value in list(model.graph.inputs)[1:]:
        model.graph.inputs.remove(value)
        array = generator.standard_normal(tuple(value.shape or ())).astype(np.float32)
        value.const_value = ir.Tensor(array, name=value.name)
        model.graph.register_initializer(value)
        if value.name in ("w", "b"):
            metadata.set_weight_info(value, WeightInfo(f"conv.{value.name}", "parameter", True))
            metadata.set_recipe_record(value, recipe.to_json(recipe.Source(f"conv.{value.name}")))
    for node in model.graph:
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return model


def _node(model: ir.Model, value: str) -> ir.Node:
    return next(node for node in model.graph if node.outputs[0].name == value)


def test_every_graph_fault_is_a_known_kind() -> None:
    assert graph_faults.GRAPH_FAULTS.keys() <= KINDS.keys()


def test_a_graph_has_the_faults_of_its_nodes() -> None:
    found = {(each.kind, each.node) for each in graph_faults.sites(_hub())}
    assert ("padding_shift", "c") in found
    assert ("transposed_kernel", "c") in found
    assert ("epsilon", "r") in found
    assert ("clipped_range", "y") in found
    assert not {kind for kind, _ in found} & {"group_order", "dilations_swapped", "gelu_tanh"}


def test_a_wrong_move_is_in_the_weight_and_in_its_recipe() -> None:
    model = _hub()
    before = _node(model, "c").inputs[1]
    assert before is not None
    graph_faults.plant(model, Fault("transposed_kernel", "c"))
    after = _node(model, "c").inputs[1]
    assert after is not None
    assert after.const_value is not None
    assert before.const_value is not None
    wrong = before.const_value.numpy().transpose(0, 1, 3, 2)
    np.testing.assert_array_equal(after.const_value.numpy(), wrong)
    steps = recipe.from_json(metadata.recipe_record(after))
    np.testing.assert_array_equal(recipe.run(steps, {"conv.w": before.const_value.numpy()}), wrong)


def test_a_wrong_number_is_not_in_the_recipe() -> None:
    model = _hub()
    graph_faults.plant(model, Fault("perturbed_weight", "c"))
    weight = _node(model, "c").inputs[1]
    assert weight is not None
    assert metadata.recipe_record(weight) == {"source": "conv.w"}


@pytest.mark.parametrize("kind", ["activation_half", "lost_nan"])
def test_what_is_put_behind_a_node_takes_its_name(kind: str) -> None:
    model = _hub()
    graph_faults.plant(model, Fault(kind, "y"))
    names = [value.name for node in model.graph for value in node.outputs]
    assert names[-1] == "y"
    assert len(names) == len(set(names))
    assert model.graph.outputs[0].name == "y"
    assert _node(model, "y").op_type != "Clip"


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(KeyError):
        graph_faults.plant(_hub(), Fault("epsilon", "nowhere"))


def test_faults_are_listed_as_they_are_asked_for() -> None:
    faults = Faults(Fault("epsilon", "norm"))
    assert [faults.at("epsilon", "norm"), faults.at("epsilon", "other")] == [True, False]
    assert list(faults.asked) == [Fault("epsilon", "norm"), Fault("epsilon", "other")]
    with pytest.raises(KeyError):
        faults.at("no such kind", "norm")


@pytest.mark.parametrize("count", [1, 2, 5])
def test_chosen_faults_are_few_of_each_kind(count: int) -> None:
    available = [Fault(kind, str(node)) for kind in ("epsilon", "ceil_mode") for node in range(3)]
    taken = chosen(available, count)
    assert len(taken) == 2 * min(count, 3) == len(set(taken))


@pytest.mark.parametrize(
    ("honest", "planted", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([3.0, 4.0], [3.0, 4.5], 0.125),
        ([1.0, np.nan], [1.0, np.nan], 0.0),
        ([1.0, np.nan], [1.0, 0.0], np.inf),
        ([1.0, np.inf], [1.0, -np.inf], np.inf),
        ([1.0], [1.0, 1.0], np.inf),
        ([0.0], [1e-9], np.inf),
    ],
)
def test_distances(honest: list[float], planted: list[float], expected: float) -> None:
    assert effects.distance(np.asarray(honest), np.asarray(planted)) == pytest.approx(expected)


def test_integers_differ_entirely_or_not_at_all() -> None:
    assert effects.distance(np.asarray([1, 2]), np.asarray([1, 2])) == 0.0
    assert effects.distance(np.asarray([1, 2]), np.asarray([1, 3])) == np.inf


def test_draws_stay_within_the_limit_of_ids_and_take_both_signs_without() -> None:
    made = effects.draws([Input("ids", (4,), "int64", 7), Input("numbers", (4,), "int64")])
    ids, numbers = (np.concatenate([each[name] for each in made]) for name in ("ids", "numbers"))
    assert ids.min() >= 0
    assert ids.max() < 7
    assert numbers.min() < 0 < numbers.max()


@pytest.mark.parametrize(
    ("effect", "expected"),
    [
        (effects.Effect(), False),
        (effects.Effect(weights=True), True),
        (effects.Effect(function=[0.0, 5e-6]), False),
        (effects.Effect(function=[0.0, 5e-5]), True),
        (effects.Effect(gradients=1e-9), False),
        (effects.Effect(gradients=1e-3), True),
        (effects.Effect(training=1e-3), True),
    ],
)
def test_what_counts(effect: effects.Effect, expected: bool) -> None:
    assert planted_faults.counts(effect, {"0": 1e-7, "1": 1e-7}) is expected


def _report(*block: Place, target: Place, **fields: Any) -> Report:
    place = Localisation(None, target, 1.0, "anchors", target_block=block)
    side = SideReport("model", "a model")
    report = Report("different", ("it differs",), side, side, 0, "nothing", localisation=place)
    return dataclasses.replace(report, **fields)


def test_a_converted_model_is_named_by_the_hub_value_alone() -> None:
    plant = Plant("resnet", Fault("epsilon", "layer1.norm"), ("layer1.norm",))
    right, near = Place("layer1.norm", "BatchNormalization"), Place("layer1.norm2", "BatchNormalization")
    assert planted_faults.is_named(MODELS["resnet"], plant, _report(target=right))
    assert not planted_faults.is_named(MODELS["resnet"], plant, _report(target=near))


def test_a_hand_written_model_is_named_by_a_block_within_the_layer() -> None:
    plant = Plant("convolutional", Fault("epsilon", "stem_norm"), ("stem_norm",))
    inside = [Place(f"call/stem_norm/{name}:0", name) for name in ("mul", "sub")]
    outside = Place("call/stem_norm2/mul:0", "mul")
    model = MODELS["convolutional"]
    assert planted_faults.is_named(model, plant, _report(*inside, target=inside[0]))
    assert not planted_faults.is_named(model, plant, _report(*inside, outside, target=inside[0]))


def test_a_report_without_a_place_names_nothing() -> None:
    plant = Plant("resnet", Fault("epsilon", "norm"), ("norm",))
    report = _report(target=Place("norm", "Add"), localisation=None)
    assert not planted_faults.is_named(MODELS["resnet"], plant, report)
