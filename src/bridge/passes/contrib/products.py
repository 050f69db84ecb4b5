"""Matrix products and convolutions with what onnxruntime fuses around them."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.contrib.activations import activated
from bridge.passes.contrib.builder import Builder, expansion


@expansion("FusedMatMul", "TransposeMatMul")
def fused_mat_mul(op: Builder) -> None:
    """alpha times the product of A and B, either of them transposed."""
    op.give(_product(op))


@expansion("FusedMatMulActivation")
def fused_mat_mul_activation(op: Builder) -> None:
    """An activation of FusedMatMul."""
    op.give(activated(op, _product(op), _parameters(op)))


def _product(op: Builder) -> ir.Value:
    product = op("MatMul", *(_transposed(op, index, letter) for index, letter in enumerate("AB")))
    alpha = op.attribute("alpha")
    return product if alpha == 1.0 else op("Mul", product, op.number(alpha, "alpha"))


def _transposed(op: Builder, index: int, letter: str) -> ir.Value:
    """An operand with its matrices first as `transBatch` has them, then as `trans` has them."""
    value = op[index]
    batch, matrix = op.attribute(f"transBatch{letter}", 0), op.attribute(f"trans{letter}")
    if not batch and not matrix:
        return value
    rank = op.rank(value)
    if rank < 2:
        return value
    perm = [*range(1, rank - 1), 0, rank - 1] if batch else [*range(rank)]
    if matrix:
        perm[-2:] = perm[:-3:-1]
    return value if perm == [*range(rank)] else op("Transpose", value, perm=perm)


def _parameters(op: Builder) -> list[float | None]:
    name = op.attribute("activation")
    second = "gamma" if name == "Selu" else "beta"
    return [op.attribute("activation_alpha"), op.attribute(f"activation_{second}")]


@expansion("FusedGemm")
def fused_gemm(op: Builder) -> None:
    """An activation of Gemm."""
    names = ("alpha", "beta", "transA", "transB")
    y = op("Gemm", op[0], op[1], op.input(2), **{name: op.attribute(name) for name in names})
    op.give(activated(op, y, _parameters(op)))


@expansion("GemmFastGelu")
def gemm_fast_gelu(op: Builder) -> None:
    """The tanh form of Gelu(X @ W + bias)."""
    product, bias = op("MatMul", op[0], op[1]), op.input(2)
    total = product if bias is None else op("Add", product, bias)
    op.give(op("Gelu", total, approximate="tanh"))


@expansion("FusedConv")
def fused_conv(op: Builder) -> None:
    """An activation of Conv + Z."""
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    y = op("Conv", op[0], op[1], op.input(2), **{name: op.attribute(name) for name in names})
    added = op.input(3)
    y = y if added is None else op("Add", y, added)
    op.give(activated(op, y, list(op.attribute("activation_params") or ())))
