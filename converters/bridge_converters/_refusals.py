"""Operators that a target cannot express at all, each with the reason that users are told.

Every other operator of the standard has a lowering, or is rewritten by a pass; a test holds that.
"""

from __future__ import annotations

from collections.abc import Mapping

Refusals = Mapping[tuple[str, str], str]
"""Reasons by domain and operator."""

_TEXT = "it works on text, and PyTorch has no tensors of text"

EVERYWHERE: Refusals = {
    (
        "ai.onnx.ml",
        "CastMap",
    ): "it takes a map from keys to values, which is no tensor; feed the vector itself",
    ("ai.onnx.ml", "DictVectorizer"): "it takes a dictionary, which is no tensor; feed the vector itself",
    ("ai.onnx.ml", "ZipMap"): (
        "it gives a list of dictionaries, which are no tensors; "
        "export without it (skl2onnx: options={'zipmap': False})"
    ),
    ("ai.onnx.preview.training", "Gradient"): (
        "it differentiates the graph around it; "
        "convert the model without it and use the framework's own differentiation"
    ),
}
"""What no tensor framework can express, or not as an operator."""

TORCH: Refusals = {
    **EVERYWHERE,
    ("", "ImageDecoder"): "it reads image files, and PyTorch itself has no decoder; feed decoded images",
    ("", "RegexFullMatch"): _TEXT,
    ("", "StringConcat"): _TEXT,
    ("", "StringNormalizer"): _TEXT,
    ("", "StringSplit"): _TEXT,
}

TF: Refusals = EVERYWHERE
