"""The side of a Python factory in an old environment, in whichever framework its model is of."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from bridge.worker.references import resolve_reference

if TYPE_CHECKING:
    from collections.abc import Mapping


def load(request: Mapping[str, Any]) -> Any:
    """Import what the `path` of a ReadRequest (as JSON) names; what that imports says which loader it is for.

    Raises InputError where there is no such module or name, and where its framework cannot be told.
    """
    resolve_reference(request["path"])
    if "tensorflow" in sys.modules:
        from bridge.worker.legacy import tensorflow_model

        return tensorflow_model.load(request)
    from bridge.worker.legacy import torch_model

    return torch_model.load(request)
