"""Classical machine learning on both targets: what the emitted text gives, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from bridge.errors import BridgeError, UnsupportedOps
from scripts.onnx_suite import engines

Array = np.ndarray[Any, np.dtype[Any]]
TARGETS = ("torch", "tf")
X = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)


def model_of(op: str, inputs: list[Array], *, outputs: int = 1, version: int = 3, **attributes: Any) -> Any:
    """A model of one node with rows that it leaves open; its outputs are declared as they turn out."""
    names = [f"x{i}" for i in range(len(inputs))]
    node = helper.make_node(op, names, [f"y{i}" for i in range(outputs)], domain="ai.onnx.ml", **attributes)
    graph = helper.make_graph(
        [node],
        "classical",
        [
            helper.make_tensor_value_info(name, element_type(value), ["n", *value.shape[1:]])
            for name, value in zip(names, inputs, strict=True)
        ],
        [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", version)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    results = runtime(model, inputs)
    del model.graph.output[:]
    for i, value in enumerate(results):
        shape = [f"y{i}_{axis}" for axis in range(value.ndim)]
        model.graph.output.append(helper.make_tensor_value_info(f"y{i}", element_type(value), shape))
    return model


def element_type(value: Array) -> int:
    text = value.dtype.kind in "OU"
    return onnx.TensorProto.STRING if text else int(helper.np_dtype_to_tensor_dtype(value.dtype))


def runtime(model: onnx.ModelProto, inputs: list[Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [
        np.asarray(each) for each in session.run(None, {f"x{i}": value for i, value in enumerate(inputs)})
    ]


def emitted(model: onnx.ModelProto, inputs: list[Array], target: Any, folder: Path) -> list[Array]:
    folder.mkdir(exist_ok=True)
    written = engines.convert(model, target, folder)
    return [np.asarray(each) for each in engines.load(target, folder, written)(inputs)]


def check(
    model: onnx.ModelProto,
    inputs: list[Array],
    folder: Path,
    *,
    targets: tuple[str, ...] = TARGETS,
    expected: list[Array] | None = None,
    rtol: float = 1e-5,
) -> None:
    right = runtime(model, inputs) if expected is None else expected
    for target in targets:
        actual = emitted(model, inputs, target, folder / target)
        assert len(actual) == len(right)
        for mine, theirs in zip(actual, right, strict=True):
            assert mine.shape == theirs.shape
            if theirs.dtype.kind in "OU":
                assert mine.tolist() == theirs.tolist()
                continue
            assert mine.dtype == theirs.dtype
            np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol)


FEATURES: dict[str, tuple[str, list[Array], dict[str, Any]]] = {
    "extract": ("ArrayFeatureExtractor", [X, np.array([[2, 0]])], {}),
    "binarize": ("Binarizer", [X], {"threshold": 0.25}),
    "join": ("FeatureVectorizer", [X, X[:, :2]], {"inputdimensions": [4, 2]}),
    "impute": ("Imputer", [np.array([[1, np.nan], [np.nan, 2]], np.float32)], {
        "imputed_value_floats": [7.0, 8.0], "replaced_value_float": float("nan")}),
    "impute-value": ("Imputer", [np.array([[1, -9], [-9, 2]], np.float32)], {
        "imputed_value_floats": [7.0], "replaced_value_float": -9.0}),
    "impute-int": ("Imputer", [np.array([[1, -9], [-9, 2]])], {
        "imputed_value_int64s": [7], "replaced_value_int64": -9}),
    "scale": ("Scaler", [X], {"offset": [0.5, 1.0, -1.0, 0.0], "scale": [2.0, 1.0, 0.5, 3.0]}),
    "scale-one": ("Scaler", [X], {"offset": [0.5], "scale": [2.0]}),
    "scale-int": ("Scaler", [np.array([[1, -9], [-9, 2]])], {"offset": [0.5], "scale": [2.0]}),
    "one-hot": ("OneHotEncoder", [np.array([[1, 2], [3, 9]])], {"cats_int64s": [1, 2, 3]}),
    "one-hot-float": ("OneHotEncoder", [np.array([1.0, 3.5], np.float32)], {"cats_int64s": [1, 2, 3]}),
    **{f"normalize-{norm}": ("Normalizer", [np.vstack([X, np.zeros((1, 4), np.float32)])], {"norm": norm})
       for norm in ("MAX", "L1", "L2")},
    "label-int-float": ("LabelEncoder", [np.array([[5, 3], [9, -1]])], {
        "keys_int64s": [9, 5, 3], "values_floats": [0.9, 0.5, 0.3], "default_float": -1.0}),
    "label-float-int": ("LabelEncoder", [np.array([0.5, 2.0, 9.0], np.float32)], {
        "keys_floats": [9.0, 0.5], "values_int64s": [90, 5], "default_int64": 4}),
    "label-many": ("LabelEncoder", [np.arange(-3, 300)], {
        "keys_int64s": list(range(200)), "values_int64s": [7 * i % 13 for i in range(200)]}),
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_features(name: str, tmp_path: Path) -> None:
    op, inputs, attributes = FEATURES[name]
    check(model_of(op, inputs, version=2, **attributes), inputs, tmp_path)


TEXTS = np.array(["b", "a", "ä", ""], object)
TEXT: dict[str, tuple[str, list[Array], dict[str, Any]]] = {
    "label-text-int": ("LabelEncoder", [TEXTS], {
        "keys_strings": ["a", "ä"], "values_int64s": [1, 2], "default_int64": -4}),
    "label-int-text": ("LabelEncoder", [np.array([3, 1, 7])], {
        "keys_int64s": [1, 3], "values_strings": ["one", "drei"], "default_string": "?"}),
    "label-text-text": ("LabelEncoder", [TEXTS], {"keys_strings": ["a"], "values_strings": ["A"]}),
    "map-text": ("CategoryMapper", [TEXTS], {
        "cats_strings": ["a", "b"], "cats_int64s": [4, 5], "default_int64": 9}),
    "map-int": ("CategoryMapper", [np.array([4, 7])], {
        "cats_strings": ["a", "b"], "cats_int64s": [4, 5], "default_string": "z"}),
    "one-hot-text": ("OneHotEncoder", [TEXTS], {"cats_strings": ["a", "b"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXT)
def test_text_is_tensorflow_only(name: str, tmp_path: Path) -> None:
    op, inputs, attributes = TEXT[name]
    model = model_of(op, inputs, version=2, **attributes)
    check(model, inputs, tmp_path, targets=("tf",))
    with pytest.raises(BridgeError):
        emitted(model, inputs, "torch", tmp_path / "torch")


@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_linear_models(transform: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    matrix, shift = rng.normal(size=12).tolist(), [0.1, -0.2, 0.0]
    classifier = {
        "coefficients": matrix,
        "intercepts": shift,
        "classlabels_ints": [5, 3, 8],
        "post_transform": transform,
    }
    check(model_of("LinearClassifier", [X], outputs=2, version=1, **classifier), [X], tmp_path)
    binary = {
        "coefficients": matrix[:4],
        "intercepts": [0.3],
        "classlabels_ints": [5, 3],
        "post_transform": transform,
    }
    check(model_of("LinearClassifier", [X], outputs=2, version=1, **binary), [X], tmp_path)
    regressor = {"coefficients": matrix, "intercepts": shift, "targets": 3, "post_transform": transform}
    check(model_of("LinearRegressor", [X], version=1, **regressor), [X], tmp_path)
    single = {"coefficients": matrix[:4], "targets": 1, "post_transform": transform}
    model = model_of("LinearRegressor", [X], version=1, **single)
    if transform == "NONE":
        check(model, [X], tmp_path)
    else:
        with pytest.raises(BridgeError, match="single target"):
            emitted(model, [X], "torch", tmp_path)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("classes", [2, 3, 4])
def test_svm_classifier(kernel: str, probabilities: bool, classes: int, tmp_path: Path) -> None:
    from sklearn.svm import SVC

    rng = np.random.default_rng(classes)
    labels = np.arange(60) % classes
    data = (rng.normal(size=(60, 4)) + 1.5 * labels[:, None] * rng.normal(size=4)).astype(np.float32)
    fitted = SVC(kernel=kernel.lower(), gamma=0.1, coef0=0.2, degree=2).fit(data, labels)
    pairs = classes * (classes - 1) // 2
    rho = fitted.intercept_ if classes > 2 else -fitted.intercept_
    dual = fitted.dual_coef_ if classes > 2 else -fitted.dual_coef_
    attributes = {
        "coefficients": dual.ravel().tolist(),
        "support_vectors": fitted.support_vectors_.ravel().tolist(),
        "vectors_per_class": fitted.n_support_.tolist(),
        "rho": rho.tolist(),
        "kernel_type": kernel,
        "kernel_params": [0.1, 0.2, 2.0],
        "classlabels_ints": [10 * each for each in range(classes)],
    }
    if probabilities:
        attributes |= {"prob_a": [-1.5] * pairs, "prob_b": [0.1] * pairs}
    model = model_of("SVMClassifier", [data], outputs=2, version=1, **attributes)
    check(model, [data], tmp_path, rtol=2e-4)
    if not probabilities:
        found, _ = emitted(model, [data], "torch", tmp_path)
        np.testing.assert_array_equal(found, 10 * fitted.predict(data))


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
@pytest.mark.parametrize("one_class", [0, 1])
def test_svm_regressor(kernel: str, one_class: int, tmp_path: Path) -> None:
    attributes = {
        "coefficients": [1.0, -0.5, 0.25],
        "support_vectors": X[:3].ravel().tolist(),
        "n_supports": 3,
        "rho": [0.125],
        "kernel_type": kernel,
        "kernel_params": [0.1, 0.2, 3.0],
        "one_class": one_class,
    }
    check(model_of("SVMRegressor", [X], version=1, **attributes), [X], tmp_path)


def tree_attributes(trees: list[Any], role: str, leaf: Any) -> dict[str, Any]:
    """The parallel lists of ONNX of sklearn's trees; `leaf` gives the (target, weight) pairs of a leaf."""
    lists: dict[str, list[Any]] = {
        f"nodes_{each}": []
        for each in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    lists |= {f"{role}_{each}": [] for each in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(trees):
        for node in range(tree.node_count):
            inner = tree.children_left[node] >= 0
            lists["nodes_treeids"].append(number)
            lists["nodes_nodeids"].append(node)
            lists["nodes_featureids"].append(int(tree.feature[node]) if inner else 0)
            lists["nodes_values"].append(float(np.float32(tree.threshold[node])) if inner else 0.0)
            lists["nodes_modes"].append("BRANCH_LEQ" if inner else "LEAF")
            lists["nodes_truenodeids"].append(int(tree.children_left[node]) if inner else 0)
            lists["nodes_falsenodeids"].append(int(tree.children_right[node]) if inner else 0)
            for target, weight in leaf(number, tree, node) if not inner else ():
                lists[f"{role}_treeids"].append(number)
                lists[f"{role}_nodeids"].append(node)
                lists[f"{role}_ids"].append(target)
                lists[f"{role}_weights"].append(float(weight))
    return lists


@pytest.mark.parametrize("classes", [2, 3])
def test_random_forest_as_sklearn_and_onnxruntime(classes: int, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(0)
    data = rng.normal(size=(200, 6)).astype(np.float32)
    labels = (data[:, 0] + data[:, 1] * data[:, 2] > 0).astype(int) + (classes > 2) * (data[:, 3] > 0.5)
    forest = RandomForestClassifier(20, max_depth=8, random_state=0).fit(data, labels)

    def leaf(number: int, tree: Any, node: int) -> list[tuple[int, float]]:
        shares = tree.value[node][0] / tree.value[node][0].sum() / len(forest.estimators_)
        return [(0, shares[1])] if classes == 2 else list(enumerate(shares))

    attributes = tree_attributes([each.tree_ for each in forest.estimators_], "class", leaf)
    attributes |= {"classlabels_int64s": [int(each) for each in forest.classes_], "post_transform": "NONE"}
    model = model_of("TreeEnsembleClassifier", [data], outputs=2, **attributes)
    check(model, [data], tmp_path)
    label, probabilities = emitted(model, [data], "tf", tmp_path)
    np.testing.assert_array_equal(label, forest.predict(data))
    np.testing.assert_allclose(probabilities, forest.predict_proba(data), atol=1e-5)
    source = (tmp_path / "model.py").read_text()
    assert len(source.splitlines()) < 120


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tree_regressor(aggregate: str, dtype: Any, tmp_path: Path) -> None:
    from sklearn.ensemble import ExtraTreesRegressor

    rng = np.random.default_rng(0)
    data = (4 * rng.normal(size=(100, 5))).astype(np.float32)
    wanted = np.stack([data[:, 0] * data[:, 1], data[:, 2]], 1)
    forest = ExtraTreesRegressor(7, max_depth=6, random_state=0).fit(data, wanted)
    attributes = tree_attributes(
        [each.tree_ for each in forest.estimators_],
        "target",
        lambda number, tree, node: list(enumerate(tree.value[node][:, 0])),
    )
    attributes |= {"n_targets": 2, "aggregate_function": aggregate, "base_values": [0.5, -1.0]}
    given = data.astype(dtype)
    check(model_of("TreeEnsembleRegressor", [given], **attributes), [given], tmp_path)


MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


@pytest.mark.parametrize("modes", [*([each] * 3 for each in MODES), MODES[:3], MODES[3:]])
@pytest.mark.parametrize("missing", [None, [1, 0, 1, 0, 0, 0, 0]])
def test_modes_and_missing_values(modes: list[str], missing: list[int] | None, tmp_path: Path) -> None:
    data = np.array(
        [[0.5, 1], [0, 1], [-1, 2], [np.nan, 0.5], [0.5, np.nan], [1, 1], [np.nan, np.nan]], np.float32
    )
    attributes = {
        "nodes_treeids": [0] * 7,
        "nodes_nodeids": list(range(7)),
        "nodes_featureids": [0, 1, 1, 0, 0, 0, 0],
        "nodes_values": [0.5, 1.0, 0.5, 0.0, 0.0, 0.0, 0.0],
        "nodes_modes": [*modes, "LEAF", "LEAF", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 3, 5, 0, 0, 0, 0],
        "nodes_falsenodeids": [2, 4, 6, 0, 0, 0, 0],
        "target_treeids": [0] * 4,
        "target_nodeids": [3, 4, 5, 6],
        "target_ids": [0] * 4,
        "target_weights": [1.0, 2.0, 4.0, 8.0],
        "n_targets": 1,
    }
    if missing is not None:
        attributes["nodes_missing_value_tracks_true"] = missing
    check(model_of("TreeEnsembleRegressor", [data], **attributes), [data], tmp_path)


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("weights", [[0.1, 0.2, 0.3, 0.45], [-0.1, 0.2, -0.3, 0.45]])
@pytest.mark.parametrize("transform", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_two_labels_of_which_one_has_weights(
    column: int, weights: list[float], transform: str, tmp_path: Path
) -> None:
    data = np.array([[1, 2], [-3, 0.5], [0, 0]], np.float32)
    attributes = {
        "nodes_treeids": [0, 0, 0, 1, 1, 1],
        "nodes_nodeids": [0, 1, 2, 0, 1, 2],
        "nodes_featureids": [0, 0, 0, 1, 0, 0],
        "nodes_values": [0.0, 0, 0, 1, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"] * 2,
        "nodes_truenodeids": [1, 0, 0] * 2,
        "nodes_falsenodeids": [2, 0, 0] * 2,
        "class_treeids": [0, 0, 1, 1],
        "class_nodeids": [1, 2, 1, 2],
        "class_ids": [column] * 4,
        "class_weights": weights,
        "classlabels_int64s": [5, 7],
        "post_transform": transform,
    }
    check(model_of("TreeEnsembleClassifier", [data], outputs=2, **attributes), [data], tmp_path)


@pytest.mark.parametrize("aggregate", [0, 1, 2, 3])
def test_trees_of_version_5_with_sets(aggregate: int, tmp_path: Path) -> None:
    data = np.array([[1.2, 3], [-3, 10], [0, 15], [1.2, 4], [5, 2]], np.float32)
    tensor = helper.make_tensor
    attributes = {
        "n_targets": 2,
        "aggregate_function": aggregate,
        "tree_roots": [0],
        "nodes_featureids": [0, 1, 0],
        "nodes_splits": tensor("s", onnx.TensorProto.FLOAT, (3,), [3.14, 1.2, 4.2]),
        "nodes_modes": tensor("m", onnx.TensorProto.UINT8, (3,), [0, 6, 1]),
        "nodes_truenodeids": [1, 0, 1],
        "nodes_falsenodeids": [2, 2, 3],
        "nodes_trueleafs": [0, 1, 1],
        "nodes_falseleafs": [0, 1, 1],
        "membership_values": tensor("v", onnx.TensorProto.FLOAT, (4,), [3.0, 10.0, 15.0, float("nan")]),
        "leaf_targetids": [0, 1, 0, 1],
        "leaf_weights": tensor("w", onnx.TensorProto.FLOAT, (4,), [5.23, 12.12, -12.23, 7.21]),
    }
    attributes["nodes_falsenodeids"] = [2, 2, 3]
    check(model_of("TreeEnsemble", [data], version=5, **attributes), [data], tmp_path)


def test_text_labels_need_tensorflow(tmp_path: Path) -> None:
    attributes = {"coefficients": [1.0] * 8, "intercepts": [0.0, 0.5], "classlabels_strings": ["no", "yes"]}
    model = model_of("LinearClassifier", [X], outputs=2, version=1, **attributes)
    check(model, [X], tmp_path, targets=("tf",))
    with pytest.raises(UnsupportedOps, match="text"):
        emitted(model, [X], "torch", tmp_path / "torch")
