"""What the recurrent operators of both targets share: their activations, and what they cannot do."""

from __future__ import annotations

from bridge.emit.layer import NodeView

_ACTIVATIONS = frozenset(
    {
        *("relu", "tanh", "sigmoid", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh"),
        *("hardsigmoid", "elu", "softsign", "softplus"),
    }
)
_PER_DIRECTION = {"LSTM": 3, "GRU": 2, "RNN": 1}


def activations_with_parameters(
    names: tuple[str, ...], alphas: tuple[float, ...] | None, betas: tuple[float, ...] | None
) -> list[tuple[str, float, float]]:
    """Activations by name with alpha and beta, which those that have such a parameter take in order."""
    left_alphas, left_betas = list(alphas or ()), list(betas or ())
    default_alphas = {"leakyrelu": 0.01, "thresholdedrelu": 1.0, "hardsigmoid": 0.2, "elu": 1.0}
    result = []
    for name in (each.lower() for each in names):
        takes_beta = name in ("affine", "scaledtanh", "hardsigmoid")
        takes_alpha = takes_beta or name in default_alphas
        alpha = left_alphas.pop(0) if takes_alpha and left_alphas else default_alphas.get(name, 1.0)
        beta = left_betas.pop(0) if takes_beta and left_betas else 0.5
        result.append((name, alpha, beta))
    return result


def recurrence_beyond(view: NodeView) -> str | None:
    """Why an LSTM, GRU or RNN cannot be lowered: activations that the standard does not define."""
    if view.node.attributes.get("activations") is None:
        return None
    names = [name.lower() for name in view.attr("activations")]
    unknown = [name for name in names if name not in _ACTIVATIONS]
    if unknown:
        return f"its activation {unknown[0]!r} is not one of the standard's"
    wanted = _PER_DIRECTION[view.op_type] * (2 if view.attr("direction") == "bidirectional" else 1)
    if len(names) != wanted:
        return f"it has {len(names)} activations instead of {wanted}"
    alphas, betas = (view.attr(f"activation_{kind}") or () for kind in ("alpha", "beta"))
    with_alpha = [n for n in names if n not in ("relu", "tanh", "sigmoid", "softsign", "softplus")]
    with_beta = [n for n in with_alpha if n in ("affine", "scaledtanh", "hardsigmoid")]
    without = {*with_alpha[len(alphas) :], *with_beta[len(betas) :]} & {"affine", "scaledtanh"}
    return f"its activation {min(without)!r} has no alpha or beta, and no default" if without else None
