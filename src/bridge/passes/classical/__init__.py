"""Classical machine learning (`ai.onnx.ml` and counts of n-grams) as computations on tensors.

The operators keep their models in lists of attributes: coefficients, support vectors, the nodes of
trees. Here the lists become constants of the model, stored with its weights, and the operators become
standard ones as far as these express them, and a few of bridge's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from bridge.hub.graph import all_nodes
from bridge.passes.classical.builder import DOMAIN, Builder
from bridge.passes.classical.features import FEATURES
from bridge.passes.classical.linear import linear_classifier, linear_regressor
from bridge.passes.classical.ngrams import tf_idf_vectorizer
from bridge.passes.classical.svm import svm_classifier, svm_regressor
from bridge.passes.classical.trees import TREES

_OF_ML = {
    **FEATURES,
    **TREES,
    "LinearClassifier": linear_classifier,
    "LinearRegressor": linear_regressor,
    "SVMClassifier": svm_classifier,
    "SVMRegressor": svm_regressor,
}
EXPRESSED: Mapping[tuple[str, str], Callable[[Builder], None]] = {
    ("", "TfIdfVectorizer"): tf_idf_vectorizer,
    **{(DOMAIN, op_type): express for op_type, express in _OF_ML.items()},
}
"""What is expressed, by domain and operator."""


def express_classical(model: ir.Model, *, text: bool) -> ir.Model:
    """Replace nodes that keep lists; without `text`, those that give or take text stay as they are.

    Does not keep the graph valid ONNX. Raises InputError for attributes that contradict each other.
    """
    for node in list(all_nodes(model)):
        express = EXPRESSED.get((node.domain, node.op_type))
        if express is None or (not text and _has_text(node)):
            continue
        express(Builder(node, model.graph, model.graph.opset_imports))
    return model


def _has_text(node: ir.Node) -> bool:
    """Whether text goes in or comes out; labels that nobody reads do not count."""
    outputs = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    values = [*node.inputs, *outputs]
    return any(value is not None and value.dtype == ir.DataType.STRING for value in values)
