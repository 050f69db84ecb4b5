"""Products of matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_torch._table import layer_rule, lowering


@lowering("Gemm")
def gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Tensor:
    """alpha * a @ b + beta * c for matrices, c broadcast."""
    if transB and not transA and alpha == 1.0 and c is None:
        return F.linear(a, b)
    if transB and not transA and alpha == 1.0 and c is not None and beta == 1.0 and c.ndim == 1:
        return F.linear(a, b, c)
    product = (a.T if transA else a) @ (b.T if transB else b)
    product = product if alpha == 1.0 else alpha * product
    if c is None:
        return product
    return product + (c if beta == 1.0 else beta * c)


@lowering("MatMul")
def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The matrix product of numpy.matmul."""
    return a @ b


@lowering("Linear", domain="bridge")
def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x @ weight + bias along the last axis."""
    return x @ weight + bias


@lowering("Einsum")
def einsum(*inputs: Tensor, equation: str) -> Tensor:
    """The sum of products that an equation in Einstein notation describes."""
    return torch.einsum(equation, *inputs)


@lowering("Det")
def det(x: Tensor) -> Tensor:
    """The determinants of the matrices in the last two axes."""
    if x.dtype == torch.float16 or x.dtype == torch.bfloat16:
        return torch.det(x.float()).to(x.dtype)
    return torch.det(x)


@layer_rule("Gemm")
def gemm_layer(view: NodeView) -> Layer | None:
    """A product with a trained matrix, with a trained bias or none."""
    if view.attr("transA", 0) or view.attr("alpha", 1.0) != 1.0 or not view.is_trained(1):
        return None
    weight, bias = view.input(1), view.input(2)
    assert weight is not None
    moves = () if view.attr("transB", 0) else (("transpose", {"perm": (1, 0)}),)
    rows, columns = view.known_shape(1)
    features = (columns, rows) if view.attr("transB", 0) else (rows, columns)
    tensors = {"weight": LayerTensor(weight, moves)}
    if bias is not None and not view.all_equal(2, 0):
        if not view.is_trained(2) or view.attr("beta", 1.0) != 1.0:
            return None
        shape = view.known_shape(2)
        if shape not in ((features[1],), (1, features[1])):
            return None
        flat = (("reshape", {"shape": (features[1],)}),) if len(shape) == 2 else ()
        tensors["bias"] = LayerTensor(bias, flat)
    return Layer("nn.Linear", features, without({"bias": "bias" in tensors}, {"bias": True}), tensors)


@layer_rule("MatMul")
def matmul_layer(view: NodeView) -> Layer | None:
    """A product of any input with a trained matrix."""
    weight = view.input(1)
    if weight is None or not view.is_trained(1) or len(view.known_shape(1)) != 2:
        return None
    return Layer(
        "nn.Linear",
        view.known_shape(1),
        {"bias": False},
        {"weight": LayerTensor(weight, (("transpose", {"perm": (1, 0)}),))},
    )


@layer_rule("Linear", domain="bridge")
def linear_layer(view: NodeView) -> Layer | None:
    """A product of any input with a trained matrix, and a trained bias."""
    weight, bias = view.input(1), view.input(2)
    assert weight is not None
    assert bias is not None
    moved = LayerTensor(weight, (("transpose", {"perm": (1, 0)}),))
    return Layer("nn.Linear", view.known_shape(1), {}, {"weight": moved, "bias": LayerTensor(bias)})
