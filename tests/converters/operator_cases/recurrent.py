"""Cases of the recurrent operators."""

import numpy as np

from operator_cases.case import Array, Case, case, draw

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_FUNCTIONS = {"LSTM": 3, "GRU": 2, "RNN": 1}


def _recurrence(
    op: str,
    label: str,
    *,
    steps: int = 4,
    batch: int = 3,
    features: int = 2,
    hidden: int = 3,
    lengths: tuple[int, ...] | None = None,
    bias: bool = True,
    states: bool = True,
    peepholes: bool = False,
    dtype: type = np.float32,
    outputs: int | None = None,
    **attributes,
) -> Case:
    directions = 2 if attributes.get("direction") == "bidirectional" else 1

    def numbers(*shape: int, seed: int = 0) -> Array:
        return draw(*shape, dtype=dtype, low=-1, high=1, seed=seed)

    rows = _GATES[op] * hidden
    inputs = [
        numbers(steps, batch, features),
        numbers(directions, rows, features),
        numbers(directions, rows, hidden),
        numbers(directions, 2 * rows) if bias else None,
        None if lengths is None else np.array(lengths, np.int32),
        numbers(directions, batch, hidden) if states else None,
    ]
    if op == "LSTM":
        inputs.append(numbers(directions, batch, hidden, seed=1) if states else None)
        inputs.append(numbers(directions, 3 * hidden) if peepholes else None)
    while inputs[-1] is None:
        inputs.pop()
    count = outputs or (3 if op == "LSTM" else 2)
    return case(op, *inputs, hidden_size=hidden, outputs=count, label=label, **attributes)


def _batch_first(each: Case) -> Case:
    """The same numbers with `layout` 1, which onnxruntime does not have."""
    axes = (0, 5, 6)
    inputs = [
        np.ascontiguousarray(value.swapaxes(0, 1)) if i in axes and value is not None else value
        for i, value in enumerate(each.inputs)
    ]
    y, *states = each.answer()
    expected = (y.transpose(2, 0, 1, 3), *(state.swapaxes(0, 1) for state in states))
    return case(
        each.op,
        *inputs,
        label=f"{each.label}-layout",
        outputs=each.outputs,
        expected=expected,
        layout=1,
        **each.attributes,
    )


def _without_steps(op: str) -> Case:
    """Without a step the states are the initial ones; onnxruntime leaves them undefined."""
    each = _recurrence(op, "no-steps", steps=0)
    h = each.inputs[5]
    assert h is not None
    y = np.zeros((0, 1, *h.shape[1:]), np.float32)
    expected = (y, h, each.inputs[6]) if op == "LSTM" else (y, h)
    return Case(**{**vars(each), "expected": expected})


def _empty_sequence(op: str, direction: str) -> Case:
    """A sequence of length 0 leaves its states as they are; onnxruntime sets them to zero."""
    each = _recurrence(op, f"empty-{direction}", lengths=(4, 0, 2), direction=direction)
    states = [value[:, 1] for value in each.inputs[5:7] if value is not None]
    right = tuple(value.copy() for value in each.answer())
    for last, first in zip(right[1:], states, strict=True):
        last[:, 1] = first
    return Case(**{**vars(each), "expected": right})


CASES = []
for _op in _GATES:
    for _direction in ("forward", "reverse", "bidirectional"):
        _plain = _recurrence(_op, _direction, direction=_direction)
        CASES += [
            _plain,
            _batch_first(_plain),
            _recurrence(_op, f"{_direction}-lengths", direction=_direction, lengths=(4, 1, 3)),
            _recurrence(_op, f"{_direction}-bare", direction=_direction, bias=False, states=False),
            _empty_sequence(_op, _direction),
        ]
    CASES += [
        _recurrence(_op, "sequences-only", outputs=1),
        _recurrence(_op, "one-step", steps=1, batch=1, states=False),
        _recurrence(_op, "clip", clip=0.25),
        _recurrence(_op, "float16", dtype=np.float16, states=False, tolerance=4e-3),
        _recurrence(_op, "float64", dtype=np.float64, oracle="reference"),
        _without_steps(_op),
    ]
    for _name in ("Relu", "LeakyRelu", "HardSigmoid", "Elu", "Softsign", "Softplus", "Sigmoid"):
        CASES.append(_recurrence(_op, _name, steps=2, activations=[_name] * _FUNCTIONS[_op]))
    for _name in ("LeakyRelu", "ThresholdedRelu", "Affine", "ScaledTanh", "HardSigmoid", "Elu"):
        _count = 2 * _FUNCTIONS[_op]
        CASES.append(
            _recurrence(
                _op,
                f"{_name}-parameters",
                steps=2,
                direction="bidirectional",
                activations=[_name] * _count,
                activation_alpha=[0.1 * i + 0.1 for i in range(_count)],
                activation_beta=[0.3 - 0.1 * i for i in range(_count)],
            )
        )
    CASES.append(
        _recurrence(
            _op,
            "some-parameters",
            activations=["Tanh", "HardSigmoid", "LeakyRelu"][-_FUNCTIONS[_op] :],
            activation_alpha=[0.3],
            activation_beta=[0.6],
        )
    )
CASES += [
    _recurrence("LSTM", "peepholes", peepholes=True),
    _recurrence("LSTM", "peepholes-both", peepholes=True, direction="bidirectional"),
    _recurrence("LSTM", "peepholes-clip", peepholes=True, clip=0.4, lengths=(1, 4, 2)),
    _recurrence("LSTM", "coupled", input_forget=1),
    _recurrence("LSTM", "coupled-peepholes", input_forget=1, peepholes=True),
    _recurrence("GRU", "after", linear_before_reset=1),
    _recurrence("GRU", "after-bare", linear_before_reset=1, bias=False),
    _recurrence("GRU", "after-clip", linear_before_reset=1, clip=0.4),
    _recurrence("GRU", "after-both", linear_before_reset=1, direction="bidirectional", lengths=(2, 4, 1)),
]
