from __future__ import annotations

from pathlib import Path

from bridge.hub.anchors import Anchor, Anchors
from bridge.hub.recipe import Source, Step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.localise.weights import wrong_weight
from bridge.verification.matching import Suspect, ValueMatch
from bridge.verification.weighing import Weights
from bridge.verification.weights import WeightDifference, WeightsResult


def weight_map() -> WeightMap:
    recipe = Step("transpose", (Source("layer.0.conv.weight"),), (("perm", (2, 3, 1, 0)),))
    tensor = TensorMap("layer/0/conv/kernel", (3, 3, 2, 4), "float32", "parameter", True, recipe)
    return WeightMap("torch", "tf", (tensor,), {})


def anchor(scope: str, line: int) -> Anchor:
    return Anchor(f"hub{line}", "conv2d", scope, "net.py:7", "Conv", "layer.0", (0,), line, "y", None)


def test_the_node_that_takes_a_wrong_weight_of_a_converted_model(tmp_path: Path) -> None:
    weight_map().save(tmp_path / "weights.json")
    Anchors("model.py", (anchor("layer.1.conv", 10), anchor("layer.0.conv", 20))).save(
        tmp_path / "anchors.json"
    )
    difference = WeightDifference("layer/0/conv/kernel", "1 of 72 elements differ")
    result = WeightsResult(1, 71, 0, (difference,), (), ())
    found = wrong_weight(Weights(result=result), tmp_path)
    assert found is not None
    assert found.how == "weights"
    assert (found.target.operator, found.target.location) == ("Conv", "model.py:20")
    assert found.source is not None
    assert found.source.scope == "layer.0.conv"
    assert "1 of 72 elements differ" in found.summary()


def test_a_weight_that_no_anchor_takes_is_named_itself(tmp_path: Path) -> None:
    weight_map().save(tmp_path / "weights.json")
    Anchors("model.py", ()).save(tmp_path / "anchors.json")
    result = WeightsResult(1, 0, 0, (WeightDifference("layer/0/conv/kernel", "no such tensor"),), (), ())
    found = wrong_weight(Weights(result=result), tmp_path)
    assert found is not None
    assert (found.target.name, found.target.scope) == ("layer/0/conv/kernel", "layer/0/conv")


def test_only_a_suspect_that_decides_is_a_wrong_weight() -> None:
    def match(decides: bool) -> Weights:
        suspect = Suspect("dense/kernel", "fc.weight", "equals it rounded to float16", decides)
        return Weights(match=ValueMatch(WeightMap("", "", (), {}), 0, (), (), (suspect,), (), ()))

    assert wrong_weight(match(False), None) is None
    found = wrong_weight(match(True), None)
    assert found is not None
    assert found.source is not None
    assert (found.source.name, found.source.scope, found.target.scope) == ("fc.weight", "fc", "dense")
    assert wrong_weight(Weights(), None) is None
