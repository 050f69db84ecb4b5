"""What both targets ask about a Slice."""

from __future__ import annotations

from typing import Any


def reverses(starts: Any, ends: Any, axes: Any, steps: Any) -> bool:
    """Whether a slice along one axis is all of it backwards; bounds may be tensors."""
    known = isinstance(starts, tuple) and isinstance(ends, tuple) and isinstance(axes, tuple)
    if not known or steps != (-1,):
        return False
    return bool((starts[0] == -1 or starts[0] >= 2147483647) and ends[0] <= -2147483648)
