"""Loops over time around one step of a recurrence, and near misses."""

from __future__ import annotations

import pytest
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, operators

from bridge.passes.recurrent import recognise_recurrences

FEATURES, HIDDEN = 3, 4
HEAD = f"(float[T,N,{FEATURES}] x, float[N,{HIDDEN}] h, float[N,{HIDDEN}] c)"
ALL = f"(float[T,N,{HIDDEN}] ys, float[N,{HIDDEN}] hn, float[N,{HIDDEN}] cn)"
STEP = (
    "x1 = Unsqueeze(row, zero) h1 = Unsqueeze(ho, zero) c1 = Unsqueeze(co, zero)"
    f" Y, Yh, Yc = LSTM <hidden_size = {HIDDEN}> (x1, w, r, b, , h1, c1)"
    " hs = Squeeze(Yh, zero) cs = Squeeze(Yc, zero)"
)
TRAINED = {
    "w": floats(1, 4 * HIDDEN, FEATURES),
    "r": floats(1, 4 * HIDDEN, HIDDEN, seed=1),
    "b": floats(1, 8 * HIDDEN, seed=2),
}
CONSTANTS = {"zero": ints(0), "first": ints(0).reshape(()), "one": ints(1).reshape(())}
SCAN_BODY = f"(float[N,{HIDDEN}] ho, float[N,{HIDDEN}] co, float[N,{FEATURES}] row) => (hs, cs, each)"


def scan(
    body: str = f"{STEP} each = Identity(hs)",
    head: str = SCAN_BODY,
    attributes: str = "",
    outputs: str = "hn, cn, ys",
) -> str:
    return (
        f"{HEAD} => {ALL} {{ {outputs} = Scan <num_scan_inputs = 1{attributes}, body = g {head} {{ {body} }}>"
        " (h, c, x) }"
    )


@pytest.mark.parametrize(
    ("attributes", "direction"),
    [
        ("", "forward"),
        (", scan_input_directions = [1], scan_output_directions = [1]", "reverse"),
    ],
)
def test_a_scan_over_an_lstm_is_one(attributes: str, direction: str) -> None:
    model = hub(scan(attributes=attributes), trained=TRAINED, constants=CONSTANTS)
    found = apply(model, recognise_recurrences)
    assert "Scan" not in operators(found)
    assert node_of(found, "LSTM").attributes.get_string("direction", "forward") == direction
    assert_equivalent(apply(model), found)


def test_counters_may_be_carried_if_nothing_reads_them() -> None:
    head = f"(int64 n, {SCAN_BODY[1:].replace('=> (', '=> (m, ')}"
    text = scan(f"m = Add(n, one) {STEP} each = Identity(hs)", head, outputs="k, hn, cn, ys")
    model = hub(text.replace("(h, c, x) }", "(first, h, c, x) }"), trained=TRAINED, constants=CONSTANTS)
    found = apply(model, recognise_recurrences)
    assert "Scan" not in operators(found)
    assert_equivalent(apply(model), found)


@pytest.mark.parametrize(
    "text",
    [
        scan(attributes=", scan_input_directions = [1]"),
        scan(f"{STEP} each = Identity(cs)"),
        scan(f"{STEP} each = Neg(hs)"),
        scan(f"row2 = Neg(row) {STEP.replace('(row', '(row2')} each = Identity(hs)"),
        scan(f"hp = Neg(ho) {STEP.replace('(ho', '(hp')} each = Identity(hs)"),
        scan(f"{STEP} each = Identity(hs)", SCAN_BODY.replace("(hs, cs", "(cs, hs")),
        scan(f"{STEP} hq = Neg(hs) each = Identity(hs)", SCAN_BODY.replace("(hs, cs", "(hq, cs")),
        scan(f"w = Neg(wo) {STEP} each = Identity(hs)"),
    ],
)
def test_near_misses_of_a_scan(text: str) -> None:
    trained = TRAINED if "wo" not in text else {**TRAINED, "wo": TRAINED["w"]}
    trained = {name: array for name, array in trained.items() if "wo" not in text or name != "w"}
    model = hub(text, trained=trained, constants=CONSTANTS)
    found = apply(model, recognise_recurrences)
    assert "Scan" in operators(found)
    assert_equivalent(apply(model), found)


def loop(trips: str = "n", index: str = "i", row: str = "row = Gather(x, {index})", last: str = "hs") -> str:
    return (
        f"{HEAD} => {ALL} {{ s = Shape(x) n = Gather(s, first) m = Sub(n, one)"
        f" hn, cn, ys = Loop <body = g (int64 i, bool go, float[N,{HIDDEN}] ho, float[N,{HIDDEN}] co)"
        f" => (on, hs, cs, each) {{ on = Identity(go) j = Add(i, one) k = Mul(i, first)"
        f" {row.format(index=index)} {STEP} each = Identity({last}) }}> ({trips}, , h, c) }}"
    )


def test_a_counted_loop_over_an_lstm_is_one() -> None:
    model = hub(loop(), trained=TRAINED, constants=CONSTANTS)
    found = apply(model, recognise_recurrences)
    assert "Loop" not in operators(found)
    assert_equivalent(apply(model), found)


@pytest.mark.parametrize("text", [loop(trips="m"), loop(index="k"), loop(last="cs")])
def test_near_misses_of_a_loop(text: str) -> None:
    model = hub(text, trained=TRAINED, constants=CONSTANTS)
    found = apply(model, recognise_recurrences)
    assert "Loop" in operators(found)
