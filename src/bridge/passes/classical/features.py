"""Preparation of features: scaling, imputing, encoding."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from bridge.hub.recipe import Array
from bridge.passes.classical.builder import Builder

_FLOAT = ir.DataType.FLOAT
_INT64 = ir.DataType.INT64
_STRING = ir.DataType.STRING


def array_feature_extractor(build: Builder) -> None:
    """The columns of X at the indices Y; a vector counts as one row."""
    indices = build.node.inputs[1]
    assert indices is not None
    flat = build.call("Reshape", indices, build.constant(np.asarray([-1]), "flat"), rank=1)
    x = build.x
    if x.shape is not None and len(x.shape) == 1:
        x = build.call("Unsqueeze", x, build.constant(np.asarray([0]), "axis"), rank=2)
    build.replace(build.call("Gather", x, flat, axis=-1))


def binarizer(build: Builder) -> None:
    """1 where X is above the threshold, 0 elsewhere."""
    bound = np.asarray(build.attribute("threshold"), build.input_type().numpy())
    above = build.call("Greater", build.x, build.constant(bound, "threshold"))
    build.replace(build.cast(above, build.input_type()))


def feature_vectorizer(build: Builder) -> None:
    """All inputs as floats, side by side."""
    parts = [build.cast(value, _FLOAT) for value in build.node.inputs if value is not None]
    build.replace(build.call("Concat", *parts, axis=1))


def imputer(build: Builder) -> None:
    """X with one value, or with what is not a number, replaced by a value for each column."""
    kind = "int64" if build.input_type().is_integer() else "float"
    dtype = build.input_type().numpy()
    filling = build.constant(build.numbers(f"imputed_value_{kind}s", dtype), "imputed")
    replaced = build.attribute(f"replaced_value_{kind}")
    if isinstance(replaced, float) and math.isnan(replaced):
        missing = build.call("IsNaN", build.x)
    else:
        missing = build.call("Equal", build.x, build.constant(np.asarray(replaced, dtype), "replaced"))
    build.replace(build.call("Where", missing, filling, build.x, dtype=build.input_type()))


def scaler(build: Builder) -> None:
    """(X - offset) * scale for each column."""
    x = build.cast(build.x, _FLOAT)
    offset, scale = build.numbers("offset"), build.numbers("scale")
    if offset.size and np.any(offset != 0):
        x = build.call("Sub", x, build.constant(offset, "offset"))
    if scale.size and np.any(scale != 1):
        x = build.call("Mul", x, build.constant(scale, "scale"))
    build.replace(x)


def normalizer(build: Builder) -> None:
    """Each row divided by its maximum, its sum of absolute values, or its Euclidean norm; zeros stay."""
    x = build.cast(build.x, _FLOAT)
    op_type = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}[build.attribute("norm")]
    norm = build.call(op_type, x, build.constant(np.asarray([-1]), "axis"), keepdims=1)
    zero = build.call("Equal", norm, build.constant(np.asarray(0, np.float32), "zero"))
    one = build.constant(np.asarray(1, np.float32), "one")
    build.replace(build.call("Div", x, build.call("Where", zero, one, norm, dtype=_FLOAT, rank=_rank(norm))))


def one_hot_encoder(build: Builder) -> None:
    """A column for each category: 1 where the element is that category."""
    names = build.attribute("cats_strings")
    if names:
        x, categories = build.x, np.asarray(names, object)
    else:
        x, categories = build.cast(build.x, _INT64), np.asarray(build.attribute("cats_int64s"), np.int64)
    rank = _rank(x)
    column = build.call(
        "Unsqueeze", x, build.constant(np.asarray([-1]), "axis"), rank=None if rank is None else rank + 1
    )
    build.replace(build.cast(build.call("Equal", column, build.constant(categories, "categories")), _FLOAT))


def category_mapper(build: Builder) -> None:
    """The integers of names, or the names of integers."""
    names = np.asarray(build.attribute("cats_strings"), object)
    integers = np.asarray(build.attribute("cats_int64s"), np.int64)
    if build.input_type() == _STRING:
        _look_up(build, names, integers, np.asarray(build.attribute("default_int64"), np.int64))
    else:
        _look_up(build, integers, names, np.asarray(build.attribute("default_string"), object))


def label_encoder(build: Builder) -> None:
    """The value that belongs to the key that each element equals, or the default."""
    classes = build.attribute("classes_strings")
    if classes:
        names, places = np.asarray(classes, object), np.arange(len(classes))
        if build.input_type() == _STRING:
            _look_up(build, names, places, np.asarray(build.attribute("default_int64"), np.int64))
        else:
            _look_up(build, places, names, np.asarray(build.attribute("default_string"), object))
        return
    keys, values = _table(build, "keys"), _table(build, "values")
    if len(keys) != len(values):
        raise build.fault(f"it has {len(keys)} keys and {len(values)} values")
    _look_up(build, keys, values, _default(build, values))


def _table(build: Builder, role: str) -> Array:
    for kind, dtype in (("strings", object), ("int64s", np.int64), ("floats", np.float32)):
        listed = build.attribute(f"{role}_{kind}")
        if listed:
            return np.asarray(listed, dtype)
    tensor = build.attribute(f"{role}_tensor")
    if tensor is None:
        raise build.fault(f"it has no {role}")
    return _text(np.asarray(tensor)).reshape(-1)


def _text(array: Array) -> Array:
    if array.dtype.kind not in "OSU":
        return array
    texts = [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1)]
    return np.asarray(texts, object).reshape(array.shape)


def _default(build: Builder, values: Array) -> Array:
    tensor = build.attribute("default_tensor")
    if tensor is not None:
        return _text(np.asarray(tensor)).reshape(())
    kind = {"O": "string", "i": "int64"}.get(values.dtype.kind, "float")
    return np.asarray(build.attribute(f"default_{kind}"), values.dtype)


def _look_up(build: Builder, keys: Array, values: Array, default: Array) -> None:
    if keys.dtype != object:
        keys, first = np.unique(keys.astype(build.input_type().numpy()), return_index=True)
        values = values[first]
    dtype = _STRING if values.dtype == object else ir.DataType.from_numpy(values.dtype)
    found = build.call(
        "LookUp",
        build.x,
        build.constant(keys, "keys"),
        build.constant(values, "values"),
        build.constant(default, "default"),
        dtype=dtype,
        domain="bridge",
    )
    build.replace(found)


def _rank(value: ir.Value) -> int | None:
    return None if value.shape is None else len(value.shape)


FEATURES = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": binarizer,
    "CategoryMapper": category_mapper,
    "FeatureVectorizer": feature_vectorizer,
    "Imputer": imputer,
    "LabelEncoder": label_encoder,
    "Normalizer": normalizer,
    "OneHotEncoder": one_hot_encoder,
    "Scaler": scaler,
}
