"""Control flow, sequences and optionals: small models, as their operators take bodies, lists and None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import reference

from operator_cases.case import ORT_CANNOT, draw, ints, scalar

Value = Any
"""An array, a list of arrays, or None."""


@dataclass(frozen=True)
class ModelCase:
    """A model in ONNX's text form with its inputs.

    onnxruntime says what is right, the standard's reference where it cannot, and `expected` where neither
    follows the specification. `exported`: PyTorch can trace it into a graph, as all sizes are known then.
    """

    name: str
    text: str
    inputs: tuple[Value, ...]
    expected: tuple[Value, ...] | None = None
    exported: bool = True

    @property
    def model(self) -> onnx.ModelProto:
        return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\nnet {self.text}')

    @property
    def operators(self) -> set[str]:
        found: set[str] = set()

        def visit(nodes: Any) -> None:
            for node in nodes:
                found.add(node.op_type)
                for attribute in node.attribute:
                    visit(attribute.g.node)

        visit(self.model.graph.node)
        return found

    def answer(self) -> list[Value]:
        if self.expected is not None:
            return list(self.expected)
        model = self.model
        names = [each.name for each in model.graph.input]
        feed = dict(zip(names, self.inputs, strict=True))
        options = ort.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            session = ort.InferenceSession(model.SerializeToString(), options)
            return list(session.run(None, feed))
        except (*ORT_CANNOT, RuntimeError):
            return list(reference.ReferenceEvaluator(model).run(None, feed))


SQUARE = draw(3, 3)
ROWS = [draw(2, 3, seed=1), draw(1, 3, seed=2), draw(4, 3, seed=3)]
TRUE, FALSE = np.array(True), np.array(False)

_IF = """(float[N,3] x, bool c) => (float[M,3] y, float z) {
    y, z = If(c) <
        then_branch = t () => (float[N,3] a, float b) {
            a = Neg(x)
            b = ReduceSum<keepdims=0>(x)
        },
        else_branch = e () => (float[K,3] a, float b) {
            a = Concat<axis=0>(x, x)
            b = Constant<value_float=2.5>()
        }
    >
}"""

_NESTED = """(float[3,3] x, bool c, int64 n) => (float[3,3] y) {
    y = Loop(n, , x) <body = outer (int64 i, bool go, float[3,3] h) => (bool on, float[3,3] h2) {
        on = Identity(go)
        h2 = If(c) <
            then_branch = t () => (float[3,3] a) {
                f = Cast<to=1>(i)
                g = Add(h, f)
                start = Constant<value_floats=[0.0, 1.0, 2.0]>()
                last, a = Scan<
                    num_scan_inputs=1,
                    body = inner (float[3] s, float[3] r) => (float[3] s2, float[3] o) {
                        s2 = Add(s, r)
                        o = Mul(s2, f)
                    }
                >(start, g)
            },
            else_branch = e () => (float[3,3] a) { a = Sub(h, x) }
        >
    }>
}"""

_WHILE = """(int64 n, bool c, float[3] x) => (float[3] y, float[k,3] steps, int64[k] counts) {
    y, steps, counts = Loop(n, c, x) <body = b (int64 i, bool go, float[3] h)
        => (bool on, float[3] h2, float[3] s, int64 j) {
        half = Constant<value_float=0.5>()
        h2 = Mul(h, half)
        s = Add(h2, x)
        total = ReduceSum<keepdims=0>(h2)
        limit = Constant<value_float=0.3>()
        on = Greater(total, limit)
        j = Identity(i)
    }>
}"""

_FOR = """(float[3] x) => (float[3] y, float[5,3] steps) {
    n = Constant<value_int=5>()
    y, steps = Loop(n, , x) <body = b (int64 i, bool go, float[3] h) => (bool on, float[3] h2, float[3] s) {
        on = Identity(go)
        h2 = Sin(h)
        s = Sub(h2, x)
    }>
}"""

_GROWING = """(float[N,3] x, int64 n) => (float[M,3] y) {
    t = Constant<value_int=1>()
    c = Cast<to=9>(t)
    y = Loop(n, c, x) <body = b (int64 i, bool go, float[K,3] h) => (bool on, float[L,3] h2) {
        on = Identity(go)
        h2 = Concat<axis=0>(h, x)
    }>
}"""

_ENDLESS = """(float[2] x) => (float[2] y) {
    n = Constant<value_int=9223372036854775807>()
    t = Constant<value_int=1>()
    c = Cast<to=9>(t)
    y = Loop(n, c, x) <body = b (int64 i, bool go, float[2] h) => (bool on, float[2] h2) {
        h2 = Add(h, h)
        s = ReduceMax<keepdims=0>(h2)
        limit = Constant<value_float=50.0>()
        on = Less(s, limit)
    }>
}"""

_SCAN = """(float[2] s, float[3,4,2] x, float[4,3,2] z) => (float[2] last, float[4,OUT] p, float[OUT2] q) {
    last, p, q = Scan<num_scan_inputs=2, ATTRS body = b (float[2] h, float[3,2] a, float[3,2] c)
        => (float[2] h2, float[3,2] o, float[2] r) {
            axes = Constant<value_ints=[0]>()
            m = ReduceSum<keepdims=0>(a, axes)
            h2 = Add(h, m)
            d = Mul(a, c)
            o = Add(d, h)
            r = Neg(h2)
        }>(s, x, z)
}"""


def _scan(attributes: str, p: str, q: str) -> str:
    text = _SCAN.replace("float[4,OUT] p", f"float[{p}] p").replace("OUT2", q)
    return text.replace("ATTRS", attributes)


def one(operator: str, inputs: str, outputs: str, call: str, *values: Value, **options: Any) -> ModelCase:
    """A model of one node."""
    return ModelCase(operator, f"({inputs}) => ({outputs}) {{ {call} }}", values, **options)


MODELS: list[ModelCase] = [
    ModelCase("if-then", _IF, (SQUARE, TRUE), exported=False),
    ModelCase("if-else", _IF, (SQUARE, FALSE), exported=False),
    ModelCase(
        "if-of-one-element", _IF.replace("bool c", "bool[1] c"), (SQUARE, np.array([True])), exported=False
    ),
    ModelCase("nested-then", _NESTED, (SQUARE, TRUE, scalar(2, np.int64)), exported=False),
    ModelCase("nested-else", _NESTED, (SQUARE, FALSE, scalar(2, np.int64)), exported=False),
    ModelCase("nested-no-step", _NESTED, (SQUARE, TRUE, scalar(0, np.int64)), exported=False),
    ModelCase("while", _WHILE, (scalar(9, np.int64), TRUE, draw(3, low=1)), exported=False),
    ModelCase("while-to-the-end", _WHILE, (scalar(2, np.int64), TRUE, draw(3, low=1)), exported=False),
    ModelCase("while-never", _WHILE, (scalar(9, np.int64), FALSE, draw(3, low=1)), exported=False),
    ModelCase("while-no-step", _WHILE, (scalar(0, np.int64), TRUE, draw(3, low=1)), exported=False),
    ModelCase("for", _FOR, (draw(3),)),
    ModelCase("growing", _GROWING, (draw(2, 3), scalar(3, np.int64)), exported=False),
    ModelCase("growing-not", _GROWING, (draw(2, 3), scalar(0, np.int64)), exported=False),
    ModelCase("endless", _ENDLESS, (draw(2, low=1),)),
    ModelCase(
        "scan",
        _scan("scan_input_axes=[1,0],", "4,3,2", "4,2"),
        (draw(2), draw(3, 4, 2), draw(4, 3, 2)),
    ),
    ModelCase(
        "scan-backwards",
        _scan(
            "scan_input_axes=[-2,0], scan_input_directions=[1,0], scan_output_directions=[0,1],",
            "4,3,2",
            "4,2",
        ),
        (draw(2), draw(3, 4, 2), draw(4, 3, 2)),
    ),
    ModelCase(
        "scan-axes",
        _scan(
            "scan_input_axes=[1,0], scan_output_axes=[-1,1], scan_output_directions=[1,0],", "3,2,4", "2,4"
        ),
        (draw(2), draw(3, 4, 2), draw(4, 3, 2)),
    ),
    one(
        "construct-at",
        "float[2] a, float[3] b, int64 i",
        "float[n] y",
        "s = SequenceConstruct(a, b)  y = SequenceAt(s, i)",
        draw(2),
        draw(3),
        scalar(-1, np.int64),
        exported=False,
    ),
    one(
        "insert-computed",
        "float[2] a, float[3] b, int64 i",
        "seq(float[n]) t",
        "s = SequenceConstruct(a, b)  t = SequenceInsert(s, a, i)",
        draw(2),
        draw(3),
        scalar(-1, np.int64),
        exported=False,
    ),
    one(
        "erase-computed",
        "float[2] a, float[3] b, int64 i",
        "seq(float[n]) t",
        "s = SequenceConstruct(a, b, a)  t = SequenceErase(s, i)",
        draw(2),
        draw(3),
        scalar(1, np.int64),
        exported=False,
    ),
    one(
        "insert-erase-length",
        "seq(float[n,3]) s, float[m,3] x",
        "seq(float[k,3]) t, int64 n",
        "one = Constant<value_int=1>()  minus = Constant<value_int=-1>()"
        "  a = SequenceInsert(s, x, one)  b = SequenceInsert(a, x)  c = SequenceInsert(b, x, minus)"
        "  d = SequenceErase(c, minus)  e = SequenceErase(d)  t = SequenceErase(e, one)"
        "  n = SequenceLength(c)",
        ROWS,
        SQUARE,
    ),
    one(
        "empty",
        "float[2] x",
        "seq(float[2]) t, int64 n",
        "e = SequenceEmpty<dtype=1>()  t = SequenceInsert(e, x)  n = SequenceLength(e)",
        draw(2),
    ),
    one("concat", "seq(float[n,3]) s", "float[m,3] y", "y = ConcatFromSequence<axis=0>(s)", ROWS),
    one(
        "stack",
        "float[2] a, float[2] b",
        "float[2,2] y",
        "s = SequenceConstruct(a, b)  y = ConcatFromSequence<axis=-1, new_axis=1>(s)",
        draw(2),
        draw(2, seed=1),
    ),
    one(
        "split",
        "float[3,5] x",
        "seq(float[3,n]) a, seq(float[3,n]) b, seq(float[5]) c, seq(float[1,5]) d",
        "sizes = Constant<value_ints=[1,4]>()  two = Constant<value_int=2>()"
        "  a = SplitToSequence<axis=1>(x, sizes)  b = SplitToSequence<axis=-1>(x, two)"
        "  c = SplitToSequence<keepdims=0>(x)  d = SplitToSequence(x)",
        draw(3, 5),
    ),
    one(
        "split-computed",
        "float[3,5] x, int64[2] sizes",
        "float[3,n] a",
        "s = SplitToSequence<axis=1>(x, sizes)  one = Constant<value_int=1>()  a = SequenceAt(s, one)",
        draw(3, 5),
        ints(2, 3),
        exported=False,
    ),
    one(
        "map",
        "seq(float[n,3]) s, float[3] w",
        "seq(float[n,3]) y, seq(float[n]) z",
        "y, z = SequenceMap(s, w) <body = b (float[n,3] r, float[3] v) => (float[n,3] p, float[n] q) {"
        " p = Mul(r, v)  axes = Constant<value_ints=[1]>()  q = ReduceSum<keepdims=0>(p, axes) }>",
        ROWS,
        draw(3),
    ),
    one(
        "optional-tensor",
        "optional(float[2]) o",
        "float[2] y, bool h",
        "h = OptionalHasElement(o)  y = OptionalGetElement(o)",
        draw(2),
        expected=(draw(2), TRUE),
    ),
    one(
        "optional-empty",
        "optional(float[2]) o",
        "bool h",
        "h = OptionalHasElement(o)",
        None,
        expected=(FALSE,),
    ),
    one(
        "optional-sequence",
        "float[2] x",
        "optional(seq(float[2])) o",
        "s = SequenceConstruct(x, x)  o = Optional(s)",
        draw(2),
        expected=([draw(2), draw(2)],),
    ),
    one(
        "optional-choice",
        "optional(float[2]) o, float[2] x",
        "float[2] y",
        "h = OptionalHasElement(o)  y = If(h) <"
        "then_branch = t () => (float[2] a) { a = OptionalGetElement(o) },"
        "else_branch = e () => (float[2] b) { b = Neg(x) }>",
        None,
        draw(2),
        expected=(-draw(2),),
        exported=False,
    ),
]
