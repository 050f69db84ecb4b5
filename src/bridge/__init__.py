"""Move trained models between TensorFlow and PyTorch via ONNX, and prove that both versions are equivalent.

`import bridge` imports no framework; each is imported where it is needed, mostly in worker processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.api import Result, convert, verify
    from bridge.comparison.api import compare
    from bridge.errors import BridgeError, EnvironmentFailure, InputError, TrustError, UnsupportedOps
    from bridge.hub.weights import WeightMap
    from bridge.verification.report.model import Report

__version__ = "0.1.0"

_HOMES = {
    "BridgeError": "bridge.errors",
    "EnvironmentFailure": "bridge.errors",
    "InputError": "bridge.errors",
    "Report": "bridge.verification.report.model",
    "Result": "bridge.api",
    "TrustError": "bridge.errors",
    "UnsupportedOps": "bridge.errors",
    "WeightMap": "bridge.hub.weights",
    "compare": "bridge.comparison.api",
    "convert": "bridge.api",
    "verify": "bridge.api",
}

__all__ = [
    "BridgeError",
    "EnvironmentFailure",
    "InputError",
    "Report",
    "Result",
    "TrustError",
    "UnsupportedOps",
    "WeightMap",
    "__version__",
    "compare",
    "convert",
    "verify",
]


def __getattr__(name: str) -> object:
    """The public names, loaded at first use: the command line must start without numpy and onnx."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'bridge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(home), name)
