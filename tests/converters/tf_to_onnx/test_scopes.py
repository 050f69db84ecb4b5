from __future__ import annotations

import pytest
from bridge_converters.tf_to_onnx.functions import keras_path
from bridge_converters.tf_to_onnx.scopes import keras_scopes, module_scopes, split

from bridge.hub.metadata import ScopeEntry


def paths(nodes: list[str], reads: dict[str, list[str]] | None = None) -> dict[str, list[tuple[str, int]]]:
    found = keras_scopes(nodes, reads=reads or {})
    return {
        name: [(entry.name, entry.call) for entry in scope] for name, scope in found.scopes.items() if scope
    }


def test_calls_are_set_aside() -> None:
    assert split("StatefulPartitionedCall/PartitionedCall_1/net_1/MatMul") == (
        "StatefulPartitionedCall/PartitionedCall_1",
        ("net_1", "MatMul"),
    )
    assert split("PartitionedCall") == ("", ("PartitionedCall",))


def test_layers_and_operators_are_told_apart() -> None:
    assert paths(["net_1/bn_1/Cast/Read", "net_1/bn_1/Cast_1/Read", "net_1/bn_1/batchnorm/add"]) == {
        "net_1/bn_1": [("bn", 0)]
    }


def test_second_call_of_a_layer() -> None:
    assert paths(["net_1/shared_1/MatMul", "net_1/shared_3/MatMul"]) == {
        "net_1/shared_1": [("shared", 0)],
        "net_1/shared_3": [("shared", 1)],
    }


def test_layers_with_numbers_in_their_names() -> None:
    nodes = ["net_1/pool_1/Max", "net_1/pool_1_2/Max", "net_1/pool_2_1/Max"]
    assert paths(nodes) == {
        "net_1/pool_1": [("pool", 0)],
        "net_1/pool_1_2": [("pool_1", 0)],
        "net_1/pool_2_1": [("pool_2", 0)],
    }


def test_equal_names_with_different_weights_are_different_layers() -> None:
    nodes = ["net_1/dense_1/MatMul", "net_1/dense_3/MatMul", "net_1/dense_5/MatMul"]
    reads = {nodes[0]: ["a"], nodes[1]: ["b"], nodes[2]: ["a"]}
    assert paths(nodes, reads) == {
        "net_1/dense_1": [("dense", 0)],
        "net_1/dense_3": [("dense_1", 0)],
        "net_1/dense_5": [("dense", 1)],
    }


def test_root_is_known() -> None:
    assert keras_scopes(["net_1/a_1/Add"], reads={}).root == "net"


@pytest.mark.parametrize(
    ("name", "scope", "root", "expected"),
    [
        ("conv/kernel", "conv", "net", "conv/kernel"),
        ("net/conv/kernel", "conv", "net", "conv/kernel"),
        ("conv/kernel", "block/conv", "net", "block/conv/kernel"),
        ("block/conv/kernel", "block/conv", "net", "block/conv/kernel"),
        ("net/kernel", "dense", "net", "dense/kernel"),
        ("net/kernel_1", "dense_1", "net", "dense_1/kernel"),
        ("net/w", "", "net", "w"),
        ("net/kernel", "net", "net", "net/kernel"),
        ("lstm/lstm_cell/kernel", "lstm", "net", "lstm/lstm_cell/kernel"),
        ("mha/kernel", "mha/query", "net", "mha/query/kernel"),
        ("elsewhere/kernel", "conv", "net", "elsewhere/kernel"),
    ],
)
def test_paths_of_keras_variables(name: str, scope: str, root: str, expected: str) -> None:
    parts = tuple(scope.split("/")) if scope else ()
    assert "/".join(keras_path(tuple(name.split("/")), parts, root)) == expected


def test_plain_modules_are_known_by_what_they_read() -> None:
    found = module_scopes(
        [("block/dense/w/Read", ("block", "dense")), ("MatMul", ()), ("MatMul_1", ("out",))]
    )
    assert found == {
        "block": (ScopeEntry("block", "Module", 0),),
        "block/dense": (ScopeEntry("block", "Module", 0), ScopeEntry("dense", "Module", 0)),
        "MatMul_1": (ScopeEntry("out", "Module", 0),),
    }
