"""Cells taken apart in the ways that exporters and people do, and near misses."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import Array, apply, assert_equivalent, floats, hub, ints, number, operators

from bridge.passes.recurrent import recognise_cells

FEATURES, HIDDEN = 3, 4
HEAD = f"(float[N,{FEATURES}] x, float[N,{HIDDEN}] h, float[N,{HIDDEN}] c)"
LSTM_RESULTS = f"(float[N,{HIDDEN}] hidden, float[N,{HIDDEN}] cell)"
GRU_RESULTS = f"(float[N,{HIDDEN}] hidden)"
RECURRENT = {"LSTM", "GRU", "RNN"}


@dataclass
class Writer:
    """Writes a cell in a spelling that `choose` draws."""

    choose: st.DataObject
    lines: list[str] = field(default_factory=list)
    trained: dict[str, Array] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)

    def pick(self, *options: str) -> str:
        return self.choose.draw(st.sampled_from(options))

    def add(self, op: str, *inputs: str, name: str | None = None, attributes: str = "") -> str:
        output = name or f"v{len(self.lines)}"
        self.lines.append(f"{output} = {op} {attributes} ({', '.join(inputs)})")
        return output

    def both(self, op: str, left: str, right: str, name: str | None = None) -> str:
        """A commutative operator with its operands in either order."""
        pair = (left, right) if self.pick("as is", "swapped") == "as is" else (right, left)
        return self.add(op, *pair, name=name)

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.trained)}"
        self.trained[name] = floats(*shape, seed=len(self.trained))
        return name

    def linear(self, data: str, features: int, size: int) -> str:
        """A product with a trained matrix, with or without a bias."""
        match self.pick("Gemm", "Gemm with bias", "Gemm of the transpose", "MatMul", "MatMul with bias"):
            case "Gemm":
                return self.add("Gemm", data, self.weight(features, size))
            case "Gemm with bias":
                return self.add("Gemm", data, self.weight(features, size), self.weight(size))
            case "Gemm of the transpose":
                inputs = data, self.weight(size, features), self.weight(size)
                return self.add("Gemm", *inputs, attributes="<transB = 1>")
            case "MatMul":
                return self.add("MatMul", data, self.weight(features, size))
            case _:
                product = self.add("MatMul", data, self.weight(features, size))
                return self.both("Add", product, self.weight(size))

    def joint(self, size: int, state: str = "h") -> str:
        """A pre-activation of the inputs and a state."""
        if self.pick("side by side", "two products") == "side by side":
            pair, axis = self.pick("x first", "h first"), self.pick("1", "-1")
            data = ("x", state) if pair == "x first" else (state, "x")
            joined = self.add("Concat", *data, attributes=f"<axis = {axis}>")
            return self.linear(joined, FEATURES + HIDDEN, size)
        return self.both("Add", self.linear("x", FEATURES, size), self.linear(state, HIDDEN, size))

    def parts(self, value: str, count: int) -> list[str]:
        """Equal parts of a value's columns, in an order that is drawn."""
        names = [f"{value}_{index}" for index in range(count)]
        if self.pick("Split", "Slice") == "Split":
            axis = self.pick("1", "-1")
            self.lines.append(f"{', '.join(names)} = Split <axis = {axis}, num_outputs = {count}> ({value})")
        else:
            for index, name in enumerate(names):
                bounds = (index * HIDDEN, index * HIDDEN + HIDDEN, 1)
                inputs = []
                for kind, bound in zip("seo", bounds, strict=True):
                    inputs.append(f"{kind}{len(self.constants)}")
                    self.constants[inputs[-1]] = ints(bound)
                self.add("Slice", value, *inputs, name=name)
        return self.choose.draw(st.permutations(names))

    def model(self, results: str) -> ir.Model:
        text = f"{HEAD} => {results} {{ {chr(10).join(self.lines)} }}"
        return hub(text, trained=self.trained, constants=self.constants)


def lstm(write: Writer, *, gates: list[str] | None = None, squash: str = "Tanh") -> None:
    if gates is None:
        if write.pick("joint", "apart") == "joint":
            gates = write.parts(write.joint(4 * HIDDEN), 4)
        else:
            gates = [write.joint(HIDDEN) for _ in range(4)]
    i, f, g, o = gates
    if write.pick("plain", "forget bias") == "forget bias":
        write.constants["one"] = number(1.0)
        f = write.both("Add", f, "one")
    kept = write.both("Mul", write.add("Sigmoid", f), "c")
    added = write.both("Mul", write.add("Sigmoid", i), write.add("Tanh", g))
    write.both("Add", kept, added, name="cell")
    write.both("Mul", write.add("Sigmoid", o), write.add(squash, "cell"), name="hidden")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_an_lstm_is_found_in_every_spelling(data: st.DataObject) -> None:
    write = Writer(data)
    lstm(write)
    model = write.model(LSTM_RESULTS)
    found = apply(model, recognise_cells)
    assert [each for each in operators(found) if each in RECURRENT] == ["LSTM"]
    assert not {"Sigmoid", "Tanh", "Gemm", "MatMul"} & set(operators(found))
    assert_equivalent(apply(model), found)


def gru(write: Writer) -> None:
    write.constants["one"] = number(1.0)
    if write.pick("reset before", "reset after") == "reset before":
        z, r = (write.add("Sigmoid", each) for each in write.parts(write.joint(2 * HIDDEN), 2))
        n = write.add("Tanh", write.joint(HIDDEN, write.both("Mul", r, "h")))
    else:
        inputs = write.parts(write.linear("x", FEATURES, 3 * HIDDEN), 3)
        states = write.parts(write.linear("h", HIDDEN, 3 * HIDDEN), 3)
        pairs = list(zip(inputs, states, strict=True))
        z, r = (write.add("Sigmoid", write.both("Add", *pair)) for pair in pairs[:2])
        n = write.add("Tanh", write.both("Add", inputs[2], write.both("Mul", r, states[2])))
    if write.pick("both weights", "difference") == "both weights":
        rest = write.both("Mul", write.add("Sub", "one", z), n)
        write.both("Add", rest, write.both("Mul", z, "h"), name="hidden")
    else:
        write.both("Add", write.both("Mul", write.add("Sub", "h", n), z), n, name="hidden")


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_gru_is_found_in_every_spelling(data: st.DataObject) -> None:
    write = Writer(data)
    gru(write)
    model = write.model(GRU_RESULTS)
    found = apply(model, recognise_cells)
    assert [each for each in operators(found) if each in RECURRENT] == ["GRU"]
    assert not {"Sigmoid", "Tanh", "Gemm", "MatMul"} & set(operators(found))
    assert_equivalent(apply(model), found)


WEIGHTS = {
    "w": floats(FEATURES, 4 * HIDDEN),
    "r": floats(HIDDEN, 4 * HIDDEN, seed=1),
    "b": floats(4 * HIDDEN, seed=2),
    "p": floats(HIDDEN),
}
GATES = "a = Gemm(x, w, b) k = MatMul(h, r) s = Add(a, k)"
SPLIT = "i, f, g, o = Split <axis = 1, num_outputs = 4> (s)"
ACTIVATIONS = "is = Sigmoid(i) fs = Sigmoid(f) gt = Tanh(g) os = Sigmoid(o)"
STATES = "kept = Mul(fs, c) new = Mul(is, gt) cell = Add(kept, new) t = Tanh(cell) hidden = Mul(os, t)"


@pytest.mark.parametrize(
    "text",
    [
        f"{GATES} {SPLIT} is = Sigmoid(i) fs = Sigmoid(f) gt = Sigmoid(g) os = Sigmoid(o) {STATES}",
        f"{GATES} {SPLIT} is = Sigmoid(i) fs = Sigmoid(f) gt = Relu(g) os = Sigmoid(o) {STATES}",
        f"{GATES} {SPLIT} is = HardSigmoid(i) fs = Sigmoid(f) gt = Tanh(g) os = Sigmoid(o) {STATES}",
        f"{GATES} {SPLIT} is = Sigmoid(i) fs = Tanh(f) gt = Tanh(g) os = Sigmoid(o) {STATES}",
        f"{GATES} {SPLIT} is = Sigmoid(i) fs = Sigmoid(f) gt = Tanh(g) os = Tanh(o) {STATES}",
        f"{GATES} {SPLIT} {ACTIVATIONS} kept = Mul(fs, c) new = Mul(is, gt) cell = Sub(kept, new)"
        " t = Tanh(cell) hidden = Mul(os, t)",
        f"{GATES} {SPLIT} {ACTIVATIONS} kept = Mul(fs, c) new = Mul(is, gt) cell = Add(kept, new)"
        " t = Sigmoid(cell) hidden = Mul(os, t)",
        f"{GATES} {SPLIT} {ACTIVATIONS} kept = Mul(fs, c) new = Mul(is, gt) cell = Add(kept, new)"
        " hidden = Mul(os, cell)",
        f"{GATES} {SPLIT} is = Sigmoid(i) q = Mul(c, p) fp = Add(f, q) fs = Sigmoid(fp) gt = Tanh(g)"
        f" os = Sigmoid(o) {STATES}",
        f"{GATES} {SPLIT} {ACTIVATIONS} kept = Mul(fs, c) new = Mul(is, gt) cell = Add(kept, new)"
        " t = Tanh(cell) q = Sigmoid(g) hidden = Mul(q, t)",
        f"a = Gemm <alpha = 0.5> (x, w, b) k = MatMul(h, r) s = Add(a, k) {SPLIT} {ACTIVATIONS} {STATES}",
        f"a = Gemm(x, w, b) k = MatMul(h, r) s = Sub(a, k) {SPLIT} {ACTIVATIONS} {STATES}",
        f"s = Gemm(x, w, b) {SPLIT} {ACTIVATIONS} {STATES}",
        f"{GATES} n = LayerNormalization(s, b) i, f, g, o = Split <axis = 1, num_outputs = 4> (n)"
        f" {ACTIVATIONS} {STATES}",
    ],
)
def test_near_misses_of_an_lstm(text: str) -> None:
    model = hub(f"{HEAD} => {LSTM_RESULTS} {{ {text} }}", trained=WEIGHTS)
    found = apply(model, recognise_cells)
    assert not RECURRENT & set(operators(found))
    assert_equivalent(apply(model), found)


@pytest.mark.parametrize("extra", ["is", "f", "s", "a", "t", "kept", "w"])
def test_what_is_read_elsewhere_stays(extra: str) -> None:
    text = f"{GATES} {SPLIT} {ACTIVATIONS} {STATES} also = Neg({extra})"
    model = hub(f"{HEAD} => {LSTM_RESULTS[:-1]}, float[M,K] also) {{ {text} }}", trained=WEIGHTS)
    found = apply(model, recognise_cells)
    assert not RECURRENT & set(operators(found))
    assert_equivalent(apply(model), found)


GRU_WEIGHTS = {
    "w": floats(FEATURES, 3 * HIDDEN),
    "r": floats(HIDDEN, 3 * HIDDEN, seed=1),
    "b": floats(3 * HIDDEN, seed=2),
    "q": floats(3 * HIDDEN, seed=3),
}
GRU_GATES = (
    "a = Gemm(x, w, b) k = Gemm(h, r, q) xr, xz, xn = Split <axis = 1, num_outputs = 3> (a)"
    " hr, hz, hn = Split <axis = 1, num_outputs = 3> (k)"
)
RESET = "ra = Add(xr, hr) rs = Sigmoid(ra) za = Add(xz, hz) zs = Sigmoid(za)"


@pytest.mark.parametrize(
    "text",
    [
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Tanh(na)"
        " e = Sub(one, zs) l = Mul(e, h) u = Mul(zs, n) hidden = Add(l, u)",
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Tanh(na)"
        " d = Sub(n, h) u = Mul(zs, d) hidden = Add(u, h)",
        f"{GRU_GATES} {RESET} m = Mul(rs, xn) na = Add(hn, m) n = Tanh(na)"
        " d = Sub(h, n) u = Mul(zs, d) hidden = Add(u, n)",
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Relu(na)"
        " d = Sub(h, n) u = Mul(zs, d) hidden = Add(u, n)",
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Tanh(na)"
        " e = Sub(two, zs) l = Mul(e, n) u = Mul(zs, h) hidden = Add(l, u)",
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Tanh(na)"
        " e = Sub(one, rs) l = Mul(e, n) u = Mul(zs, h) hidden = Add(l, u)",
        f"{GRU_GATES} {RESET} m = Mul(rs, hn) na = Add(xn, m) n = Tanh(na)"
        " d = Sub(c, n) u = Mul(zs, d) hidden = Add(u, n)",
        f"{GRU_GATES} {RESET} na = Add(xn, hn) n = Tanh(na) d = Sub(h, n) u = Mul(zs, d) hidden = Add(u, n)",
    ],
)
def test_near_misses_of_a_gru(text: str) -> None:
    constants = {"one": number(1.0), "two": number(2.0)}
    model = hub(f"{HEAD} => {GRU_RESULTS} {{ {text} }}", trained=GRU_WEIGHTS, constants=constants)
    found = apply(model, recognise_cells)
    assert not RECURRENT & set(operators(found))
    assert_equivalent(apply(model), found)


def test_cells_that_share_their_weights_are_found_one_after_another() -> None:
    step = (
        "{n}a = Gemm({x}, w, b) {n}k = MatMul({h}, r) {n}s = Add({n}a, {n}k)"
        " {n}i, {n}f, {n}g, {n}o = Split <axis = 1, num_outputs = 4> ({n}s)"
        " {n}is = Sigmoid({n}i) {n}fs = Sigmoid({n}f) {n}gt = Tanh({n}g) {n}os = Sigmoid({n}o)"
        " {n}kept = Mul({n}fs, {c}) {n}new = Mul({n}is, {n}gt) {nc} = Add({n}kept, {n}new)"
        " {n}t = Tanh({nc}) {nh} = Mul({n}os, {n}t)"
    )
    first = step.format(n="p", x="x", h="h", c="c", nc="c1", nh="h1")
    second = step.format(n="q", x="y", h="h1", c="c1", nc="cell", nh="hidden")
    inputs = f"{HEAD[:-1]}, float[N,{FEATURES}] y)"
    model = hub(f"{inputs} => {LSTM_RESULTS} {{ {first} {second} }}", trained=WEIGHTS)
    found = apply(model, recognise_cells)
    cells = [node for node in found.graph if node.op_type == "LSTM"]
    assert len(cells) == 2
    assert cells[0].inputs[1:4] == cells[1].inputs[1:4]
    assert_equivalent(apply(model), found)


def test_scores_of_an_attention_are_no_recurrence() -> None:
    model = hub(
        f"(float[N,{HIDDEN}] x, float[N,{HIDDEN}] h) => (float[N,{HIDDEN}] y)"
        " { a = MatMul(x, w) k = MatMul(h, r) s = Add(a, k) y = Tanh(s) }",
        trained={"w": floats(HIDDEN, HIDDEN), "r": floats(HIDDEN, HIDDEN, seed=1)},
    )
    assert not RECURRENT & set(operators(apply(model, recognise_cells)))
